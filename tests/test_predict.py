"""Prediction: every pixel in its place, whatever happens on the way.

The network here is a rule on colour, so that the right label of every pixel is known; the real network is tested in
test_main_job.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from shapely import Point
from shapely import box as rectangle

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.bundle import ModelBundle, Usage
from wsiseg.classes import ClassMap
from wsiseg.errors import BundleError, MismatchError, SlideError, TissueError
from wsiseg.inference.engines.engine import readers_for
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.nets.segmentation import Architecture
from wsiseg.selection.select import Roi, Selection
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.usage import Postprocessing

CLASSES = ClassMap(("Background", "A", "B"))
USAGE = Usage(mpp=2.0, tile=64, overlap=16, batch=3)
BUNDLE = ModelBundle(
    "colour rule", CLASSES, USAGE, Architecture("none", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "0" * 64
)  # fmt: skip


class ColourRule:
    """Green below 60 is class A, red below 60 is class B; sure of it by 90 %."""

    identity: dict[str, Any] = {"name": "colour rule"}  # noqa: RUF012
    streams = 1

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        self.calls, self.before = 0, before

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.shape == (USAGE.batch, USAGE.tile, USAGE.tile, 3)
        self.before(self.calls)
        self.calls += 1
        labels = label_of(images)
        return np.stack([np.where(labels == c, 0.9, 0.05) for c in range(3)], 1).astype(np.float32)


def label_of(image: np.ndarray) -> np.ndarray:
    return np.where(image[..., 1] < 60, 1, np.where(image[..., 0] < 60, 2, 0)).astype(np.uint8)


def draw() -> np.ndarray:
    """(760, 1100, 3): pinkish tissue on white, with objects of both classes, at the edges too; blocks of 2 × 2 px."""
    rng = np.random.default_rng(1)
    small = np.full((380, 550, 3), 245, np.uint8)
    small[40:340, 30:520] = (200, 130, 170)
    y, x = np.mgrid[:380, :550]
    for k in range(40):
        cy, cx, r = rng.integers(45, 335), rng.integers(35, 515), rng.integers(4, 25)
        small[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = (200, 20, 170) if k % 2 else (20, 130, 170)
    hole = (y - 200) ** 2 + (x - 300) ** 2
    small[hole < 1600] = (200, 20, 170)
    small[hole < 400] = (200, 130, 170)
    return np.kron(small, np.ones((2, 2, 1), np.uint8))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return draw()


@pytest.fixture
def slide(picture: np.ndarray) -> Slide:
    return Slide(MemoryBackend(picture, mpp=1.0))


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_every_pixel_is_in_its_place(slide: Slide, picture: np.ndarray, tmp_path: Path) -> None:
    job = PredictOptions(tmp_path / "out.geojson", labels=tmp_path / "labels.zarr")
    result = predict_slide(slide, BUNDLE, ColourRule(), job)
    truth = label_of(picture[::2, ::2])
    labels = LabelMap(tmp_path / "labels.zarr")
    assert (labels.read(labels.frame.box) == truth).all()
    score = labels.read_score(labels.frame.box)
    assert set(np.unique(score[truth > 0])) <= {229, 230}
    assert not score[truth == 0].any()
    found = read_annotations(job.out)
    assert len(found.polygons) == result.objects > 10
    assert any(r.polygon.interiors for r in found.polygons)
    assert all(r.score == pytest.approx(0.9, abs=0.005) for r in found.polygons)
    level0 = rasterise(found.polygons, CLASSES, slide.frame.box, slide.frame, slide.frame)
    assert (level0 == label_of(picture)).all()
    assert found.properties["wsiseg"]["slide"] == dict(slide.identity)


class Blur:
    """Class A with the probability that the green of a pixel says: 130 is none, 10 is all."""

    identity: dict[str, Any] = {"name": "blur"}  # noqa: RUF012
    streams = 1

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        self.calls, self.before = 0, before

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.before(self.calls)
        self.calls += 1
        inside = ((130 - images[..., 1].astype(np.float32)) / 120).clip(0, 1)
        return np.stack([1 - inside, inside, 0 * inside], 1)


def test_upsampling_draws_smoother_borders_in_the_same_place(tmp_path: Path) -> None:
    centre, radius = Point(431.3, 377.6), 101.2  # level-0 px, 1 µm each
    y, x = np.mgrid[:760, :1100] + 0.5
    picture = np.full((760, 1100, 3), (200, 130, 170), np.uint8)
    distance = np.hypot(x - centre.x, y - centre.y) - radius
    picture[..., 1] = np.rint(130 - 120 / (1 + np.exp(distance / 4)))
    slide, disc = Slide(MemoryBackend(picture, mpp=1.0)), centre.buffer(radius, quad_segs=90)
    apart = {}
    for factor in (1, 2, 4):
        bundle = replace(BUNDLE, usage=replace(USAGE, upsample=factor))
        out, labels = tmp_path / f"{factor}.geojson", tmp_path / f"{factor}.zarr"
        whole = predict_slide(slide, bundle, Blur(), PredictOptions(out, labels=labels))
        assert whole.objects == 1
        assert LabelMap(labels).frame.mpp == 2.0 / factor
        found = read_annotations(out).polygons[0].polygon
        apart[factor] = found.symmetric_difference(disc).area / disc.area
        assert found.centroid.distance(centre) < 0.1

        def interrupt(call: int) -> None:
            if call == 20:
                raise KeyboardInterrupt

        again = PredictOptions(tmp_path / f"again{factor}.geojson", labels=tmp_path / f"again{factor}.zarr")
        with pytest.raises(KeyboardInterrupt):
            predict_slide(slide, bundle, Blur(interrupt), again)
        predict_slide(slide, bundle, Blur(), again)
        assert files(tmp_path / f"again{factor}.zarr") == files(labels)
    assert apart[2] < 0.6 * apart[1]
    assert apart[4] < 0.6 * apart[2]


def test_upsampled_pixels_outside_the_roi_do_not_count(slide: Slide, tmp_path: Path) -> None:
    roi = Roi((LabelledPolygon(rectangle(200, 200, 600, 500), "Region"),), {})
    bundle = replace(BUNDLE, usage=replace(USAGE, upsample=3))
    out = tmp_path / "labels.zarr"
    job = PredictOptions(tmp_path / "out.geojson", labels=out, selection=Selection(roi=roi))
    predict_slide(slide, bundle, ColourRule(), job)
    labels = LabelMap(out)
    scale = 2.0 / 3
    y, x = np.nonzero(labels.read(labels.frame.box))
    assert len(y)
    assert x.min() * scale >= 200
    assert (x.max() + 1) * scale <= 600.01
    assert y.min() * scale >= 200
    assert (y.max() + 1) * scale <= 500.01


@pytest.mark.parametrize("stop", [1, 7, 20])
def test_interrupted_and_run_again_it_goes_on_to_the_same_bytes(slide: Slide, tmp_path: Path, stop: int) -> None:
    whole = PredictOptions(tmp_path / "a" / "out.geojson", labels=tmp_path / "a" / "labels.zarr")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    engine = ColourRule()
    predict_slide(slide, BUNDLE, engine, whole)
    calls = engine.calls

    def interrupt(call: int) -> None:
        if call == stop:
            raise KeyboardInterrupt

    job = PredictOptions(tmp_path / "b" / "out.geojson", labels=tmp_path / "b" / "labels.zarr")
    with pytest.raises(KeyboardInterrupt):
        predict_slide(slide, BUNDLE, ColourRule(interrupt), job)
    assert not job.out.exists()
    assert job.labels is not None
    assert not job.labels.exists()
    second = ColourRule()
    predict_slide(slide, BUNDLE, second, job)
    if stop == 20:
        assert second.calls < calls - 5, "finished rows are not predicted again"
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_batches_that_overtake_each_other_give_the_same_bytes(slide: Slide, tmp_path: Path) -> None:
    delays = np.random.default_rng(0).uniform(0, 0.02, 1000)
    several = ColourRule(lambda call: time.sleep(delays[call]))
    several.streams = 3
    for name, engine in (("one", ColourRule()), ("several", several)):
        (tmp_path / name).mkdir()
        predict_slide(
            slide, BUNDLE, engine, PredictOptions(tmp_path / name / "out.geojson", tmp_path / name / "labels.zarr")
        )
    assert files(tmp_path / "one") == files(tmp_path / "several")


def test_several_threads_that_read_give_the_same_bytes(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    class OnGpu(ColourRule):
        identity: dict[str, Any] = {**ColourRule.identity, "device": "a GPU"}  # noqa: RUF012

    monkeypatch.setattr("wsiseg.inference.engines.engine.os.cpu_count", lambda: 4)
    assert (readers_for(ColourRule()), readers_for(OnGpu())) == (1, 3)
    for name, readers in (("one", 1), ("several", 3)):
        monkeypatch.setattr("wsiseg.inference.predict.readers_for", lambda engine, n=readers: n)
        (tmp_path / name).mkdir()
        predict_slide(slide, BUNDLE, ColourRule(), PredictOptions(tmp_path / name / "out.geojson"))
    assert files(tmp_path / "one") == files(tmp_path / "several")


def test_the_same_again_is_nothing_to_do_and_something_else_is_refused(slide: Slide, tmp_path: Path) -> None:
    job = PredictOptions(tmp_path / "out.geojson")
    first = predict_slide(slide, BUNDLE, ColourRule(), job)
    again = ColourRule()
    second = predict_slide(slide, BUNDLE, again, job)
    assert (second.objects, second.already, again.calls) == (first.objects, True, 0)
    other = replace(BUNDLE, weights_sha256="1" * 64)
    with pytest.raises(MismatchError, match="weights_sha256"):
        predict_slide(slide, other, ColourRule(), job)
    assert not predict_slide(slide, other, ColourRule(), replace(job, overwrite=True)).already
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.geojson"], "nothing else is left behind"


def test_a_file_drawn_by_hand_is_never_overwritten_unasked(slide: Slide, tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    write_annotations(out, [LabelledPolygon(rectangle(0, 0, 9, 9), "A")], classes=CLASSES)
    before = out.read_bytes()
    with pytest.raises(MismatchError, match="not written by wsiseg predict"):
        predict_slide(slide, BUNDLE, ColourRule(), PredictOptions(out))
    assert out.read_bytes() == before


def test_only_inside_the_region_of_interest(slide: Slide, picture: np.ndarray, tmp_path: Path) -> None:
    regions = [
        LabelledPolygon(rectangle(200, 160, 501, 443), "anything"),
        LabelledPolygon(rectangle(700, 300, 760, 360), None),
    ]
    roi = tmp_path / "roi.geojson"
    write_annotations(roi, regions, classes=ClassMap(("Background", "anything")))
    engine, everything = ColourRule(), ColourRule()
    job = PredictOptions(
        tmp_path / "out.geojson", labels=tmp_path / "labels.zarr", selection=Selection(roi=Roi.read(roi))
    )
    predict_slide(slide, BUNDLE, engine, job)
    predict_slide(slide, BUNDLE, everything, PredictOptions(tmp_path / "all.geojson"))
    assert engine.calls < everything.calls / 2
    labels = LabelMap(tmp_path / "labels.zarr")
    y, x = np.mgrid[: labels.frame.height, : labels.frame.width] * 2 + 1  # pixel centres at level 0
    inside = ((x > 200) & (x < 501) & (y > 160) & (y < 443)) | ((x > 700) & (x < 760) & (y > 300) & (y < 360))
    assert (labels.read(labels.frame.box) == np.where(inside, label_of(picture[::2, ::2]), 0)).all()


def test_a_slide_without_tissue_says_so(tmp_path: Path) -> None:
    empty = Slide(MemoryBackend(np.full((300, 300, 3), 245, np.uint8), mpp=1.0))
    with pytest.raises(TissueError, match="No tissue"):
        predict_slide(empty, BUNDLE, ColourRule(), PredictOptions(tmp_path / "out.geojson"))
    assert not list(tmp_path.iterdir())
    assert (
        predict_slide(
            empty, BUNDLE, ColourRule(), PredictOptions(tmp_path / "out.geojson", selection=Selection(tissue=False))
        ).objects
        == 0
    )


def test_a_model_for_finer_pixels_is_refused(slide: Slide, tmp_path: Path) -> None:
    fine = replace(BUNDLE, usage=replace(USAGE, mpp=0.25))
    with pytest.raises(BundleError, match=r"0\.25 µm/px, the slide has only 1"):
        predict_slide(slide, fine, ColourRule(), PredictOptions(tmp_path / "out.geojson"))


def test_a_read_error_in_one_tile_loses_nothing_finished(slide: Slide, tmp_path: Path, monkeypatch) -> None:
    good = slide.read
    job = PredictOptions(tmp_path / "out.geojson", labels=tmp_path / "labels.zarr")

    def bad(box, frame):
        if box.h == USAGE.tile and box.y > 200:
            raise SlideError("slide.svs: level-0 pixels cannot be read")
        return good(box, frame)

    monkeypatch.setattr(slide, "read", bad)
    with pytest.raises(SlideError, match="cannot be read"):
        predict_slide(slide, BUNDLE, ColourRule(), job)
    assert not job.out.exists()
    monkeypatch.setattr(slide, "read", good)
    first, whole = ColourRule(), ColourRule()
    predict_slide(slide, BUNDLE, first, job)
    predict_slide(slide, BUNDLE, whole, PredictOptions(tmp_path / "whole.geojson"))
    assert first.calls < whole.calls
    assert job.out.read_bytes() == (tmp_path / "whole.geojson").read_bytes()


def test_whole_objects_have_the_class_of_most_of_their_pixels(slide: Slide, tmp_path: Path) -> None:
    """Joined whatever their classes, and painted again: the map's objects, each of one class."""
    whole = replace(BUNDLE, usage=replace(USAGE, postprocessing=Postprocessing(whole_objects=True)))
    predict_slide(slide, whole, ColourRule(), PredictOptions(tmp_path / "whole.geojson", tmp_path / "labels.zarr"))
    labels = LabelMap(tmp_path / "labels.zarr")
    pixels = labels.read(labels.frame.box)
    regions = read_annotations(tmp_path / "whole.geojson").polygons
    parts, count = ndimage.label(pixels > 0)  # neighbours along rows and columns
    assert len(regions) == count
    assert count < sum(ndimage.label(pixels == c)[1] for c in (1, 2)), "some objects touch, or this shows nothing"
    painted = rasterise(regions, CLASSES, labels.frame.box, labels.frame, labels.level0)
    assert np.array_equal(painted > 0, pixels > 0)
    for number in range(1, count + 1):
        inside = parts == number
        most = np.bincount(pixels[inside], minlength=3)
        assert np.unique(painted[inside]).tolist() == [int(most.argmax())] or most[1] == most[2]


