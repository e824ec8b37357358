"""The tiff backend: every codec under the contract, OpenSlide's pixels and facts, and what happens when they differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from imagecodecs import jpeg8_decode, jpeg8_encode

from tests.slides.contract import SlideContract
from tests.slides.coordinates import decode_coordinates
from tests.slides.make import (
    CODECS,
    aperio,
    coordinates,
    encode_jpeg,
    philips,
    pyramid,
    texture,
    tiles_of,
    write_tiff,
    write_tiles,
)
from tests.slides.test_backends import HEIGHT, WIDTH, CoordinateContract
from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.slides.openslide import OpenSlideBackend
from wsiseg.slides.slide import Slide
from wsiseg.slides.tiff import backend as tiff
from wsiseg.slides.tiff.backend import TiffBackend
from wsiseg.slides.tiff.cache import TileCache
from wsiseg.slides.tiff.codecs import JpegHeader

LOSSLESS = ("deflate", "lzw", "lzw-predictor", "zstd", "webp", "none", "jpeg2000")


class TestLossless(SlideContract, CoordinateContract):
    @pytest.fixture(scope="class", params=LOSSLESS)
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Slide]:
        path = tmp_path_factory.mktemp("s") / "s.tif"
        write_tiles(path, pyramid(texture(WIDTH, HEIGHT), (2, 4)), request.param)
        with open_slide(path, backend="tiff") as slide:
            yield slide

    @pytest.fixture(scope="class", params=LOSSLESS)
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Slide:
        path = tmp_path_factory.mktemp("located") / "c.tif"
        levels = coordinates(WIDTH, HEIGHT, (2, 4))
        return open_slide(write_tiles(path, levels, request.param, bigtiff=True), backend="tiff")


def stained(width: int, height: int) -> np.ndarray:
    """A texture of one stain: JPEG keeps colours at half the resolution, and where they change as fast as brightness,
    each level loses others."""
    light = texture(width, height)[..., :1].astype(float) / 255
    return np.rint(255 * light ** np.array([0.6, 1.3, 0.8])).astype(np.uint8)


class TestLossy(SlideContract):
    level_error = 4.0  # JPEG: what it adds, and the colours that a small level at half the resolution lacks

    @pytest.fixture(scope="class", params=["jpeg", "jpeg-rgb", "jpeg-grey", "jpeg2000-ycbcr"])
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Slide]:
        path = tmp_path_factory.mktemp("s") / "s.tif"
        write_tiles(path, pyramid(stained(WIDTH, HEIGHT), (2, 4)), request.param)
        with open_slide(path, backend="tiff") as slide:
            yield slide


class TestAperio(SlideContract):
    level_error = 4.0  # as above

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = tmp_path_factory.mktemp("s") / "s.svs"
        levels = pyramid(stained(WIDTH, HEIGHT), (4, 16))
        with open_slide(write_tiles(path, levels, "jpeg", about=aperio(levels))) as slide:
            assert (slide.backend_name, slide.notes, slide.vendor) == ("tiff", (), "aperio")
            yield slide


class TestOneLevel(SlideContract):
    """Nothing but level 0: all that is coarser comes from the decoder."""

    level_error = 1.5

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = write_tiles(tmp_path_factory.mktemp("s") / "s.tif", [texture(WIDTH, HEIGHT)], "jpeg")
        with open_slide(path) as slide:
            assert slide.backend_name == "tiff"
            yield slide


def difference(path: Path, level: int, box: Box) -> np.ndarray:
    """The tiff backend's pixels less those of OpenSlide."""
    ours, theirs = TiffBackend(str(path)), OpenSlideBackend(str(path))
    try:
        return np.asarray(ours.read(level, box).astype(int) - theirs.read(level, box))
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize(
    ("name", "level", "box"),
    [
        ("slides/CMU-1-Small-Region.svs", 0, Box(0, 0, 2220, 2967)),  # JPEG, RGB, tables in the directory
        ("kidney/kidney-097.svs", 0, Box(0, 0, 2000, 3000)),  # JPEG, YCbCr, 4:2:0
        ("kidney/kidney-097.svs", 1, Box(0, 0, 500, 750)),
        ("kidney/kidney-097.svs", 2, Box(0, 0, 125, 187)),
        ("slides/tcga-cr-7395-01a-01-ts1.svs", 0, Box(3700, 2900, 743, 667)),  # JPEG 2000, 33005; the far corner
        ("slides/yb10kx5k.zstd.tiff", 1, Box(900, 0, 1600, 2500)),
        ("slides/boxes.tiff", 0, Box(0, 0, 300, 250)),  # deflate
        ("slides/boxes.tiff", 3, Box(0, 0, 37, 31)),
    ],
)
def test_pixels_are_exactly_those_of_openslide(data: Path, name: str, level: int, box: Box) -> None:
    """Largest and mean difference are 0 for each codec."""
    assert not difference(data / name, level, box).any()


