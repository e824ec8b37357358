"""The kind of a TIFF is told by its content: which image is the slide, what is a level of it, what its samples mean.

Every file holds the picture of `texture` or of `coordinates`, or has to be refused in one sentence. Each test stands for
files that people had trouble with in other programs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile

from tests.slides.coordinates import decode_coordinates
from tests.slides.make import coordinates, pyramid, texture, write_leica, write_ome_tiff, write_tiff, write_tiles
from tests.slides.test_open_slide import sentence
from wsiseg.errors import ResolutionError, SlideError
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

WIDTH, HEIGHT = 600, 450
PICTURE = texture(WIDTH, HEIGHT)
LEVELS = pyramid(PICTURE, (4, 16))
TILE = {"tile": (128, 128), "compression": "zlib", "metadata": None}
MPP = {"resolution": (10_000, 10_000), "resolutionunit": "CENTIMETER"}  # 1 µm/px

Page = tuple[np.ndarray, dict[str, Any]]


def page(array: np.ndarray, **how: Any) -> Page:
    colour = "rgb" if array.ndim == 3 else "minisblack"
    return array, {"photometric": colour, "subfiletype": 0, **TILE, **MPP} | how


def reduced(array: np.ndarray, **how: Any) -> Page:
    return page(array, subfiletype=1, **how)


def mask(width: int, height: int, **how: Any) -> Page:
    kind = how.pop("subfiletype", 4)  # tifffile itself writes masks of one bit only
    return page(np.full((height, width), 255, np.uint8), subfiletype=None, extratags=[(254, 4, 1, kind, True)], **how)


def write(path: Path, pages: Sequence[Page], **how: Any) -> Path:
    with tifffile.TiffWriter(path, **how) as tiff:
        for array, about in pages:
            tiff.write(array, **about)
    return path


def shows_picture(slide: Slide, levels: int, picture: np.ndarray = PICTURE) -> None:
    """Level 0 is the picture, and coarser reads are its means."""
    assert slide.levels[0] == (picture.shape[1], picture.shape[0])
    assert len(slide.levels) == levels
    assert np.array_equal(slide.read(slide.frame.box, slide.frame), picture)
    for n in (2, 4, 8, 16):
        frame = slide.frame.at(slide.frame.mpp * n)
        inner = Box(0, 0, picture.shape[1] // n, picture.shape[0] // n)
        expected = pyramid(picture, (n,))[1].astype(int)
        assert np.abs(slide.read(inner, frame) - expected).max() <= 2


def refused(path: Path, said: str, **how: Any) -> None:
    with pytest.raises(SlideError) as caught:
        open_slide(path, **{"mpp": 1.0} | how)
    assert re.search(said, sentence(caught.value, path)), caught.value


class TestLevels:
    """Masks, labels and macro pictures are no levels, wherever they stand."""

    MACRO = texture(240, 100)
    ORDERS: ClassVar[dict[str, list[Page]]] = {
        "cog": [
            page(PICTURE), mask(600, 450), reduced(LEVELS[1]), mask(150, 112, subfiletype=5), reduced(LEVELS[2]),
            mask(38, 28, subfiletype=5),
        ],
        "masks first": [
            page(PICTURE), mask(150, 112, subfiletype=5), mask(37, 28, subfiletype=5), reduced(LEVELS[1]),
            reduced(LEVELS[2]),
        ],
        "grey among the reduced": [
            page(PICTURE), reduced(np.zeros((225, 300), np.uint8)), reduced(LEVELS[1]), reduced(LEVELS[2]),
        ],
        "macro last": [page(PICTURE), reduced(LEVELS[1]), reduced(LEVELS[2]), reduced(MACRO)],
        "macro in the middle": [page(PICTURE), reduced(LEVELS[1]), reduced(MACRO), reduced(LEVELS[2])],
        "macro after level 0": [page(PICTURE), reduced(MACRO), reduced(LEVELS[1]), reduced(LEVELS[2])],
        "macro first": [page(MACRO), page(PICTURE), reduced(LEVELS[1]), reduced(LEVELS[2])],
        "label is an image": [page(PICTURE), reduced(LEVELS[1]), reduced(LEVELS[2]), page(texture(130, 130))],
        "label in strips": [
            page(PICTURE), reduced(LEVELS[1]), reduced(LEVELS[2]), reduced(texture(130, 130), tile=None),
        ],
        "thumbnail in strips": [page(PICTURE), reduced(texture(75, 56), tile=None), *map(reduced, LEVELS[1:])],
        "tall macro": [page(PICTURE), reduced(texture(40, 300)), *map(reduced, LEVELS[1:])],
        "wide macro": [page(PICTURE), reduced(texture(590, 30)), *map(reduced, LEVELS[1:])],
        "twice the same level": [page(PICTURE), reduced(LEVELS[1]), reduced(255 - LEVELS[1]), reduced(LEVELS[2])],
        "level 0 again": [page(PICTURE), reduced(255 - PICTURE), *map(reduced, LEVELS[1:])],
        "a pixel less than level 0": [page(PICTURE), reduced(255 - PICTURE[:-1, :-1]), *map(reduced, LEVELS[1:])],
        "levels upside down": [page(PICTURE), reduced(LEVELS[2]), reduced(LEVELS[1])],
        "reduced first": [reduced(LEVELS[2]), reduced(LEVELS[1]), page(PICTURE)],
        "two images, each with levels": [
            page(MACRO), reduced(pyramid(MACRO, (4,))[1]), page(PICTURE), reduced(LEVELS[1]), reduced(LEVELS[2]),
        ],
    }  # fmt: skip

    @pytest.mark.parametrize("name", [".tif", ".svs"])
    @pytest.mark.parametrize("order", ORDERS)
    def test_only_levels_are_levels(self, tmp_path: Path, order: str, name: str) -> None:
        with open_slide(write(tmp_path / f"s{name}", self.ORDERS[order])) as slide:
            shows_picture(slide, 3)
            assert slide.frame.mpp == pytest.approx(1.0)
            assert slide.backend_name == "tiff"

    @pytest.mark.parametrize("backend", ["openslide", "tiffslide"])
    @pytest.mark.parametrize("order", ORDERS)
    def test_other_readers_are_held_to_the_same_levels(self, tmp_path: Path, order: str, backend: str) -> None:
        path = write(tmp_path / "s.tif", self.ORDERS[order])
        try:
            slide = open_slide(path, backend=backend)
        except SlideError as error:
            sentence(error, path)
            return
        with slide:
            shows_picture(slide, len(slide.levels))

    def test_it_is_said(self, tmp_path: Path) -> None:
        with open_slide(write(tmp_path / "s.tif", self.ORDERS["macro last"])) as slide:
            assert any("240 × 100 px has another shape" in note for note in slide.cautions)
        with open_slide(write(tmp_path / "t.tif", self.ORDERS["macro first"])) as slide:
            assert (slide.series, slide.identity["series"]) == (1, 1)
            assert "2 images (0 of 240 × 100 px, 1 of 600 × 450 px)" in slide.cautions[0]
            assert "--series" in slide.cautions[0]
        with open_slide(write(tmp_path / "u.tif", self.ORDERS["cog"])) as slide:
            assert slide.notes == ()
            assert "series" not in slide.identity

    def test_a_tiled_macro_in_an_aperio_slide(self, tmp_path: Path) -> None:
        """OpenSlide takes every tiled directory of an SVS for a level."""
        text = f"Aperio Image Library v1\r\n{WIDTH}x{HEIGHT} JPEG/RGB Q=95|AppMag = 20|MPP = 0.5"
        for macro in (self.MACRO, texture(30, 12)):
            arrays = sorted((*LEVELS, macro), key=lambda a: -a.shape[1])
            pages = [page(a, description=text, subfiletype=9 if a is macro else 0) for a in arrays]
            path = write(tmp_path / "s.svs", pages)
            # Of levels that are not alike OpenSlide refuses some files.
            for backend in (None, "tiff", "tiffslide", *(["openslide"] if macro is not self.MACRO else [])):
                with open_slide(path, backend=backend) as slide:
                    # tiffslide does not see every level beside such a macro.
                    shows_picture(slide, len(slide.levels) if backend == "tiffslide" else 3)
                    assert slide.frame.mpp == 0.5

    def test_sub_directories_without_ome(self, tmp_path: Path) -> None:
        """As libvips writes them with --subifd; a macro picture among them is none."""
        with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
            array, how = page(PICTURE)
            tiff.write(array, subifds=3, **how)
            for array, how in (reduced(LEVELS[1]), reduced(self.MACRO), reduced(LEVELS[2])):
                tiff.write(array, **how)
        with open_slide(tmp_path / "s.tif") as slide:
            shows_picture(slide, 3)

    @pytest.mark.parametrize("size", [(601, 447), (599, 451), (37, 41), (1000, 3)])
    def test_levels_of_any_shape_are_kept(self, tmp_path: Path, size: tuple[int, int]) -> None:
        """Whether a program rounds sizes up or down."""
        picture = texture(*size)
        for up in (False, True):
            pages = [page(picture)]
            for n in (2, 4, 8, 16):
                small = [-(-s // n) if up else max(1, s // n) for s in size]
                pages.append(reduced(np.full((small[1], small[0], 3), 200, np.uint8)))
            with open_slide(write(tmp_path / f"s{up}.tif", pages)) as slide:
                assert len(slide.levels) == len({array.shape for array, _ in pages})
                assert slide.cautions == ()

    def test_a_level_that_lacks_tiles_is_left_out(self, tmp_path: Path) -> None:
        """Coarse reads would be white where level 0 is right; tiles that lack everywhere are empty glass."""
        from tests.slides.make import tiles_of

        tiles = [list(tiles_of(level, 128, "deflate")) for level in LEVELS]
        tiles[1][1] = b""
        path = write_tiles(tmp_path / "s.tif", LEVELS, "deflate", tile=128, tiles=tiles, mpp=1.0)
        with open_slide(path, backend="tiff") as slide:
            assert slide.levels == ((600, 450), (37, 28))
            assert any("150 × 112 px lacks tiles" in note for note in slide.cautions)
        tiles = [list(tiles_of(level, 128, "deflate")) for level in pyramid(PICTURE, (2,))]
        for row in range(4):
            tiles[0][row * 5 + 4] = b""  # level 0: x from 512
        for row in range(2):
            tiles[1][row * 3 + 2] = b""  # level 1: x from 256, which is 512 in level 0
        path = write_tiles(tmp_path / "t.tif", pyramid(PICTURE, (2,)), "deflate", tile=128, tiles=tiles, mpp=1.0)
        with open_slide(path) as slide:
            assert len(slide.levels) == 2
            assert slide.cautions == ("4 of its 20 tiles hold no bytes and are read as white",)
            assert (slide.read(slide.frame.box, slide.frame)[:, 512:] == 255).all()


def ome_xml(images: Sequence[tuple[str, str]]) -> str:
    """OME-XML of images given as (attributes of Pixels, children of Pixels)."""
    body = "".join(
        f'<Image ID="Image:{i}" Name="image {i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint8" {about}>'
        f"{children}</Pixels></Image>"
        for i, (about, children) in enumerate(images)
    )
    return f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{body}</OME>'


def pixels(width: int, height: int, c: int = 3, z: int = 1, t: int = 1, mpp: float = 0.25) -> str:
    return (
        f'SizeX="{width}" SizeY="{height}" SizeC="{c}" SizeZ="{z}" SizeT="{t}" PhysicalSizeX="{mpp}" '
        f'PhysicalSizeY="{mpp}"'
    )


def write_planes(path: Path, xml: str, planes: Sequence[np.ndarray], levels: int = 0, **how: Any) -> Path:
    """Directories of one OME-TIFF; `levels` sub-directories for each, every one a quarter of the one before."""
    with tifffile.TiffWriter(path) as tiff:
        for i, plane in enumerate(planes):
            _, about = page(plane, **how)
            about["description"] = xml if i == 0 else None
            tiff.write(plane, subifds=levels or None, **about)
            for n in range(1, levels + 1):
                tiff.write(plane[:: 4**n, :: 4**n], **page(plane, subfiletype=1, **how)[1])
    return path


RGB_CHANNEL = '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'


class TestOme:
    @pytest.mark.parametrize(
        "name", ["s.ome.tif", "s.ome.tiff", "s.tif", "s.tiff", "s.svs", "s.ndpi", "s.btf", "slide", "s.scn"]
    )
    def test_under_any_name(self, tmp_path: Path, name: str) -> None:
        path = write_ome_tiff(tmp_path / name, LEVELS, mpp=0.25)
        with open_slide(path) as slide:
            shows_picture(slide, 3)
            assert slide.frame.mpp == pytest.approx(0.25)

    @pytest.mark.parametrize("name", ["s.ome.tif", "s.tif", "s.svs"])
    @pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", None, "jpeg2000"])
    def test_planar_colours(self, tmp_path: Path, name: str, compression: str | None) -> None:
        """Red, green and blue in directories of their own, with sub-directories."""
        levels = [np.ascontiguousarray(np.moveaxis(a, -1, 0)) for a in LEVELS]
        with tifffile.TiffWriter(tmp_path / name, ome=True) as tiff:
            how = {"tile": (128, 128), "photometric": "minisblack", "compression": compression}
            about = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "Channel": {"Name": ["R", "G", "B"]}}
            tiff.write(levels[0], subifds=2, metadata=about, **how)
            for level in levels[1:]:
                tiff.write(level, subfiletype=1, **how)
        with open_slide(tmp_path / name) as slide:
            assert slide.cautions == ()
            assert (slide.frame.mpp, slide.frame.mpp_y) == (0.25, 0.5)
            assert slide.levels == ((600, 450), (150, 112), (37, 28))
            assert np.array_equal(slide.read(slide.frame.box, slide.frame), PICTURE)

    def test_planar_colours_in_one_directory(self, tmp_path: Path) -> None:
        planes = np.ascontiguousarray(np.moveaxis(PICTURE, -1, 0))
        for name, tile in (("t.tif", (128, 128)), ("flat.tif", None)):
            how = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib", "metadata": None}
            tifffile.imwrite(tmp_path / name, planes, tile=tile, **how)
            with open_slide(tmp_path / name, mpp=0.5) as slide:
                assert np.array_equal(slide.read(slide.frame.box, slide.frame), PICTURE)

    def test_pixels_of_planes_are_where_they_belong(self, tmp_path: Path) -> None:
        planes = np.moveaxis(coordinates(WIDTH, HEIGHT, ())[0], -1, 0)
        path = write_planes(tmp_path / "s.tif", ome_xml([(pixels(600, 450), "")]), [*planes])
        with open_slide(path) as slide:
            x, y = decode_coordinates(slide.read(Box(100, 120, 300, 200), slide.frame))
        assert (x == np.arange(100, 400)).all()
        assert (y == np.arange(120, 320)[:, None]).all()

    @pytest.mark.parametrize("order", ["macro first", "macro last", "label, slide, macro"])
    @pytest.mark.parametrize("name", ["s.ome.tif", "s.tif", "s.svs"])
    def test_the_largest_image_is_the_slide(self, tmp_path: Path, order: str, name: str) -> None:
        macro, label = texture(300, 100), texture(90, 90)
        images = {
            "macro first": [(macro, 16.0), (PICTURE, 0.25)],
            "macro last": [(PICTURE, 0.25), (macro, 16.0)],
            "label, slide, macro": [(label, 3.0), (PICTURE, 0.25), (macro, 16.0)],
        }[order]
        with tifffile.TiffWriter(tmp_path / name, ome=True) as tiff:
            for array, mpp in images:
                top = array is PICTURE
                about = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp, "Name": "top" if top else "other"}
                how = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
                tiff.write(array, metadata=about, subifds=2 if top else 0, **how)
                for level in LEVELS[1:] if top else ():
                    tiff.write(level, subfiletype=1, **how)
        number = next(i for i, (array, _) in enumerate(images) if array is PICTURE)
        with open_slide(tmp_path / name) as slide:
            shows_picture(slide, 3)
            assert (slide.frame.mpp, slide.series) == (0.25, number)
            assert f"the largest, {number}, is read" in slide.cautions[0]
        for i, (array, mpp) in enumerate(images):
            with open_slide(tmp_path / name, series=i) as slide:
                assert (slide.frame.width, slide.frame.mpp, slide.series) == (array.shape[1], mpp, i)
                assert np.array_equal(slide.read(slide.frame.box, slide.frame), array)
                assert slide.cautions == ()
        refused(tmp_path / name, f"no image {len(images)}, but {len(images)} images", series=len(images))

    @pytest.mark.parametrize(
        ("about", "children", "planes", "said"),
        [
            (pixels(600, 450, z=3), RGB_CHANNEL, 3, "3 z planes"),
            (pixels(600, 450, t=2), RGB_CHANNEL, 2, "2 time points"),
            (pixels(600, 450, c=1, z=2, t=2), "", 4, "2 z planes × 2 time points"),
            (pixels(600, 450, c=2), "", 2, "2 channels"),
            (pixels(600, 450, c=5), "", 5, "5 channels"),
            (pixels(600, 450, c=3, z=2), "", 6, "3 channels × 2 z planes"),
            (pixels(600, 450), '<Channel Name="DAPI"/><Channel Name="FITC"/><Channel Name="Cy5"/>', 3, "'DAPI'"),
            (pixels(600, 450), '<Channel Name="H"/><Channel Name="E"/><Channel Name="Residual"/>', 3, "H, E, Residual"),
            (pixels(600, 450), '<Channel Name="B"/><Channel Name="G"/><Channel Name="R"/>', 3, "channels are B, G, R"),
            (pixels(600, 450), '<Channel Color="65535"/><Channel Color="16711935"/><Channel/>', 3, "not red, green"),
            (pixels(600, 450, c=1), '<Channel Name="DAPI"/>', 1, "'DAPI' is fluorescence"),
            (pixels(600, 450, c=1), '<Channel EmissionWavelength="461"/>', 1, "is fluorescence"),
            (pixels(600, 450, c=1), '<Channel ContrastMethod="Fluorescence"/>', 1, "is fluorescence"),
            (pixels(600, 450), "", 2, "missing or in other files"),
            (pixels(600, 450), '<TiffData IFD="0" PlaneCount="1"><UUID FileName="b.tif">x</UUID></TiffData>', 3, "missing"),
        ],
    )  # fmt: skip
    def test_what_is_no_picture_is_refused(
        self, tmp_path: Path, about: str, children: str, planes: int, said: str
    ) -> None:
        for name in ("s.ome.tif", "s.svs"):
            arrays = [PICTURE if children == RGB_CHANNEL else PICTURE[..., 0]] * planes
            refused(write_planes(tmp_path / name, ome_xml([(about, children)]), arrays), said)

    @pytest.mark.parametrize(
        "xml", ["<OME", "<OME></OME>", "<OME>" * 3000, "<OME><Image/></OME>", "<OME><Image><Pixels/></Image></OME>"]
    )
    def test_damaged_xml(self, tmp_path: Path, xml: str) -> None:
        """The directories tell what they are, or one sentence."""
        path = write_planes(tmp_path / "s.tif", xml, [PICTURE])
        try:
            with open_slide(path, mpp=0.5) as slide:
                assert np.array_equal(slide.read(slide.frame.box, slide.frame), PICTURE)
        except SlideError as error:
            sentence(error, path)

    def test_huge_numbers_in_the_xml(self, tmp_path: Path) -> None:
        data = '<TiffData IFD="0" PlaneCount="99999999999999999999"/>'
        path = write_planes(tmp_path / "s.tif", ome_xml([(pixels(600, 450), data)]), [*np.moveaxis(PICTURE, -1, 0)])
        with open_slide(path) as slide:
            assert np.array_equal(slide.read(slide.frame.box, slide.frame), PICTURE)
        refused(
            write_planes(tmp_path / "t.tif", ome_xml([(pixels(9, 9, z=10**9), "")]), [PICTURE]), "1000000000 z planes"
        )


class TestStacks:
    """Planes, channels and time points on pages of their own."""

    @pytest.mark.parametrize("tile", [(128, 128), None])
    @pytest.mark.parametrize("count", [2, 3, 7])
    @pytest.mark.parametrize("grey", [False, True])
    def test_pages_alike_are_refused_or_chosen(
        self, tmp_path: Path, count: int, grey: bool, tile: tuple[int, int] | None
    ) -> None:
        arrays = [np.roll(PICTURE[..., 0] if grey else PICTURE, i, axis=1) for i in range(count)]
        path = write(tmp_path / "s.tif", [page(a, tile=tile) for a in arrays])
        refused(path, f"stack of {count} images of 600 × 450 px .* --series")
        for i, array in enumerate(arrays):
            with open_slide(path, series=i) as slide:
                read = slide.read(slide.frame.box, slide.frame)
                assert np.array_equal(read[..., 0] if grey else read, array)

    def test_levels_of_a_stack_are_not_mixed(self, tmp_path: Path) -> None:
        other = 255 - PICTURE
        planes = [pyramid(PICTURE, (4,)), pyramid(other, (4,))]
        together = [page(PICTURE), page(other), reduced(planes[0][1]), reduced(planes[1][1])]
        with open_slide(write(tmp_path / "a.tif", together), series=1) as slide:
            shows_picture(slide, 1, other)
        each = [page(PICTURE), reduced(planes[0][1]), page(other), reduced(planes[1][1])]
        for i, picture in enumerate((PICTURE, other)):
            with open_slide(write(tmp_path / "b.tif", each), series=i) as slide:
                shows_picture(slide, 2, picture)

    def test_focal_planes_of_aperio(self, tmp_path: Path) -> None:
        text = f"Aperio Image Library v1\r\n{WIDTH}x{HEIGHT} JPEG/RGB Q=95|AppMag = 20|MPP = 0.5|OffsetZ = 1"
        pages = [page(a, description=text) for a in (PICTURE, LEVELS[1], 255 - PICTURE, 255 - LEVELS[1])]
        path = write(tmp_path / "s.svs", pages)
        refused(path, "stack of 2 images")
        with open_slide(path, series=1) as slide:
            shows_picture(slide, 2, 255 - PICTURE)
            assert slide.frame.mpp == 0.5

    @pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", "ZCYX"])
    def test_imagej(self, tmp_path: Path, axes: str) -> None:
        shape = (3, 2)[: len(axes) - 2]
        stack = np.broadcast_to(PICTURE[..., 0], (*shape, HEIGHT, WIDTH)).copy()
        tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": axes})
        refused(tmp_path / "s.tif", "stack of 3 ")

    def test_a_stack_in_one_directory(self, tmp_path: Path) -> None:
        """tifffile can leave the directories of further planes out."""
        with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
            tiff.write(np.broadcast_to(PICTURE, (4, *PICTURE.shape)).copy(), photometric="rgb", truncate=True)
        refused(tmp_path / "s.tif", "stack of 4 ")

    def test_a_picture_among_grey_pages(self, tmp_path: Path) -> None:
        """A mask that does not say that it is one."""
        pages = [page(PICTURE[..., 0]), page(PICTURE), page(PICTURE[..., 1])]
        with open_slide(write(tmp_path / "s.tif", pages)) as slide:
            shows_picture(slide, 1)
            assert slide.series == 1


class TestSamples:
    """A further sample is alpha only where ExtraSamples says so."""

    ALPHA = np.tile(np.repeat(np.array([0, 128, 255], np.uint8), 200), (450, 1))

    @pytest.mark.parametrize("tile", [(128, 128), None])
    @pytest.mark.parametrize("grey", [False, True])
    @pytest.mark.parametrize("extra", ["unspecified", "assocalpha", "unassalpha"])
    def test_the_sample_after_the_colours(
        self, tmp_path: Path, extra: str, grey: bool, tile: tuple[int, int] | None
    ) -> None:
        colours = PICTURE[..., :1] if grey else PICTURE
        weight = self.ALPHA[..., None] / 255
        over_white = np.rint(colours * weight + 255 * (1 - weight)).astype(int)
        stored = np.rint(colours * weight).astype(np.uint8) if extra == "assocalpha" else colours
        array = np.concatenate([stored, self.ALPHA[..., None]], -1)
        how = {"photometric": "minisblack" if grey else "rgb", "extrasamples": [extra], "compression": "zlib"}
        tifffile.imwrite(tmp_path / "s.tif", array, tile=tile, metadata=None, planarconfig="contig", **how)
        if grey and extra == "unspecified":
            refused(tmp_path / "s.tif", "2 grey channels")
            return
        expected = colours if extra == "unspecified" else over_white
        with open_slide(tmp_path / "s.tif", mpp=1.0) as slide:
            read = slide.read(slide.frame.box, slide.frame).astype(int)
            assert np.abs(read - expected).max() <= 1

    @pytest.mark.parametrize("tile", [(128, 128), None])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
    def test_grey_channels_are_refused(
        self, tmp_path: Path, count: int, dtype: type, tile: tuple[int, int] | None
    ) -> None:
        array = np.zeros((300, 300, count), dtype)
        how = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unspecified"] * (count - 1)}
        tifffile.imwrite(tmp_path / "s.tif", array, tile=tile, metadata=None, compression="zlib", **how)
        refused(tmp_path / "s.tif", f"{count} grey channels")

    def test_five_samples_are_refused(self, tmp_path: Path) -> None:
        how = {"photometric": "rgb", "extrasamples": ["unspecified"] * 2, "tile": (128, 128)}
        tifffile.imwrite(tmp_path / "s.tif", np.zeros((300, 300, 5), np.uint8), metadata=None, **how)
        refused(tmp_path / "s.tif", "5 samples")

    def test_one_channel_is_said(self, tmp_path: Path) -> None:
        with open_slide(write(tmp_path / "s.tif", [page(PICTURE[..., 0])])) as slide:
            assert slide.cautions == ("it has one channel, which is read as grey",)
            assert np.array_equal(slide.read(slide.frame.box, slide.frame)[..., 2], PICTURE[..., 0])

    @pytest.mark.parametrize("tile", [(128, 128), None])
    def test_sixteen_bits_of_colour(self, tmp_path: Path, tile: tuple[int, int] | None) -> None:
        deep = (PICTURE.astype(np.uint16) << 4) + 7
        with open_slide(write(tmp_path / "s.tif", [page(deep, tile=tile)])) as slide:
            assert any("16 bits" in note for note in slide.cautions)
            read = slide.read(slide.frame.box, slide.frame).astype(float)
            assert np.abs(read - deep * (255 / 4095)).max() <= 0.5 + 1e-9

    @pytest.mark.parametrize("tile", [(128, 128), None])
    def test_palette(self, tmp_path: Path, tile: tuple[int, int] | None) -> None:
        table = np.zeros((3, 256), np.uint16)
        table[0], table[1] = np.arange(256) * 257, np.arange(256)[::-1] * 257
        array = PICTURE[..., 0]
        how = {"photometric": "palette", "colormap": table, "compression": "zlib", "metadata": None}
        tifffile.imwrite(tmp_path / "s.tif", array, tile=tile, **how)
        with open_slide(tmp_path / "s.tif", mpp=1.0) as slide:
            read = slide.read(slide.frame.box, slide.frame)
            assert np.array_equal(read, np.stack([array, 255 - array, np.zeros_like(array)], -1))

    @pytest.mark.parametrize("codec", ["lzma", "packbits", "jpegxl", "jpeg2000"])
    def test_rare_codecs(self, tmp_path: Path, codec: str) -> None:
        with open_slide(write(tmp_path / "s.tif", [page(a, compression=codec) for a in (PICTURE,)])) as slide:
            assert np.abs(slide.read(slide.frame.box, slide.frame).astype(int) - PICTURE).mean() < 3


class TestResolution:
    @pytest.mark.parametrize(
        ("said", "mpp"),
        [
            ("0.25", 0.25), ("0.0500", 0.05), ("20", 20.0), ("1e-12", None), ("250", None), ("0", None), ("-0.5", None),
            ("nan", None), ("inf", None), ("1e400", None), ("0.04", None), ("21", None), ("half", None),
        ],
    )  # fmt: skip
    def test_of_aperio(self, tmp_path: Path, said: str, mpp: float | None) -> None:
        text = f"Aperio Image Library v1\r\n{WIDTH}x{HEIGHT} JPEG/RGB Q=95|AppMag = 20|MPP = {said}"
        path = write(tmp_path / "s.svs", [page(PICTURE, description=text, resolution=(1, 1), resolutionunit="NONE")])
        for backend in (None, "openslide", "tiffslide"):
            if mpp is not None:
                assert open_slide(path, backend=backend).frame.mpp == mpp
                continue
            with pytest.raises(ResolutionError, match="--mpp") as caught:
                open_slide(path, backend=backend)
            sentence(caught.value, path)
            with open_slide(path, mpp=0.5, backend=backend) as slide:
                assert slide.frame.mpp == 0.5

    @pytest.mark.parametrize(
        ("size", "unit", "mpp"),
        [
            ("250", "nm", 0.25), ("0.00025", "mm", 0.25), ("0.25", "&#181;m", 0.25), ("0.25", "parsec", None),
            ("0.25", "mm", None), ("0", "&#181;m", None), ("x", "&#181;m", None),
        ],
    )  # fmt: skip
    def test_of_ome(self, tmp_path: Path, size: str, unit: str, mpp: float | None) -> None:
        about = (
            f'SizeX="600" SizeY="450" SizeC="3" PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}" '
            f'PhysicalSizeY="{size}" PhysicalSizeYUnit="{unit}"'
        )
        path = write_planes(tmp_path / "s.tif", ome_xml([(about, RGB_CHANNEL)]), [PICTURE])
        if mpp is not None:
            assert open_slide(path).frame.mpp == pytest.approx(mpp)
        else:
            with pytest.raises(ResolutionError, match="--mpp"):
                open_slide(path)

    @pytest.mark.parametrize(
        ("values", "unit", "mpp"),
        [
            ((40_000, 20_000), "CENTIMETER", (0.25, 0.5)),
            ((101_600, 50_800), "INCH", (0.25, 0.5)),
            ((4_000, 2_000), "MILLIMETER", (0.25, 0.5)),
            ((4, 2), "MICROMETER", (0.25, 0.5)),
            ((40_000, 40_000), "NONE", None),
            ((0, 0), "INCH", None),
            ((1, 1), "INCH", None),
        ],
    )
    @pytest.mark.parametrize("tile", [(128, 128), None])
    def test_of_tags(
        self, tmp_path: Path, values: tuple[int, int], unit: str, mpp: tuple[float, float] | None,
        tile: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        path = write(tmp_path / "s.tif", [page(PICTURE, resolution=values, resolutionunit=unit, tile=tile)])
        if mpp is None:
            with pytest.raises(ResolutionError, match="--mpp"):
                open_slide(path)
        else:
            frame = open_slide(path).frame
            assert (frame.mpp, frame.mpp_y) == pytest.approx(mpp)

    @pytest.mark.parametrize("mpp", [1e-12, 1e-4, 1e5, 0.0, -1.0, float("nan"), float("inf")])
    def test_of_a_person(self, tmp_path: Path, mpp: float) -> None:
        with pytest.raises(ResolutionError, match="--mpp"):
            open_slide(write_tiff(tmp_path / "s.tif", [PICTURE]), mpp=mpp)


def patched(path: Path, tag: int, change: Callable[[bytes], bytes], number: int = 0) -> Path:
    """Changes the value of a tag in place, of a directory of a little-endian classic TIFF."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[number].tags[tag]
        at, count = found.valueoffset, found.valuebytecount
    content[at : at + count] = change(bytes(content[at : at + count]))
    path.write_bytes(content)
    return path


