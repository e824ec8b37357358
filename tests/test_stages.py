"""Two models, one inside what the other finds: coarse islands, fine dots in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import union_all

from wsiseg.annotations.formats import read_annotations
from wsiseg.bundle import ModelBundle, Usage, load_bundle, save_bundle
from wsiseg.classes import ClassMap, joined
from wsiseg.errors import BundleError, ClassError
from wsiseg.evaluation.compare import compare_files
from wsiseg.export import export
from wsiseg.inference.cascade import parent_file, predict_cascade
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide
from wsiseg.usage import Postprocessing
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.scene import open_scene

PLAIN = Architecture("none", 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
COARSE = ModelBundle(
    "islands",
    ClassMap(("Background", "Island")),
    Usage(4.0, 64, 16, 2, postprocessing=Postprocessing(min_hole_um2=900)),
    PLAIN,
    "0" * 64,
)
FINE = ModelBundle(
    "dots", ClassMap(("Background", "Dot")), Usage(1.0, 64, 16, 2, parent_margin_um=4.0), PLAIN, "1" * 64
)  # fmt: skip
ISLAND, DOT, TISSUE = (190, 60, 160), (30, 130, 160), (200, 140, 170)


class Rule:
    """A class for what is darker than a limit in green or in red."""

    streams = 1

    def __init__(self, name: str, channel: int, below: int, before: Callable[[int], None] = lambda call: None) -> None:
        self.identity: dict[str, Any] = {"name": name}
        self.channel, self.below, self.before, self.calls, self.pixels = channel, below, before, 0, 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.before(self.calls)
        self.calls += 1
        self.pixels += images[..., 0].size
        found = images[..., self.channel] < self.below
        return np.stack([np.where(found, 0.1, 0.9), np.where(found, 0.9, 0.1)], 1).astype(np.float32)


def islands() -> Rule:
    return Rule("islands", 1, 100)


def dots(before: Callable[[int], None] = lambda call: None) -> Rule:
    return Rule("dots", 0, 100, before)


@pytest.fixture
def slide() -> Slide:
    pixels = np.full((800, 1000, 3), 245, np.uint8)
    pixels[40:760, 40:960] = TISSUE
    y, x = np.mgrid[:800, :1000]
    for cx, cy in ((240, 240), (700, 520)):
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < 80**2] = ISLAND
    for cx, cy in ((220, 230), (270, 250), (690, 500), (500, 120), (860, 200)):  # the last two are on no island
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < 8**2] = DOT
    return Slide(MemoryBackend(pixels, mpp=1.0))


def test_dots_are_found_on_islands_alone(slide: Slide, tmp_path: Path) -> None:
    job, everywhere = PredictOptions(tmp_path / "out.geojson"), dots()
    fine = dots()
    result = predict_cascade(slide, (COARSE, islands()), (FINE, fine), job)
    found = read_annotations(job.out)
    assert Counter(r.label for r in found.polygons) == {"Dot": 3, "Island": 2}
    assert result.objects == 5
    shape = union_all([r.polygon for r in found.polygons if r.label == "Island"])
    assert all(shape.contains(r.polygon) for r in found.polygons if r.label == "Dot")
    assert found.properties["wsiseg"]["first"]["model"]["name"] == "islands"
    assert Counter(r.label for r in read_annotations(parent_file(job.out)).polygons) == {"Island": 2}
    predict_slide(slide, FINE, everywhere, PredictOptions(tmp_path / "all.geojson"))
    assert fine.pixels < 0.5 * everywhere.pixels
    again = predict_cascade(slide, (COARSE, islands()), (FINE, dots()), job)
    assert (again.objects, again.already) == (5, True)


def test_the_file_of_two_models_knows_the_classes_of_both(slide: Slide, tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    predict_cascade(slide, (COARSE, islands()), (FINE, dots()), PredictOptions(out))
    assert read_annotations(out).classes == joined(COARSE.classes, FINE.classes)
    found, classes = compare_files(slide, out, out, 1.0)
    assert classes.names == ("Background", "Island", "Dot")
    assert (len(found.any_object.found), found.any_object.missed, found.any_object.unmatched) == (5, (), ())
    export(out, tmp_path / "again.geojson")
    assert Counter(r.label for r in read_annotations(tmp_path / "again.geojson").polygons) == {"Dot": 3, "Island": 2}
    layer = next(layer for layer in open_scene(slide, [out]).layers if isinstance(layer, OutlineLayer))
    colours = dict(zip(layer.names, layer.colours, strict=True))
    both = joined(COARSE.classes, FINE.classes)
    assert (colours["Island"], colours["Dot"]) == both.colours[1:]


@pytest.mark.parametrize("stop", [0, 3])
def test_stopped_within_the_fine_model_it_goes_on_to_the_same_bytes(slide: Slide, tmp_path: Path, stop: int) -> None:
    whole, broken = PredictOptions(tmp_path / "whole.geojson"), PredictOptions(tmp_path / "broken.geojson")
    predict_cascade(slide, (COARSE, islands()), (FINE, dots()), whole)

    def interrupt(call: int) -> None:
        if call == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_cascade(slide, (COARSE, islands()), (FINE, dots(interrupt)), broken)
    assert not broken.out.exists()
    coarse = islands()
    predict_cascade(slide, (COARSE, coarse), (FINE, dots()), broken)
    assert coarse.calls == 0
    assert broken.out.read_bytes() == whole.out.read_bytes()


def test_where_nothing_is_found_first_the_result_is_empty(slide: Slide, tmp_path: Path) -> None:
    fine = dots()
    result = predict_cascade(
        slide, (COARSE, Rule("islands", 1, 0)), (FINE, fine), PredictOptions(tmp_path / "out.geojson")
    )
    assert (result.objects, fine.calls) == (0, 0)
    assert not read_annotations(tmp_path / "out.geojson").polygons


def test_two_models_may_not_name_a_class_alike(slide: Slide, tmp_path: Path) -> None:
    other = replace(FINE, classes=COARSE.classes)
    with pytest.raises(ClassError, match="'Island'"):
        predict_cascade(slide, (COARSE, islands()), (other, dots()), PredictOptions(tmp_path / "out.geojson"))
    assert not (tmp_path / "out.geojson").exists()


def test_joined_classes_have_colours_of_their_own() -> None:
    first, second = ClassMap(("Background", "A", "B")), ClassMap(("Background", "C", "D"))
    both = joined(first, second)
    assert both.names == ("Background", "A", "B", "C", "D")
    assert both.colours[:3] == first.colours
    assert len(set(both.colours)) == 5


def test_a_bundle_brings_the_model_before_it(tmp_path: Path) -> None:
    net = SegmentationNet(Architecture("tu-test_resnet", 2, (0.5,) * 3, (0.5,) * 3, 16))
    about: dict[str, Any] = {"classes": COARSE.classes, "provenance": {}, "metrics": {}}
    save_bundle(tmp_path / "first", net, name="islands", usage=COARSE.usage, **about)
    save_bundle(tmp_path / "pair", net, name="dots", usage=FINE.usage, parent=tmp_path / "first", **about)
    pair = load_bundle(tmp_path / "pair")
    assert pair.parent is not None
    assert (pair.parent.name, pair.parent.usage) == ("islands", COARSE.usage)
    assert load_bundle(tmp_path / "first").parent is None
    with pytest.raises(BundleError, match="no model bundle"):
        save_bundle(tmp_path / "other", net, name="dots", usage=FINE.usage, parent=tmp_path / "gone", **about)
    assert not (tmp_path / "other").exists()
