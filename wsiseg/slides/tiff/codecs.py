"""From the bytes of one TIFF tile to RGB pixels.

TIFF 6.0 (Adobe, 1992) with TIFF Technical Note 2 (1995: JPEG, whose tables may stand in the directory), Aperio's
JPEG 2000 ("Digital slides and third-party data interchange", 2008), and the registered zstd and WebP.

JPEG is decoded by libjpeg-turbo with the accurate DCT and smooth chroma, as OpenSlide does it, so that pixels are the
same. It can shrink while it decodes: an 8 × 8 block is transformed back to 4 × 4, 2 × 2 or 1 × 1 px, and the pixels
then cover exactly the squares that they stand for. The lower resolutions of a JPEG 2000 tile are not used: see
docs/decisions/0004-scaled-decoding.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.slides.backend import Pixels

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE = 1, 5, 7, 8, 32946
APERIO_YCBCR, APERIO_RGB = 33003, 33005
ZSTD, WEBP = 50000, 50001
MINISBLACK, RGB, YCBCR = 1, 2, 6

# How far libjpeg-turbo shrinks while it decodes, in px of the tile per px that comes out.
JPEG_FACTORS = (2, 4, 8)

# JPEG (ITU-T T.81, Annex B): start of image, start of scan, second bytes of two markers
START, SCAN, APP0, APP14 = b"\xff\xd8", b"\xff\xda", 0xE0, 0xEE
# APP14 as Adobe defines it (Technical Note 5116) up to its last byte, which names the colours: 0 RGB, 1 YCbCr
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0"

# Bytes of a tile, factor to shrink by, and where its pixels go: uint8 (rows, columns, 3), the whole tile
Decode = Callable[[bytes, int, Pixels], None]


def decoder_of(page: Any) -> tuple[Decode, tuple[int, ...]]:
    """How the tiles of a tifffile page are decoded, and by which factors they can be shrunk on the way.

    Raises:
        SlideError: the codec, colours or samples are none that are known here.
    """
    compression, photometric, samples = int(page.compression), int(page.photometric), int(page.samplesperpixel)
    if str(page.dtype) != "uint8" or int(page.bitspersample) != 8:
        raise SlideError(f"its samples have {page.bitspersample} bits")
    if samples > 1 and int(page.planarconfig) != 1:
        raise SlideError("its colours are stored in planes")
    grey, colour = samples == 1 and photometric == MINISBLACK, samples == 3 and photometric == RGB
    shape = (int(page.tilelength), int(page.tilewidth), samples)
    if compression == JPEG and (grey or colour or (samples == 3 and photometric == YCBCR)):
        factors = tuple(f for f in JPEG_FACTORS if shape[0] % f == 0 and shape[1] % f == 0)
        return _jpeg(page.jpegtables or b"", photometric, shape), factors
    if compression in (APERIO_YCBCR, APERIO_RGB) and colour:
        return _jpeg2000(compression == APERIO_YCBCR, shape), ()
    if compression == WEBP and colour:
        return _webp(shape), ()
    if (grey or colour) and compression in (NONE, LZW, DEFLATE, OLD_DEFLATE, ZSTD):
        return _lossless(compression, int(page.predictor), shape), ()
    names = ", ".join(str(getattr(value, "name", value)) for value in (page.photometric, page.compression))
    raise SlideError(f"its colours and codec ({names}, {samples} samples) are not supported")


def jpeg_file_of(page: Any) -> Callable[[bytes], bytes] | None:
    """What makes a JPEG file of a tile of RGB pixels, without decoding it; None where the tiles are none."""
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
            _put(decode_jpeg(stream, "GRAY", min_height=h, min_width=w), (h, w, 1), out)
            return
        made = decode_jpeg(stream, min_height=h, min_width=w, buffer=out).shape
        if made != (h, w, 3):
            raise ValueError(f"a tile decodes to {made[1]} × {made[0]} px, not {w} × {h}")

    return decode


class JpegHeader:
    """Makes a whole JPEG file of a TIFF tile, whose header says the colours that the TIFF says.

    A tile's stream is abbreviated where the tables stand in the directory (TIFF Technical Note 2, JPEGTables). What its
    numbers mean is said by the TIFF alone, while a decoder of JPEG files guesses it from the markers APP0 (JFIF: YCbCr)
    and APP14 (Adobe: by its last byte). So these are replaced by one APP14.
    """

    def __init__(self, tables: bytes, photometric: int) -> None:
        """For the tiles of one directory.

        Args:
            tables: the value of JPEGTables, from SOI to EOI; empty where there is none
            photometric: 1 grey, 2 RGB, 6 YCbCr
        """
        self._start = START + tables[2:-2]
        adobe = ADOBE + (b"\x01" if photometric == YCBCR else b"\0")
        self._end = b"" if photometric == MINISBLACK else adobe
        self._last = (b"", b"")  # the newest header as stored and as it should be: nearly all tiles have the same

    def put_before(self, data: bytes) -> bytes:
        """The stream of a tile, from SOI to EOI, with the right header.

        Raises:
            ValueError: its header is damaged
        """
        stored, right = self._last
        if not stored or not data.startswith(stored):
            stored, right = self._last = self._headers(data)
        return right + data[len(stored) :]

    def _headers(self, data: bytes) -> tuple[bytes, bytes]:
        if data[:2] != START:
            raise ValueError("a tile does not begin like JPEG")
        parts = [self._start]
        at = 2
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
        _put(jpeg2k_decode(data), shape, out)
        if ycbcr:
            out[:] = from_ycbcr(out)

    return decode


def from_ycbcr(pixels: Pixels) -> Pixels:
    """RGB from full-range YCbCr (ITU-T T.871, JFIF), both uint8 (h, w, 3), rounded."""
    y, cb, cr = (pixels[..., i].astype(np.float32) - (0, 128, 128)[i] for i in range(3))
    out = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _webp(shape: tuple[int, int, int]) -> Decode:
    from imagecodecs import webp_decode

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        _put(webp_decode(data, hasalpha=False), shape, out)

    return decode


def _lossless(compression: int, predictor: int, shape: tuple[int, int, int]) -> Decode:
    import imagecodecs

    if predictor not in (1, 2):
        raise SlideError(f"its predictor {predictor} is not supported")
    size = shape[0] * shape[1] * shape[2]
    unpack: Callable[[bytes], Any] = {
        NONE: lambda data: data,
        LZW: lambda data: imagecodecs.lzw_decode(data, buffersize=size),
        DEFLATE: lambda data: imagecodecs.zlib_decode(data, out=size),
        OLD_DEFLATE: lambda data: imagecodecs.zlib_decode(data, out=size),
        ZSTD: lambda data: imagecodecs.zstd_decode(data, out=size),
    }[compression]

    def decode(data: bytes, factor: int, out: Pixels) -> None:
        raw = np.frombuffer(unpack(data), np.uint8)
        if raw.size != size:
            raise ValueError(f"a tile decodes to {raw.size} bytes, not {size}")
        pixels = raw.reshape(shape)
        _put(imagecodecs.delta_decode(pixels, axis=1) if predictor == 2 else pixels, shape, out)

    return decode