@pytest.mark.parametrize("codec", [c for c in CODECS if c not in ("zstd", "webp", "none")])
def test_generated_pixels_are_those_of_openslide(tmp_path: Path, codec: str) -> None:
    levels = pyramid(texture(700, 600), (2,))
    about = aperio(levels) if codec.startswith("jpeg2000") else None
    path = write_tiles(tmp_path / "s.svs", levels, codec, about=about)
    for level, (width, height) in enumerate(((700, 600), (350, 300))):
        found = np.abs(difference(path, level, Box(0, 0, width, height)))
        assert found.max() <= (1 if codec == "jpeg2000-ycbcr" else 0)  # OpenSlide converts with whole numbers
        assert found.mean() <= 0.4


def test_facts_are_those_of_openslide(data: Path) -> None:
    read = 0
    for path in sorted([*data.glob("slides/*.*"), *data.glob("odd/*.*"), *data.glob("kidney/*.svs")]):
        try:
            ours, theirs = TiffBackend(str(path)), OpenSlideBackend(str(path))
        except SlideError:
            continue
        for name in ("levels", "mpp", "mpp_doubt", "vendor", "bounds", "properties"):
            assert getattr(ours, name) == getattr(theirs, name), (path.name, name)
        read += 1
    assert read >= 61 + 6


def test_philips(tmp_path: Path) -> None:
    """Directories are padded to whole tiles; a level's size follows from its spacing."""
    levels = [
        np.pad(a, ((0, -a.shape[0] % 256), (0, -a.shape[1] % 256), (0, 0))) for a in pyramid(texture(900, 600), (4,))
    ]
    path = write_tiles(tmp_path / "s.tiff", levels, "jpeg", about=philips((1, 4)), bigtiff=True)
    ours, theirs = TiffBackend(str(path)), OpenSlideBackend(str(path))
    assert ours.vendor == theirs.vendor == "philips"
    assert ours.levels == theirs.levels == ((1024, 768), (256, 192))
    assert ours.mpp == theirs.mpp == pytest.approx((0.5, 0.5))
    assert not difference(path, 0, Box(0, 0, 1024, 768)).any()
    assert not difference(path, 1, Box(0, 0, 256, 192)).any()
    with open_slide(path) as slide:
        assert slide.backend_name == "tiff"


@pytest.mark.parametrize("vendor", ["generic", "aperio"])
def test_missing_tiles_are_white_as_in_openslide(tmp_path: Path, vendor: str) -> None:
    levels = pyramid(texture(700, 600), ())
    tiles: list[bytes] = list(tiles_of(levels[0], 256, "jpeg"))
    tiles[1] = tiles[5] = b""
    about = aperio(levels) if vendor == "aperio" else None
    path = write_tiles(tmp_path / "s.svs", levels, "jpeg", tiles=[tiles], about=about)
    with open_slide(path) as slide:
        assert slide.backend_name == "tiff"
        pixels = slide.read(slide.frame.box, slide.frame)
    assert (pixels[:256, 256:512] == 255).all()
    assert (pixels[256:512, 512:] == 255).all()
    assert (pixels[256:512, 256:512] < 255).any()
    assert not difference(path, 0, Box(0, 0, 700, 600)).any()


def test_openslide_fills_the_holes_of_lower_aperio_levels(tmp_path: Path) -> None:
    """From the finer level; such a slide is left to it."""
    levels = pyramid(texture(1200, 1200), (2,))
    tiles: list[list[bytes]] = [list(tiles_of(level, 256, "jpeg")) for level in levels]
    tiles[1][4] = b""
    path = write_tiles(tmp_path / "s.svs", levels, "jpeg", tiles=tiles, about=aperio(levels))
    with open_slide(path) as slide:
        assert slide.backend_name == "openslide"
        assert "tiles are missing" in slide.notes[0]
        hole = slide.read(Box(256, 256, 256, 256), slide.frame.at(slide.frame.mpp * 2))
        assert np.abs(hole.astype(int) - levels[1][256:512, 256:512]).mean() < 5


def shifted(self: TiffBackend, level: int, factor: int, box: Box) -> np.ndarray:
    return np.roll(READ(self, level, factor, box), 1, axis=1)


def exchanged(self: TiffBackend, level: int, factor: int, box: Box) -> np.ndarray:
    return READ(self, level, factor, box)[..., ::-1].copy()


def lower_level_off(self: TiffBackend, level: int, factor: int, box: Box) -> np.ndarray:
    return np.asarray(READ(self, level, factor, box) ^ (8 if level == 1 else 0))


