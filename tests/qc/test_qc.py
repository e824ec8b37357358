"""Quality control: artefacts put where they are known to be, flags, and what is left out for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage
from shapely import area, intersection, union_all

from tests.test_predict import BUNDLE, ColourRule
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.rasterise import rasterise
from wsiseg.classes import ClassMap
from wsiseg.cli import wsiseg
from wsiseg.errors import MismatchError, OutputError
from wsiseg.geometry import Frame
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.qc.examine import examine, resolution_flag, stain_flag, tissue_flag
from wsiseg.qc.files import write_quality
from wsiseg.selection import artefact_masks, artefacts, focus
from wsiseg.selection.artefact_masks import bubbles
from wsiseg.selection.select import Selection
from wsiseg.slides.memory import memory_slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.tiles import TileStore
from wsiseg.synthetic import SlideSpec, generate

SPEC = SlideSpec(5, 1800, 1300, "he", 1.0, artefacts=())


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """(1300, 1800, 3): a generated slide with nothing wrong, 1 µm/px."""
    slide = generate(SPEC)
    return slide.read(slide.frame.box, slide.frame)


@pytest.fixture(scope="module")
def spoilt(sound: np.ndarray) -> np.ndarray:
    """The same, right of x = 1000 out of focus by 3 µm, with a black stroke from y = 60 to 260 on its left."""
    pixels = sound.copy()
    pixels[:, 1000:] = ndimage.gaussian_filter(sound, (3, 3, 0))[:, 1000:]
    pixels[60:260, 100:800] = 0.2 * pixels[60:260, 100:800]
    return pixels


def flag(quality, name: str):
    return next(f for f in quality.flags if f.name == name)


def test_nothing_is_wrong_with_a_sound_slide(sound: np.ndarray) -> None:
    quality = examine(memory_slide(sound, 1.0))
    assert not quality.artefacts.labels.any()
    assert [f.name for f in quality.flags] == ["resolution", "tissue", "blur", "folds", "pen", "bubbles", "stain"]
    assert not any(f.raised for f in quality.flags if f.name != "tissue"), quality.flags


def test_blur_and_pen_are_found_where_they_are(spoilt: np.ndarray) -> None:
    quality = examine(memory_slide(spoilt, 1.0))
    assert flag(quality, "pen").raised
    assert flag(quality, "blur").raised
    y, x = np.mgrid[: quality.artefacts.labels.shape[0], : quality.artefacts.labels.shape[1]] * 8 + 4
    stroke = (y > 60) & (y < 260) & (x > 100) & (x < 800)
    ink = quality.artefacts.labels == artefacts.PEN
    assert ink[stroke].mean() > 0.95
    assert ink.sum() < 1.5 * stroke.sum(), "with a margin, and no more"
    soft = quality.artefacts.labels == artefacts.BLUR
    assert soft[x > 1050].sum() > 20 * soft[x < 950].sum()
    assert soft.sum() * 64 > 0.2 * 1e6 * flag(quality, "tissue").value


def test_an_outline_covers_what_its_label_does(spoilt: np.ndarray) -> None:
    slide = memory_slide(spoilt, 1.0)
    quality = examine(slide)
    back = rasterise(
        quality.artefacts.polygons(),
        artefacts.CLASSES,
        quality.artefacts.frame.box,
        quality.artefacts.frame,
        slide.frame,
    )
    assert (back == quality.artefacts.labels).all()


def test_sharpness_does_not_depend_on_blocks(spoilt: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = memory_slide(spoilt, 1.0)
    frame = slide.frame.at(8.0)
    tissue = np.ones(frame.box.shape, np.bool_)
    once = focus.sharpness(slide, tissue, frame)
    monkeypatch.setattr(focus, "BLOCK", 31)
    again = focus.sharpness(slide, tissue, frame)
    assert once is not None
    assert again is not None
    assert np.allclose(once, again, atol=1e-4)


def test_focus_is_not_judged_on_coarse_pixels(sound: np.ndarray) -> None:
    quality = examine(memory_slide(sound[::2, ::2].copy(), 2.0))
    assert flag(quality, "blur").value is None
    assert not flag(quality, "blur").raised


def light(shape: tuple[int, int], colour: tuple[float, float, float]) -> np.ndarray:
    return np.full((*shape, 3), colour, np.float32)


def test_a_fold_is_a_band_of_twice_the_density() -> None:
    tissue = np.ones((120, 120), np.bool_)
    section = light((120, 120), (0.8, 0.55, 0.75))
    folded = section.copy()
    folded[50:58, 10:110] **= 2
    found = artefact_masks.folds(folded, tissue, (8, 8))
    assert found[50:58, 10:110].mean() > 0.9
    assert found.sum() < 1200
    crowd = section.copy()
    crowd[50:58, 10:110] = (0.45, 0.35, 0.62)  # nuclei: darker, but with less of the counterstain
    assert not artefact_masks.folds(crowd, tissue, (8, 8)).any()
    lump = section.copy()
    lump[50:75, 50:75] **= 2
    assert not artefact_masks.folds(lump, tissue, (8, 8)).any(), "no band"


def test_a_hair_is_no_pen_and_a_coloured_stroke_goes_on_over_tissue() -> None:
    glass = light((150, 150), (1, 1, 1))
    glass[70:74, :] = 0.1
    assert not artefact_masks.pen(glass, (8, 8)).any()
    glass = light((150, 150), (1, 1, 1))
    glass[:, 75:] = (0.8, 0.5, 0.7)
    glass[60:80, 10:140] *= np.float32((0.25, 0.45, 0.85))
    found = artefact_masks.pen(glass, (8, 8))
    assert found[60:80, 12:138].all()
    assert not found[:50].any()
    assert not found[:, :5].any()


def ring(*, width: float, gap: float = 0.0, tint: tuple[float, float, float] = (0.3, 0.3, 0.3)) -> np.ndarray:
    """Light (100, 100, 3) through pink tissue with a dark ring of radius 200 µm around pixel (50, 50) at 8 µm/px.

    Args:
        width: of the ring in µm
        gap: fraction of the ring that is missing
        tint: what the ring lets through
    """
    picture = light((100, 100), (0.8, 0.55, 0.75))
    y, x = np.mgrid[:100, :100] - 50.0
    away = np.hypot(y, x) * 8
    dark = (away < 200) & (away >= 200 - width) & (np.arctan2(y, x) / np.pi + 1 >= 2 * gap)
    picture[dark] *= np.float32(tint)
    return picture


def test_a_bubble_is_a_thin_dark_ring() -> None:
    found = bubbles(ring(width=24), (8, 8))
    y, x = np.mgrid[:100, :100] - 50.0
    disc = np.hypot(y, x) * 8 < 200
    assert (found & disc).sum() > 0.97 * disc.sum()
    assert (found & ~disc).sum() < 0.03 * disc.sum()
    assert bubbles(ring(width=24, gap=0.2), (8, 8)).sum() > 0.8 * disc.sum(), "not quite closed"


def test_what_is_no_bubble() -> None:
    assert not bubbles(ring(width=24, gap=0.5), (8, 8)).any(), "an arc"
    assert not bubbles(ring(width=120), (8, 8)).any(), "a circle drawn with a pen"
    assert not bubbles(ring(width=200), (8, 8)).any(), "a lump"
    assert not bubbles(ring(width=24, tint=(0.9, 0.4, 0.6)), (8, 8)).any(), "a ring of stained tissue"
    square = light((100, 100), (0.9, 0.9, 0.9))
    square[20:80, 20:80] = 0.2
    square[23:77, 23:77] = 0.9
    assert not bubbles(square, (8, 8)).any(), "a frame"


def test_bubbles_are_found_on_a_generated_slide() -> None:
    made = generate(replace(SPEC, artefacts=("bubble",)))
    quality = examine(memory_slide(made.read(made.frame.box, made.frame), 1.0))
    true = (
        rasterise(
            made.artefacts(),
            ClassMap(("Background", "Bubble")),
            quality.artefacts.frame.box,
            quality.artefacts.frame,
            made.frame,
        )
        > 0
    )
    mine = quality.artefacts.labels == artefacts.BUBBLE
    assert true.any()
    assert (true & mine).sum() > 0.8 * (true | mine).sum()
    assert flag(quality, "bubbles").raised
    assert {r.label for r in quality.artefacts.excluded()} == {"Bubble"}


def test_the_drawn_truth_is_where_the_planes_say() -> None:
    made = generate(replace(SPEC, artefacts=("fold", "pen", "blur", "bubble")))
    regions = list(made.artefacts())
    names = {r.label for r in regions}
    assert {"Pen", "Bubble"} <= names <= {"Blur", "Fold", "Pen", "Bubble"}
    tissue = union_all([r.polygon for r in made.tissue])
    for region in regions:
        if region.label in ("Blur", "Fold"):
            assert area(intersection(region.polygon, tissue)) > 0.7 * area(region.polygon)
    assert not list(generate(SPEC).artefacts())


@pytest.mark.parametrize(
    ("frame", "stated", "power", "said"),
    [
        (Frame(9, 9, 0.25), (0.25, 0.25), "40", None),
        (Frame(9, 9, 0.25), None, "", "assumed"),
        (Frame(9, 9, 0.5), (0.25, 0.25), "", "said instead"),
        (Frame(9, 9, 12.0), (12.0, 12.0), "", "no scanner"),
        (Frame(9, 9, 0.25, 0.3), (0.25, 0.3), "", "and y"),
        (Frame(9, 9, 1.0), (1.0, 1.0), "40", "objective of 40×"),
        (Frame(9, 9, 1.0), (1.0, 1.0), "many", None),
    ],
)
def test_the_flag_of_the_resolution(frame: Frame, stated, power: str, said: str | None) -> None:
    found = resolution_flag(frame, stated, {"openslide.objective-power": power})
    assert found.raised == (said is not None)
    assert said is None or said in found.says


def test_other_flags_are_raised_outside_their_limits() -> None:
    assert tissue_flag(0.5).raised
    assert not tissue_flag(5.0).raised
    assert [stain_flag(v).raised for v in (None, 0.01, 0.25, 0.9)] == [False, True, False, True]


def test_black_and_white_and_fluorescence_have_no_artefacts() -> None:
    dark = np.zeros((300, 300, 3), np.uint8)
    dark[100:200, 100:200, 2] = 200
    for picture in (dark, np.full((300, 300, 3), 245, np.uint8)):
        quality = examine(memory_slide(picture, 1.0))
        assert not quality.artefacts.labels.any()
        assert flag(quality, "stain").value is None


def test_prediction_leaves_artefacts_out_and_says_so(spoilt: np.ndarray, tmp_path: Path) -> None:
    slide = memory_slide(spoilt, 1.0)
    job = PredictOptions(
        tmp_path / "out.geojson", tmp_path / "labels.zarr", Selection(tissue=False, exclude_artefacts=True)
    )
    every = PredictOptions(tmp_path / "every.geojson", tmp_path / "every.zarr", Selection(tissue=False))
    predict_slide(slide, BUNDLE, ColourRule(), job)
    predict_slide(slide, BUNDLE, ColourRule(), every)
    some, whole = LabelMap(job.labels), LabelMap(every.labels)
    outlines = list(examine(slide).artefacts.polygons())
    damaged = rasterise(outlines, artefacts.CLASSES, some.frame.box, some.frame, slide.frame) > 0
    labels = some.read(some.frame.box)
    assert whole.read(whole.frame.box)[damaged].any(), "there would have been something"
    assert not labels[damaged].any()
    assert not some.read_score(some.frame.box)[damaged].any()
    far = ~ndimage.binary_dilation(damaged, iterations=70)
    assert (labels[far] == whole.read(whole.frame.box)[far]).all()
    with pytest.raises(MismatchError, match="artefacts"):
        predict_slide(slide, BUNDLE, ColourRule(), replace(job, selection=Selection(tissue=False)))


def command(*words: object):
    return CliRunner().invoke(wsiseg, [str(w) for w in words])


def test_the_command_and_tiles_without_artefacts(spoilt: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "slide.png"
    Image.fromarray(spoilt).save(path)
    out = tmp_path / "quality"
    done = command("qc", path, "--mpp", 1.0, "--out", out)
    assert done.exit_code == 0, done.output
    assert "! pen" in done.output
    assert "! resolution" in done.output, "a plain PNG does not state it"
    assert {p.name for p in out.iterdir()} == {"flags.json", "artefacts.geojson", "picture.png"}
    told = json.loads((out / "flags.json").read_text())
    assert {f["name"]: f["raised"] for f in told["flags"]}["blur"]
    found = read_annotations(out / "artefacts.geojson")
    assert {r.label for r in found.polygons} == {"Blur", "Pen"}
    again = command("qc", path, "--mpp", 1.0, "--out", out)
    assert isinstance(again.exception, OutputError)
    assert command("qc", path, "--mpp", 1.0, "--out", out, "--overwrite", "--json").exit_code == 0
    truth = tmp_path / "truth.geojson"
    write_annotations(
        truth, generate(SPEC).truth, classes=ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
    )
    store = tmp_path / "s.zarr"
    words = ["tile", path, "--mpp", 1.0, "--size", 128, "--annotations", truth, "--out", store, "--quiet"]
    done = command(*words, "--exclude-artifacts")
    assert done.exit_code == 0, done.output
    tiles = TileStore(store)
    slide = memory_slide(spoilt, 1.0)
    damaged = rasterise(found.polygons, artefacts.CLASSES, tiles.grid.frame.box, tiles.grid.frame, slide.frame) > 0
    assert 0 < len(tiles) < len(tiles.grid)
    for tile in (t for t in tiles.grid if (t.row, t.col) in tiles):
        labels = tiles.read_labels(tile.keep)
        assert ((labels == 255) == damaged[tile.keep.slices]).all()
    assert isinstance(command(*words).exception, MismatchError)


def test_a_full_folder_is_refused_before_the_slide_is_read(tmp_path: Path, sound: np.ndarray) -> None:
    slide = memory_slide(sound[:400, :400].copy(), 1.0)
    write_quality(tmp_path / "q", slide, examine(slide))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "q", tmp_path / "file"):
        assert isinstance(command("qc", tmp_path / "none.png", "--out", place).exception, OutputError)