@pytest.mark.parametrize("whole", [False, True])
def test_large_objects_are_looked_at_in_strips(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """And come to the same class and score."""
    predict_slide(slide, BUNDLE, ColourRule(), PredictOptions(tmp_path / "out.geojson", tmp_path / "labels.zarr"))
    labels = LabelMap(tmp_path / "labels.zarr")
    before = list(labels.objects(Postprocessing(whole_objects=whole)))
    assert max(r.polygon.envelope.area for r in before) / 4 > 200
    monkeypatch.setattr("wsiseg.stores.objects.STRIP_PX", 200)
    assert list(labels.objects(Postprocessing(whole_objects=whole))) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("call", [0, 3])
def test_what_is_not_finite_is_no_background(slide: Slide, tmp_path: Path, value: float, call: int) -> None:
    """A single NaN, in whatever batch, ends the prediction: it would be background, and nobody would know."""

    class Spoilt(ColourRule):
        def probabilities(self, images: np.ndarray) -> np.ndarray:
            found = super().probabilities(images)
            if self.calls == call + 1:
                found[-1, 1, 5, 7] = value
            return found

    options = PredictOptions(tmp_path / "out.geojson", labels=tmp_path / "labels.zarr")
    with pytest.raises(BundleError, match="finite numbers"):
        predict_slide(slide, BUNDLE, Spoilt(), options)
    assert not options.out.exists()
    assert not (tmp_path / "labels.zarr").exists()