def broken(self: TiffBackend, level: int, factor: int, box: Box) -> np.ndarray:
    raise ValueError("no such codec")


READ = TiffBackend.read_reduced


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (shifted, "differ from OpenSlide's by up to"),
        (exchanged, "differ from OpenSlide's by up to"),
        (lower_level_off, "of level 1 the pixels differ from OpenSlide's by up to 8 grey levels"),
        (broken, "a tile cannot be decoded (no such codec)"),
    ],
)
def test_other_pixels_than_openslides_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, said: str
) -> None:
    path = write_tiles(tmp_path / "s.tif", pyramid(texture(900, 700), (2,)), "jpeg")
    with open_slide(path) as slide:
        assert (slide.backend_name, slide.notes) == ("tiff", ())
    monkeypatch.setattr(TiffBackend, "read_reduced", wrong)
    with open_slide(path) as slide:
        assert slide.backend_name == "openslide"
        assert len(slide.notes) == 1
        assert slide.notes[0].startswith("tiff: at x ")
        assert said in slide.notes[0]
    with open_slide(path, backend="tiff") as slide:  # the person's word counts
        assert slide.backend_name == "tiff"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dtype": np.float32}, "float32"),
        ({"extratags": [(274, 3, 1, 6, True)]}, "orientation"),
        ({"compression": "lerc"}, "LERC"),
        ({"tile": None}, "not tiled"),
    ],
)
def test_what_it_does_not_read_it_refuses(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    arguments = {"tile": (256, 256), "photometric": "rgb", "metadata": None} | arguments
    array = texture(300, 280).astype(arguments.pop("dtype", np.uint8))
    tifffile.imwrite(tmp_path / "s.tif", array, **arguments)
    with pytest.raises(SlideError, match=reason):
        TiffBackend(str(tmp_path / "s.tif"))


def without_openslide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenSlide lacked the codec."""

    def refuse(path: str, **how: object) -> None:
        raise SlideError("it does not know the format")

    monkeypatch.setattr("wsiseg.slides.openslide.OpenSlideBackend", refuse)


def test_without_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiles(tmp_path / "s.tif", pyramid(texture(900, 700), (2, 4)), "webp", mpp=0.25)
    said = TiffBackend(str(path))
    without_openslide(monkeypatch)
    with open_slide(path) as slide:
        assert (slide.backend_name, slide.vendor, slide.notes) == ("tiff", "generic-tiff", ())
        assert slide.levels == said.levels == ((900, 700), (450, 350), (225, 175))
        assert slide.frame.mpp == pytest.approx(0.25)
        assert np.array_equal(slide.read(Box(0, 0, 900, 700), slide.frame), said.read(0, Box(0, 0, 900, 700)))
    monkeypatch.setattr(TiffBackend, "read_reduced", broken)
    with open_slide(path) as slide:
        assert "a tile cannot be decoded (no such codec)" in slide.notes[0]


def test_a_stack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_openslide(monkeypatch)
    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        for _ in range(2):
            tiff.write(texture(300, 280), tile=(256, 256), photometric="rgb", compression="zstd", metadata=None)
    with pytest.raises(SlideError, match="stack"):
        TiffBackend(str(tmp_path / "s.tif"))
    channels = np.zeros((4, 300, 280), np.uint8)
    tifffile.imwrite(tmp_path / "s.ome.tif", channels, tile=(256, 256), metadata={"axes": "CYX"})
    with pytest.raises(SlideError, match="4 channels"):
        TiffBackend(str(tmp_path / "s.ome.tif"))


def test_half_a_tile_is_an_error_not_grey(tmp_path: Path) -> None:
    level = texture(512, 256)
    tiles: list[bytes] = list(tiles_of(level, 256, "jpeg"))
    tiles[1] = tiles[1][:4000]
    path = write_tiles(tmp_path / "s.tif", [level], "jpeg", tiles=[tiles])
    with open_slide(path, backend="tiff") as slide:
        assert slide.read(Box(0, 0, 256, 256), slide.frame).std() > 10
        with pytest.raises(SlideError, match=r"x 200 to 300.*\(tiff: .*[Pp]remature"):
            slide.read(Box(200, 0, 100, 100), slide.frame)


class TestJpegHeader:
    def test_the_tiff_says_the_colours(self) -> None:
        """A JFIF marker means YCbCr to a JPEG decoder, whatever the TIFF says."""
        from simplejpeg import decode_jpeg

        rgb = texture(64, 64)
        jfif = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
        stored = bytes(jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB"))
        misleading = stored[:2] + jfif + stored[2:]
        right = jpeg8_decode(stored, colorspace="RGB", outcolorspace="RGB")
        assert np.abs(decode_jpeg(misleading).astype(int) - right).mean() > 20
        assert np.array_equal(decode_jpeg(JpegHeader(b"", 2).put_before(misleading)), right)
        as_ycbcr = jpeg8_decode(stored, colorspace="YCBCR", outcolorspace="RGB")
        assert np.array_equal(decode_jpeg(JpegHeader(b"", 6).put_before(stored)), as_ycbcr)

    def test_tables_of_the_directory_are_put_in_and_headers_may_change(self) -> None:
        from simplejpeg import decode_jpeg

        whole = [encode_jpeg(texture(64, 64)), encode_jpeg(texture(64, 64)[::-1].copy())]
        whole.append(bytes(jpeg8_encode(texture(64, 64), level=40, colorspace="RGB", outcolorspace="YCBCR")))
        header = JpegHeader(b"", 6)
        for stream in (*whole, *whole):
            assert np.array_equal(decode_jpeg(header.put_before(stream)), jpeg8_decode(stream))
        at = whole[0].index(b"\xff\xc0")
        tables = b"\xff\xd8" + whole[0][whole[0].index(b"\xff\xdb") : at] + b"\xff\xd9"
        abbreviated = b"\xff\xd8" + whole[0][at:]
        assert np.array_equal(decode_jpeg(JpegHeader(tables, 6).put_before(abbreviated)), jpeg8_decode(whole[0]))

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"GIF89a", b"\xff\xd8\0\0\0\0\0"])
    def test_what_is_no_jpeg(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="JPEG"):
            JpegHeader(b"", 6).put_before(data)


def counting(backend: TiffBackend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    decoded: list[int] = []
    decode = backend._decode

    def counted(plane: Any, index: int, factor: int, out: np.ndarray) -> None:
        decoded.append(index)
        decode(plane, index, factor, out)

    monkeypatch.setattr(backend, "_decode", counted)
    return decoded


@pytest.mark.parametrize(("size", "step"), [(256, 256), (100, 100), (300, 300), (300, 250), (512, 384)])
@pytest.mark.parametrize("off", [0, 37])
def test_neighbouring_reads_decode_no_tile_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, step: int, off: int
) -> None:
    """Row by row, tiles of 256 px, aligned or not, apart or overlapping; and kept are few rows of tiles."""
    cache = TileCache(tiff.CACHE_BYTES)
    monkeypatch.setattr(tiff, "_DECODED", cache)
    width, height = 1400, 3000
    backend = TiffBackend(str(write_tiles(tmp_path / "s.tif", [texture(width, height)], "jpeg")))
    decoded = counting(backend, monkeypatch)
    for y in range(off, height - size, step):
        for x in range(off, width - size, step):
            backend.read(0, Box(x, y, size, size))
    assert len(decoded) > 5
    assert len(decoded) == len(set(decoded))
    row = -(-width // 256) * 256 * 256 * 3
    assert cache._bytes == sum(slot.pixels.nbytes for slot in cache._slots.values())
    assert cache._bytes <= (-(-size // 256) + 2) * row


def test_tiles_of_one_level_do_not_drive_out_those_of_another() -> None:
    cache, decoded = TileCache(100 * 12), []

    def ask(level: int, index: int, enough: int) -> None:
        part = slice(0, 2), slice(0, 2)
        cache.copy(
            ("slide", level, index), (2, 2, 3), lambda out: decoded.append((level, index)), part,
            np.empty((2, 2, 3), np.uint8), enough=enough,
        )  # fmt: skip

    for index in range(10):
        ask(0, index, 10 * 12)
        ask(1, index, 2 * 12)
    assert cache._bytes == (10 + 2) * 12
    decoded.clear()
    for index in range(10):
        ask(0, index, 10 * 12)
    ask(1, 9, 2 * 12)
    assert not decoded
    ask(1, 0, 2 * 12)
    assert decoded == [(1, 0)]
    cache.forget("slide")
    assert not cache._kinds
    assert not cache._slots


def test_closing_lets_go_of_the_file(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.tif", [texture(600, 500)])
    backend = TiffBackend(str(path))
    os.fstat(backend._file)
    backend.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(backend._file)
    forgotten = TiffBackend(str(path))
    number = forgotten._file
    del forgotten
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_ome_levels_in_a_file_named_tif(tmp_path: Path) -> None:
    """OpenSlide sees one level of it; the OME-XML is right."""
    from tests.slides.make import write_ome_tiff

    path = write_ome_tiff(tmp_path / "s.tif", coordinates(WIDTH, HEIGHT, (2, 4)), mpp=0.25)
    with open_slide(path) as slide:
        assert slide.backend_name == "tiff"
        assert len(slide.levels) == 3
        assert slide.frame.mpp == pytest.approx(0.25)
        x, _ = decode_coordinates(slide.read(Box(7, 9, 30, 20), slide.frame.at(1.0)))
        assert (x == np.arange(7, 37)).all()
