"""Every file opens and reads, or gives one sentence that helps."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.slides.make import pyramid, texture, write_tiff
from wsiseg.errors import ResolutionError, SlideError
from wsiseg.geometry import Box
from wsiseg.slides.open import BACKENDS, SUFFIXES, open_slide, suffix_of
from wsiseg.slides.openslide import OpenSlideBackend
from wsiseg.slides.slide import Slide


def read_all(path: Path, mpp: float | None = 0.5, backend: str | None = None) -> Slide:
    """Opens a slide and reads every pixel of it once, at a quarter of its resolution, and all levels' corners."""
    with open_slide(path, mpp=mpp, backend=backend) as slide:
        frame = slide.frame.at(slide.frame.mpp * 4)
        slide.read(frame.box, frame)
        for n, _ in slide.downsamples:
            frame = slide.frame.at(slide.frame.mpp * n)
            slide.read(Box(frame.width - 30, frame.height - 30, 30, 30), frame)
        return slide


def sentence(error: SlideError, path: Path) -> str:
    """The message, which has to be one sentence about this file, without a traceback's or a machine's words."""
    text = str(error)
    assert path.name in text
    assert "\n" not in text
    assert text.endswith(".")
    assert "Traceback" not in text
    assert str(path.parent) not in text
    return text


def test_tables_agree() -> None:
    assert {name for names in SUFFIXES.values() for name in names} == set(BACKENDS)
    assert suffix_of(Path("a/b.c.OME.TIFF")) == ".tiff"
    assert suffix_of(Path("TCGA-01.2-3.SVS")) == ".svs"
    assert suffix_of(Path("IM0001")) == ""
    assert suffix_of(Path("x.ome.zarr/")) == ".zarr"


def test_kidney_slides_open(kidney: Path) -> None:
    paths = sorted(kidney.glob("*.svs"))
    assert len(paths) == 61
    for path in paths:
        with open_slide(path) as slide:
            pixels, _ = slide.thumbnail(64)
            assert slide.backend_name == "tiff"
            assert slide.notes == ()
            assert slide.frame.mpp == 1.0
            assert [n for n, _ in slide.downsamples] == [1, 4, 16]
            assert pixels.min() < 230


@pytest.mark.parametrize(
    ("name", "mpp", "size", "resolution"),
    [
        ("CMU-1-Small-Region.svs", None, (2220, 2967), (0.499, 0.499)),
        ("multiframe_camelyon_challenge_image.dcm", None, (1152, 700), (28.969, 28.968)),
        ("multi_frame_jpeg2000_camelyon_challenge_image.dcm", None, (1696, 812), (28.969, 28.968)),
        ("test3-DAPI-2-(387).ndpi", None, (3968, 4864), (0.2281750559, 0.2281750559)),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.25, (4443, 3567), (0.25, 0.25)),
        ("CMU-1-Small-Region.svs", 0.3, (2220, 2967), (0.3, 0.3)),
    ],
)
def test_facts_of_real_slides(
    slides: Path, name: str, mpp: float | None, size: tuple[int, int], resolution: tuple[float, float]
) -> None:
    with open_slide(slides / name, mpp=mpp) as slide:
        assert (slide.frame.width, slide.frame.height) == size
        assert (slide.frame.mpp, slide.frame.mpp_y) == pytest.approx(resolution)


