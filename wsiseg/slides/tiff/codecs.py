"""Decode the bytes of one TIFF tile to RGB pixels.

TIFF 6.0 (Adobe, 1992) with TIFF Technical Note 2 (1995: JPEG, whose tables may stand in the directory), Aperio's
JPEG 2000 ("Digital slides and third-party data interchange", 2008), and the registered zstd and WebP.

libjpeg-turbo decodes JPEG with the accurate DCT and smooth chroma, as in OpenSlide, so that pixels are the same. It can
shrink while it decodes: an 8 × 8 block is transformed back to 4 × 4, 2 × 2 or 1 × 1 px, and the pixels then cover
exactly the squares that they stand for. The lower resolutions of a JPEG 2000 tile are not used: see
docs/decisions/0004-scaled-decoding.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.slides.backend import Pixels
from wsiseg.slides.tiff.colours import MINISBLACK, RGB, YCBCR, Colours

NONE, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE = 1, 5, 7, 8, 32773, 32946
APERIO_YCBCR, APERIO_RGB, JPEG2000 = 33003, 33005, 34712
LZMA, ZSTD, WEBP, JPEG_XL = 34925, 50000, 50001, 50002
BY_TIFFFILE = (NONE, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, APERIO_RGB, JPEG2000, LZMA, ZSTD, WEBP, JPEG_XL)
CONTIGUOUS = 1  # PlanarConfiguration

# How far libjpeg-turbo shrinks while it decodes, in px of the tile per px that comes out.
JPEG_FACTORS = (2, 4, 8)

# JPEG (ITU-T T.81, Annex B): start of image, start of scan, second bytes of two markers
START, SCAN, APP0, APP14 = b"\xff\xd8", b"\xff\xda", 0xE0, 0xEE
SIZE = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, image and tile size
# APP14 as Adobe defines it (Technical Note 5116) up to its last byte, which names the colours: 0 RGB, 1 YCbCr
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0"

# Bytes of a tile, factor to shrink by, and where its pixels go: uint8 (rows, columns, 3), the whole tile
Decode = Callable[[bytes, int, Pixels], None]


def decoder_of(page: Any, colours: Colours, depth: int) -> tuple[Decode, tuple[int, ...]]:
    """How the tiles of a tifffile page are decoded, and by which factors they can be shrunk on the way.

    Args:
        page: the directory; where its samples are stored apart, the decoder is for the tiles of one of them, and gives
            that sample as grey
        colours: what its samples mean
        depth: bits of a sample that are in use

    Raises:
        SlideError: the codec is none that is known here.
    """
    compression, photometric, samples = int(page.compression), int(page.photometric), int(page.samplesperpixel)
    if samples > 1 and int(page.planarconfig) != CONTIGUOUS:
        if colours.count != samples or (photometric == YCBCR):
            raise SlideError(f"its {samples} samples are stored apart and are not plain colours")
        samples, photometric = 1, MINISBLACK
    plain = colours.plain and str(page.dtype) == "uint8"
    grey, colour = plain and (samples, photometric) == (1, MINISBLACK), plain and (samples, photometric) == (3, RGB)
    shape = (int(page.tilelength), int(page.tilewidth), samples)
    if compression == JPEG and (grey or colour or (plain and (samples, photometric) == (3, YCBCR))):
        factors = tuple(f for f in JPEG_FACTORS if shape[0] % f == 0 and shape[1] % f == 0)
        return _jpeg(page.jpegtables or b"", photometric, shape), factors
    if compression in (APERIO_YCBCR, APERIO_RGB) and colour:
        return _jpeg2000(compression == APERIO_YCBCR, shape), ()
    if compression == WEBP and colour:
        return _webp(shape), ()
    if (grey or colour) and compression in (NONE, LZW, DEFLATE, OLD_DEFLATE, ZSTD):
        return _lossless(compression, int(page.predictor), shape), ()
    return _by_tifffile(page, colours, depth), ()


def samples_of(page: Any) -> Callable[[bytes], NDArray[Any]]:
    """From the bytes of a tile of a tifffile page to its samples (h, w, n), of any codec that imagecodecs has.

    Raises:
        SlideError: there is no decoder for it, or none that gives the colours that the page names.
    """
    compression, photometric = int(page.compression), int(page.photometric)
    if compression not in BY_TIFFFILE or (photometric == YCBCR and compression not in (JPEG, JPEG2000)):
        colours, name = (getattr(value, "name", value) for value in (page.photometric, page.compression))
        raise SlideError(f"its colours and codec ({colours}, {name}, {page.samplesperpixel} samples) are not supported")
    samples = int(page.samplesperpixel) if int(page.planarconfig) == CONTIGUOUS else 1
    shape = (int(page.tilelength), int(page.tilewidth), samples)
    decode, tables = page.decode, page.jpegtables

    def samples_in(data: bytes) -> NDArray[Any]:
        if compression in (JPEG2000, APERIO_YCBCR, APERIO_RGB):
            check_jpeg2000(data, shape)
        found = (decode(data, 0, jpegtables=tables) if compression == JPEG else decode(data, 0))[0]
        if found is None or found.shape[1:] != shape:
            raise ValueError(f"a tile decodes to {None if found is None else found.shape}, not {shape}")
        return np.asarray(found[0])

    return samples_in


def _by_tifffile(page: Any, colours: Colours, depth: int) -> Decode:
    unpack = samples_of(page)
    if int(page.planarconfig) != CONTIGUOUS:
        colours = replace(colours, count=1)

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        out[:] = colours.rgb(unpack(data), depth)

    return decode


def jpeg_file_of(page: Any) -> Callable[[bytes], bytes] | None:
    """From a tile of RGB pixels to a JPEG file, without decoding it; None where the tiles are no such JPEG."""
    photometric = int(page.photometric)
    if int(page.compression) != JPEG or int(page.samplesperpixel) != 3 or photometric not in (RGB, YCBCR):
        return None
    return JpegHeader(page.jpegtables or b"", photometric).put_before


def _put(pixels: NDArray[Any], shape: tuple[int, int, int], out: Pixels) -> None:
    """Grey or RGB pixels of the shape that a tile must have, as RGB."""
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"a tile decodes to {pixels.dtype} {pixels.shape}, not uint8 {shape}")
    out[:] = pixels


def _jpeg(tables: bytes, photometric: int, shape: tuple[int, int, int]) -> Decode:
    from simplejpeg import decode_jpeg

    height, width, samples = shape
    header = JpegHeader(tables, photometric)

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        stream = header.put_before(data)
        h, w = height // factor, width // factor
        # Of the sizes that libjpeg-turbo can make it takes the smallest that is not below these.
        if samples == 1:
            buffer = np.empty((h, w, 1), np.uint8)
            _put(decode_jpeg(stream, "GRAY", min_height=h, min_width=w, buffer=buffer), (h, w, 1), out)
            return
        made = decode_jpeg(stream, min_height=h, min_width=w, buffer=out).shape
        if made != (h, w, 3):
            raise ValueError(f"a tile decodes to {made[1]} × {made[0]} px, not {w} × {h}")

    return decode


class JpegHeader:
    """Makes a whole JPEG file of a TIFF tile, whose header says the colours that the TIFF says.

    A tile's stream is abbreviated where the tables stand in the directory (TIFF Technical Note 2, JPEGTables). The TIFF
    alone says what its numbers mean, while a decoder of JPEG files guesses it from the markers APP0 (JFIF: YCbCr) and
    APP14 (Adobe: by its last byte). So one APP14 replaces these.

    Args:
        tables: the value of JPEGTables, from SOI to EOI; empty where there is none
        photometric: 1 grey, 2 RGB, 6 YCbCr
    """

    def __init__(self, tables: bytes, photometric: int) -> None:
        self._start = START + tables[2:-2]
        adobe = ADOBE + (b"\x01" if photometric == YCBCR else b"\0")
        self._end = b"" if photometric == MINISBLACK else adobe
        self._last = (b"", b"")  # the newest header as stored and as it should be: nearly all tiles have the same

    def put_before(self, data: bytes) -> bytes:
        """The stream of a tile, from SOI to EOI, with the right header; ValueError where its header is damaged."""
        stored, right = self._last
        if not stored or not data.startswith(stored):
            stored, right = self._last = self._headers(data)
        return right + data[len(stored) :]

    def _headers(self, data: bytes) -> tuple[bytes, bytes]:
        if data[:2] != START:
            raise ValueError("a tile does not begin like JPEG")
        parts, at = [self._start], 2
        while data[at : at + 2] != SCAN:
            if at + 4 > len(data) or data[at] != 0xFF:
                raise ValueError("the JPEG header of a tile is damaged")
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if data[at + 1] not in (APP0, APP14):
                parts.append(data[at:end])
            at = end
        return data[: at + 2], b"".join((*parts, self._end, SCAN))


def _jpeg2000(ycbcr: bool, shape: tuple[int, int, int]) -> Decode:
    from imagecodecs import jpeg2k_decode

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        check_jpeg2000(data, shape)
        _put(jpeg2k_decode(data), shape, out)
        if ycbcr:
            out[:] = from_ycbcr(out)

    return decode


def check_jpeg2000(data: bytes, shape: tuple[int, int, int]) -> None:
    """ValueError unless the size in a JPEG 2000 stream (ITU-T T.800, A.5.1) is (h, w, n): it is what is allocated."""
    at = data.find(SIZE)
    if at < 0 or len(data) < at + 42:
        raise ValueError("a tile does not begin like JPEG 2000")
    right, lower, left, upper, samples = struct.unpack_from(">4I16xH", data, at + 8)
    size = lower - upper, right - left, samples
    if size != shape:
        raise ValueError(f"a tile holds {size[1]} × {size[0]} px of {size[2]} samples, not {shape[1]} × {shape[0]} px")


def from_ycbcr(pixels: Pixels) -> Pixels:
    """RGB from full-range YCbCr (ITU-T T.871, JFIF), both uint8 (h, w, 3), rounded."""
    y, cb, cr = (pixels[..., i].astype(np.float32) - (0, 128, 128)[i] for i in range(3))
    out = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _webp(shape: tuple[int, int, int]) -> Decode:
    from imagecodecs import webp_decode

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        webp_decode(data, hasalpha=False, out=out)  # it raises when the picture has another size

    return decode


def _lossless(compression: int, predictor: int, shape: tuple[int, int, int]) -> Decode:
    import imagecodecs

    if predictor not in (1, 2):
        raise SlideError(f"its predictor {predictor} is not supported")
    size = shape[0] * shape[1] * shape[2]
    codecs: dict[int, Callable[[bytes], Any]] = {
        NONE: bytes,
        LZW: partial(imagecodecs.lzw_decode, buffersize=size),
        DEFLATE: partial(imagecodecs.zlib_decode, out=size),
        OLD_DEFLATE: partial(imagecodecs.zlib_decode, out=size),
        ZSTD: partial(imagecodecs.zstd_decode, out=size),
    }
    unpack = codecs[compression]

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        raw = np.frombuffer(unpack(data), np.uint8)
        if raw.size != size:
            raise ValueError(f"a tile decodes to {raw.size} bytes, not {size}")
        pixels = raw.reshape(shape)
        _put(imagecodecs.delta_decode(pixels, axis=1) if predictor == 2 else pixels, shape, out)

    return decode