def with_tile_list(path: Path, tag: int, change: Callable[[list[int]], list[int]]) -> Path:
    def changed(raw: bytes) -> bytes:
        values = change(list(struct.unpack(f"<{len(raw) // 4}I", raw)))
        return struct.pack(f"<{len(values)}I", *values)

    return patched(path, tag, changed)


OFFSETS, COUNTS, WIDTH_TAG, HEIGHT_TAG = 324, 325, 256, 257


class TestTileLists:
    """Lists that are shorter or longer than the picture, and tiles that are not in the file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write(tmp_path / "s.tif", [page(PICTURE), reduced(LEVELS[1])])

    @pytest.mark.parametrize("name", ["s.tif", "s.svs", "s.ome.tif"])
    @pytest.mark.parametrize(
        ("tag", "value"), [(WIDTH_TAG, 100_000), (HEIGHT_TAG, 2000), (WIDTH_TAG, 300), (HEIGHT_TAG, 100)]
    )
    @pytest.mark.parametrize("backend", [None, "tiff", "openslide", "tiffslide"])
    def test_of_another_length_than_the_picture(
        self, tmp_path: Path, name: str, tag: int, value: int, backend: str | None
    ) -> None:
        if name == "s.ome.tif":
            path = write_ome_tiff(tmp_path / name, [PICTURE])
        else:
            text = "Aperio Image Library v1\r\n|AppMag = 20|MPP = 0.5" if name == "s.svs" else None
            path = write(tmp_path / name, [page(PICTURE, description=text)])
        patched(path, tag, lambda raw: value.to_bytes(len(raw), "little"))
        refused(path, "it lists|nobody|another|Cannot|cannot", backend=backend)

    @pytest.mark.parametrize("far", [10**6, 2**32 - 1])
    def test_beyond_the_end(self, path: Path, far: int) -> None:
        with_tile_list(path, OFFSETS, lambda v: [*v[:-2], far, v[-1]])
        refused(path, "behind its end|beyond the end")

    def test_in_the_header(self, path: Path) -> None:
        with_tile_list(path, OFFSETS, lambda v: [4, *v[1:]])
        refused(path, "beyond the end|damaged")

    @pytest.mark.parametrize("tag", [OFFSETS, COUNTS])
    def test_without_bytes_are_said(self, path: Path, tag: int) -> None:
        with_tile_list(path, tag, lambda v: [v[0], 0, *v[2:]])
        with open_slide(path, backend="tiff") as slide:
            assert any("1 of its 20 tiles hold no bytes and are read as white" in note for note in slide.cautions)
            assert (slide.read(Box(128, 0, 128, 128), slide.frame) == 255).all()
        refused(path, "missing", backend="tiffslide")

    def test_nothing_but_holes_is_refused(self, path: Path) -> None:
        with_tile_list(path, COUNTS, lambda v: [0] * len(v))
        refused(path, "none of its 20 tiles")

    def test_exchanged(self, path: Path) -> None:
        """Tiles of other lengths then run into their neighbours."""

        def exchange(values: list[int]) -> list[int]:
            return [*values[:3], values[9], *values[4:9], values[3], *values[10:]]

        with_tile_list(path, OFFSETS, exchange)
        with open_slide(path) as slide:
            assert any("belong to others as well" in note for note in slide.cautions)

    def test_empty_glass_stored_once_is_no_overlap(self, path: Path) -> None:
        for tag in (OFFSETS, COUNTS):
            with_tile_list(path, tag, lambda v: [v[0], v[0], v[0], *v[3:]])
        with open_slide(path) as slide:
            assert slide.cautions == ()

    @pytest.mark.parametrize("bigtiff", [False, True])
    @pytest.mark.parametrize("cut", [5, 400, 5000, 50_000])
    def test_cut_off(self, tmp_path: Path, cut: int, bigtiff: bool) -> None:
        path = write(tmp_path / "s.tif", [page(PICTURE), reduced(LEVELS[1])], bigtiff=bigtiff)
        path.write_bytes(path.read_bytes()[:-cut])
        refused(path, "cut off")

    @pytest.mark.parametrize("tile", [(128, 128), None])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_a_tail_of_zeros(self, tmp_path: Path, compression: str | None, tile: tuple[int, int] | None) -> None:
        """As a copy leaves it that reserved the room first; black is a colour only where nothing is packed."""
        how = {"rowsperstrip": 50} if tile is None else {}
        path = write(tmp_path / "s.tif", [page(PICTURE, tile=tile, compression=compression, **how)])
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
        if compression:
            refused(path, "ends in zeros")
            return
        with open_slide(path) as slide:
            assert any("nothing but zeros" in note for note in slide.cautions)

    def test_an_all_zero_tile_of_a_codec_is_an_error(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as tiff:
            at, count = tiff.pages[0].dataoffsets[7], tiff.pages[0].databytecounts[7]
        content[at : at + count] = bytes(count)
        path.write_bytes(content)
        with pytest.raises(SlideError), open_slide(path) as slide:
            slide.read(slide.frame.box, slide.frame)

    def test_strips_that_are_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "s.tif", [page(PICTURE, tile=None, rowsperstrip=50)])
        patched(path, 279, lambda raw: raw[:4] + bytes(4) + raw[8:])
        refused(path, "parts of it are missing")

    def test_huge_tiles_are_refused(self, path: Path) -> None:
        for tag in (322, 323):
            patched(path, tag, lambda raw: (65_520).to_bytes(len(raw), "little"))
        refused(path, "it lists|fill the memory")


@pytest.mark.parametrize("name", ["s.scn", "s.tif"])
def test_bounds_of_leica(tmp_path: Path, name: str) -> None:
    """OpenSlide's rule: coordinates are those of the whole plane, the header's bounds are said, the rest is white."""
    path = write_leica(tmp_path / name, PICTURE, at=(512, 256), plane=(4096, 3072))
    with open_slide(path) as slide:
        assert (slide.backend_name, slide.vendor) == ("openslide", "leica")
        assert (slide.frame.width, slide.frame.height, slide.frame.mpp) == (4096, 3072, 0.5)
        assert slide.bounds == Box(512, 256, WIDTH, HEIGHT)
        read = slide.read(slide.bounds, slide.frame).astype(int)
        assert np.abs(read - PICTURE).mean() < 3
        for outside in (Box(0, 0, 500, 250), Box(1112, 0, 300, 300), Box(512, 706, 100, 100)):
            assert (slide.read(outside, slide.frame) == 255).all()
    refused(path, "one image, number 0", series=1)


CASES = {
    "cog_mask.tif": None, "reduced_macro_small.tif": None, "ome_cyx_named_tif.tif": None,
    "ome_macro_first.ome.tif": None, "extra_unspec_flat.tif": None, "zstack.tif": "stack of 3", "big100k.tif": "it lists 4",
    "fluo4_flat.tif": "4 grey channels", "svs_mpp_1e-12.svs": "--mpp", "svs_mpp_250.svs": "--mpp",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases(data: Path, name: str) -> None:
    folder = data / "cases" / "slides"
    said = CASES[name]
    if said is not None:
        with pytest.raises(SlideError if "mpp" not in said else ResolutionError, match=said):
            open_slide(folder / name)
        return
    with open_slide(folder / "ref.tif") as right, open_slide(folder / name) as slide:
        assert slide.frame == right.frame
        for n in (1, 4, 8, 16):
            frame = right.frame.at(right.frame.mpp * n)
            ours, theirs = slide.read(frame.box, frame).astype(int), right.read(frame.box, frame)
            assert np.abs(ours - theirs).mean() <= (0 if n == 1 else 1.5)


def test_the_case_of_zeros_is_said(data: Path) -> None:
    with open_slide(data / "cases" / "slides" / "zero_tail_uncomp.tif") as slide:
        assert "last 2 of 6 tiles hold nothing but zeros" in slide.cautions[0]