@pytest.mark.parametrize(
    ("folder", "name", "stated"),
    [
        ("slides", "tcga-cr-7395-01a-01-ts1.svs", None),
        ("slides", "boxes.tiff", "352.8 µm/px (72 dpi)"),
        ("slides", "yb10kx5k.zstd.tiff", "352.9 µm/px"),
        ("odd", "test_orient3.tif", "352.9 µm/px (72 dpi)"),
        ("odd", "ojpeg-tile.tif", "338.7 µm/px (75 dpi)"),
        ("odd", "kidney-48-5.tif", None),
        ("nuclei", "TCGA-B0-5698-01Z-00-DX1.tif", None),
    ],
)
def test_without_resolution(data: Path, folder: str, name: str, stated: str | None) -> None:
    path = data / folder / name
    with pytest.raises(ResolutionError, match="--mpp") as caught:
        open_slide(path)
    assert (stated or "does not say") in sentence(caught.value, path)
    read_all(path)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_override(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(ResolutionError, match="--mpp"):
        open_slide(write_tiff(tmp_path / "s.tif", [texture(300, 300)]), mpp=mpp)


class TestOdd:
    """Each odd file reads rightly, or is refused for its own reason."""

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("broken.svs", "not a slide"),
            ("unopenable.tiff", "compression: 52479"),
            ("zero_gi.tif", "2 × 0 px"),
            ("small_dicom.dcm", "DICOM"),
        ],
    )
    def test_refused_at_opening(self, odd: Path, name: str, reason: str) -> None:
        with pytest.raises(SlideError) as caught:
            open_slide(odd / name, mpp=0.5)
        assert reason in sentence(caught.value, odd / name)

    def test_refused_at_reading(self, odd: Path) -> None:
        path = odd / "unreadable.svs"
        for backend, said in (
            ("openslide", "Bogus marker length"),
            (None, "tiff: the JPEG header of a tile is damaged"),
        ):
            with open_slide(path, backend=backend) as slide, pytest.raises(SlideError) as caught:
                slide.read(Box(2, 3, 5, 6), slide.frame)
            text = sentence(caught.value, path)
            assert "x 2 to 7, y 3 to 9" in text
            assert said in text

    def test_grey(self, odd: Path) -> None:
        with open_slide(odd / "grey10kx5k.tif", mpp=0.5) as slide:
            assert slide.backend_name == "image"
            assert any(note.startswith("openslide:") for note in slide.notes)
            pixels, _ = slide.thumbnail(100)
            assert (pixels[..., 0] == pixels[..., 1]).all()
            assert np.unique(pixels[::7, ::7]).tolist() == [64, 192]

    def test_old_jpeg(self, odd: Path) -> None:
        with open_slide(odd / "ojpeg-tile.tif", mpp=0.5) as slide:
            pixels = slide.read(slide.frame.box, slide.frame)
        assert [note.partition(":")[0] for note in slide.notes] == ["tiff", "openslide", "tiffslide"]
        left, right = pixels[50, 55].astype(int), pixels[115, 146].astype(int)  # a wooden post, a cat's eye
        assert left[0] > left[1] > left[2]
        assert right[1] > right[2] + 20

    @pytest.mark.parametrize("name", ["test_orient3.tif", "test_orient6.tif"])
    def test_orientation_is_left_alone(self, odd: Path, name: str) -> None:
        """Both show an upright F as stored; OpenSlide would turn each tile about itself."""
        with pytest.raises(SlideError, match="orientation"):
            open_slide(odd / name, mpp=0.5, backend="openslide")
        with open_slide(odd / name, mpp=0.5) as slide:
            assert (slide.frame.width, slide.frame.height) == (120, 180)
            for n in (1, 2, 4):
                frame = slide.frame.at(0.5 * n)
                dark = slide.read(frame.box, frame)[..., 0] < 128
                assert dark[150 // n, 24 // n]  # the stem, at the bottom
                assert dark[18 // n, 90 // n]  # the upper bar
                assert dark[84 // n, 90 // n]  # the middle bar
                assert not dark[150 // n, 60 // n :].any()

    def test_a_name_with_a_face(self, odd: Path) -> None:
        with open_slide(odd / "😐.svs") as slide:
            assert slide.identity["name"] == "😐.svs"
            assert slide.read(slide.frame.box, slide.frame).std() > 10

    def test_nearly_empty(self, odd: Path) -> None:
        assert read_all(odd / "kidney-48-5.tif").backend_name == "image"


TRUNCATED = (
    "slides/CMU-1-Small-Region.svs",
    "slides/tcga-cr-7395-01a-01-ts1.svs",
    "kidney/kidney-097.svs",
    "slides/multiframe_camelyon_challenge_image.dcm",
    "slides/boxes.tiff",
    "odd/kidney-48-5.tif",
)


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.93, 0.9999])
def test_truncated(data: Path, tmp_path: Path, name: str, share: float) -> None:
    """One sentence, or all pixels as in the whole file; never other pixels and never another error."""
    whole = data / name
    copy = tmp_path / whole.name
    content = whole.read_bytes()
    copy.write_bytes(content[: int(len(content) * share)])
    for backend in (None, *(b for b in BACKENDS if b != "ome_zarr")):
        try:
            with (
                open_slide(copy, mpp=0.5, backend=backend) as slide,
                open_slide(whole, mpp=0.5, backend=slide.backend_name) as sound,
            ):
                frame = sound.frame.at(2.0)
                assert slide.frame == sound.frame
                assert np.array_equal(slide.read(frame.box, frame), sound.read(frame.box, frame))
        except SlideError as error:
            sentence(error, copy)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=40)
@given(
    st.sampled_from(
        [("s.tif", None), *(("s.tif", b) for b in ("tiff", "openslide", "tiffslide", "image")), ("s.png", None)]
    ),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_changed_bytes(
    tmp_path_factory: pytest.TempPathFactory, kind: tuple[str, str | None], changes: list[tuple[float, int]]
) -> None:
    """Other pixels, or one sentence; never another error."""
    name, backend = kind
    path = tmp_path_factory.mktemp("changed") / name
    if name == "s.tif":
        write_tiff(path, pyramid(texture(40, 30), (2,)))
    else:
        Image.fromarray(texture(40, 30)).save(path)
    content = bytearray(path.read_bytes())
    for where, value in changes:
        # The header and the directories at the far end are hit more often than the pixels.
        content[int(where**2 * len(content)) if value % 2 else int((1 - where**3) * (len(content) - 1))] = value
    path.write_bytes(content)
    try:
        with open_slide(path, mpp=0.5, backend=backend) as slide:
            assert slide.read(Box(-5, -5, 50, 50), slide.frame.at(1.0)).shape == (50, 50, 3)
    except SlideError as error:
        sentence(error, path)


def test_truncation_is_named(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut.svs"
    copy.write_bytes((data / "kidney/kidney-097.svs").read_bytes()[:600_000])
    with pytest.raises(SlideError, match="cut off"):
        open_slide(copy)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.svs", b"", "empty"),
        ("letter.svs", b"%PDF-1.7 and so on", "a PDF"),
        ("photo.svs", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        ("pointer.svs", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("noise.tif", bytes(range(256)) * 4, "not a slide"),
        ("noise.dcm", bytes(128) + b"DICM" + bytes(64), "DICOM"),
        ("noise.png", bytes(1000), "not a slide"),
        ("noise", bytes(1000), "not a slide"),
        ("words.txt", b"hello", "'.txt'"),
        ("file.zarr", b"hello", "folder"),
    ],
)
def test_not_a_slide(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SlideError) as caught:
        open_slide(path, mpp=0.5)
    assert reason in sentence(caught.value, path)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="There is no file"):
        open_slide(tmp_path / "nothing.svs")
    with pytest.raises(SlideError, match="is a folder"):
        open_slide(tmp_path, mpp=1)
    path = write_tiff(tmp_path / "s.tif", [texture(300, 300)])
    with pytest.raises(SlideError, match="no backend 'bioformats'"):
        open_slide(path, backend="bioformats")


def test_an_explicit_backend_is_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, texture(300, 200), photometric="rgb")
    with pytest.raises(SlideError, match="openslide"):
        open_slide(path, mpp=0.5, backend="openslide")
    assert read_all(path, backend="image").notes == ()
    assert [note.partition(":")[0] for note in read_all(path).notes] == ["tiff", "openslide", "tiffslide"]


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_a_damaged_tile_harms_no_other(data: Path, tmp_path: Path, backend: str) -> None:
    """The slide goes on, in other threads too; OpenSlide by itself refuses everything after one failure."""
    path = tmp_path / "holed.svs"
    shutil.copyfile(data / "kidney/kidney-097.svs", path)
    path.chmod(0o600)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[5]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xd8" + bytes(300))
    sound, holed = Box(60, 2100, 100, 100), Box(600, 600, 300, 300)  # tile 5 is column 1, row 1 of 512 px tiles
    with open_slide(path, backend=backend) as slide:
        expected = slide.read(sound, slide.frame)

        def attempt(i: int) -> bool:
            if i % 2:
                return np.array_equal(slide.read(sound, slide.frame), expected)
            with pytest.raises(SlideError, match=r"holed\.svs.*x 600 to 900"):
                slide.read(holed, slide.frame)
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(attempt, range(64)))


def test_errors_of_a_closed_handle_do_not_leak(tmp_path: Path) -> None:
    slide = open_slide(write_tiff(tmp_path / "s.tif", [texture(300, 300)]))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(Box(0, 0, 5, 5), slide.frame)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header's bounds are reported; coordinates stay those of the full plane."""
    path = write_tiff(tmp_path / "s.tif", [texture(300, 300)])
    backend = OpenSlideBackend(str(path))
    assert Slide(backend).bounds == Box(0, 0, 300, 300)
    backend.bounds = Box(100, 50, 500, 20)
    slide = Slide(backend)
    assert slide.bounds == Box(100, 50, 200, 20)
    assert np.array_equal(slide.read(Box(0, 0, 9, 9), slide.frame), texture(300, 300)[:9, :9])
