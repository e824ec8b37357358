"""One prediction, one set of objects: a label map and the file that was written of it mean the same everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_predict import BUNDLE, CLASSES, USAGE, ColourRule, picture, slide  # noqa: F401
from tests.test_stages import COARSE, FINE, dots, islands
from tests.test_stages import slide as island_slide  # noqa: F401
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.classes import ClassMap
from wsiseg.errors import ClassError, MismatchError, StoreError
from wsiseg.evaluation.compare import ClassChoice, compare_files
from wsiseg.export import export
from wsiseg.inference.cascade import predict_cascade
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.measure.files import read_all
from wsiseg.slides.memory import memory_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.prediction import read_prediction
from wsiseg.usage import Postprocessing

OWN = Postprocessing(min_object_um2=400.0, min_hole_um2=900.0, whole_objects=True, split_distance_um=8.0)


@pytest.fixture
def pair(slide: Slide, tmp_path: Path) -> tuple[Path, Path]:  # noqa: F811
    """A prediction as GeoJSON and as a label map, by a model whose settings leave much out."""
    bundle = replace(BUNDLE, usage=replace(USAGE, postprocessing=OWN))
    options = PredictOptions(tmp_path / "p.geojson", labels=tmp_path / "p.zarr")
    predict_slide(slide, bundle, ColourRule(), options)
    plain = list(LabelMap(tmp_path / "p.zarr").objects(Postprocessing()))
    assert len(plain) != len(read_annotations(options.out).polygons) > 3, "the settings matter here"
    return options.out, tmp_path / "p.zarr"


def test_a_label_map_gives_the_objects_that_predict_wrote(pair: tuple[Path, Path], slide: Slide) -> None:  # noqa: F811
    file, labels = map(read_prediction, pair)
    assert labels.labels is not None
    assert labels.labels.postprocessing == OWN
    assert file.classes == labels.classes == CLASSES
    assert file.level0 == labels.level0 == slide.frame
    assert file.manifest == json.loads(json.dumps(labels.manifest))
    for found in (labels.annotations.polygons, read_all([pair[1]], slide).polygons):
        assert [(p.label, p.polygon.area) for p in found] == [
            (p.label, p.polygon.area) for p in file.annotations.polygons
        ]


def test_export_writes_what_predict_wrote(pair: tuple[Path, Path], tmp_path: Path) -> None:
    export(pair[1], tmp_path / "again.geojson")
    assert (tmp_path / "again.geojson").read_bytes() == pair[0].read_bytes()
    export(pair[1], tmp_path / "more.geojson", postprocessing={"min_object_um2": 0.0})
    more, fewer = (len(read_annotations(path).polygons) for path in (tmp_path / "more.geojson", pair[0]))
    assert more > fewer


def test_evaluation_counts_the_same_objects(pair: tuple[Path, Path], slide: Slide) -> None:  # noqa: F811
    for reference in pair[:1]:
        by_file, by_map = (compare_files(slide, reference, p, 2.0)[0] for p in pair)
        assert by_file.objects == by_map.objects
        assert by_map.any_object.unmatched == ()
        assert by_map.any_object.missed == ()


def test_the_label_map_of_a_cascade_has_the_objects_of_both_models(
    island_slide: Slide,  # noqa: F811
    tmp_path: Path,
) -> None:
    out, labels = tmp_path / "p.geojson", tmp_path / "p.zarr"
    predict_cascade(island_slide, (COARSE, islands()), (FINE, dots()), PredictOptions(out, labels=labels))
    export(labels, tmp_path / "again.geojson")
    assert (tmp_path / "again.geojson").read_bytes() == out.read_bytes()
    by_file, by_map = (compare_files(island_slide, out, p, 1.0)[0] for p in (out, labels))
    assert by_file.objects == by_map.objects
    assert {name: len(m.found) for name, m in by_map.objects.items()} == {"Island": 2, "Dot": 3}
    assert (by_file.confusion == by_map.confusion).all()


def test_classes_can_be_chosen_and_ignored(pair: tuple[Path, Path], slide: Slide, tmp_path: Path) -> None:  # noqa: F811
    found = read_annotations(pair[0]).polygons
    more = [*found, replace(found[0], label="Tubule")]
    reference = tmp_path / "reference.geojson"
    write_annotations(reference, more, classes=ClassMap(("Background", "A", "B", "Tubule")))
    with pytest.raises(ClassError, match=r"reference\.geojson.*'Tubule'.*--ignore-class") as caught:
        compare_files(slide, reference, pair[0], 2.0)
    assert "\n" not in str(caught.value)
    for prediction in pair:
        only, classes = compare_files(slide, reference, prediction, 2.0, choice=ClassChoice(only=("A",)))
        assert classes.names == ("Background", "A")
        assert set(only.objects) == {"A"}
        ignoring, classes = compare_files(slide, reference, prediction, 2.0, choice=ClassChoice(ignore=("Tubule", "B")))
        assert classes.names == ("Background", "A")
        whole, _ = compare_files(slide, pair[0], prediction, 2.0)
        assert ignoring.confusion.sum() < whole.confusion.sum(), "ignored pixels do not count"
    with pytest.raises(ClassError, match="'C' is unknown"):
        compare_files(slide, reference, pair[0], 2.0, choice=ClassChoice(only=("C",)))
    with pytest.raises(ClassError, match="No class is left"):
        compare_files(slide, reference, pair[0], 2.0, choice=ClassChoice(ignore=("A", "B", "Tubule")))


def test_another_slide_is_refused_for_either_kind(pair: tuple[Path, Path], picture: Any) -> None:  # noqa: F811
    other = memory_slide(picture, 0.7, (), "other.slide")
    for prediction in pair:
        with pytest.raises(MismatchError, match="another size or µm/px"):
            compare_files(other, pair[0], prediction, 2.0)


def test_label_maps_of_version_0_1_are_read(pair: tuple[Path, Path]) -> None:
    claim = pair[1] / "claim.json"
    manifest = json.loads(claim.read_text())
    usage = manifest["model"]["usage"]
    nested = usage.pop("postprocessing")
    nested.pop("simplify_um")
    nested["separate_um"] = nested.pop("split_distance_um")
    renamed = {"foreground_threshold": "object_above", "tta": "flips", "parent_margin_um": "within_margin_um"}
    manifest["model"]["usage"] = {renamed.get(key, key): value for key, value in (usage | nested).items()}
    claim.write_text(json.dumps(manifest))
    assert LabelMap(pair[1]).postprocessing == OWN


@pytest.mark.parametrize(
    "change",
    [
        {"classes": []},
        {"grid": None},
        {"level0": {"width": 1}},
        {"model": {"usage": {"mpp": True}}},
        {"model": 3},
        {"grid": {"frame": {"width": float("inf"), "height": 1, "mpp": 1, "mpp_y": 1}, "size": 1, "overlap": 0}},
    ],
)
def test_a_damaged_manifest_is_one_sentence(pair: tuple[Path, Path], change: dict[str, Any]) -> None:
    claim = pair[1] / "claim.json"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | change))
    with pytest.raises(StoreError, match="damaged") as caught:
        read_prediction(pair[1])
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_label_map_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="not made by wsiseg"):
        read_prediction(tmp_path / "folder")
    with pytest.raises(StoreError, match="no label map at"):
        read_prediction(tmp_path / "none.zarr")
