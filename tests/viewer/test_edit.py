"""Drawing and correcting by hand: the geometry, the reviewed file, the next session, and a training that learns it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely import LineString, Point, Polygon, box
from starlette.testclient import TestClient

from tests.viewer.conftest import HOST
from tests.viewer.scenes import CLASSES, FRAME, outlines, small_slide, write
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.cli import wsiseg
from wsiseg.slides.open import open_slide
from wsiseg.stores.tiles import TileStore
from wsiseg.synthetic import SlideSpec, generate, write_slide
from wsiseg.viewer import review as module
from wsiseg.viewer.app import make_app
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.scene import Scene, open_scene
from wsiseg.viewer.style import Style

LAYER = 1
SIZE = len(outlines())


def send(client: TestClient, route: str, body: object = None) -> Any:
    return client.post(f"/api/layers/{LAYER}/{route}", json={} if body is None else body)


def edit(client: TestClient, tool: str, points: Any = (), **more: Any) -> list[dict[str, Any]]:
    """The objects that are left by an edit."""
    answer = send(client, "edit", {"tool": tool, "points": [list(map(float, p)) for p in points], **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["objects"]


def polygons(scene: Scene) -> list[LabelledPolygon]:
    """All objects that are there."""
    layer = scene.layers[LAYER]
    assert isinstance(layer, OutlineLayer)
    return [p for p, state in zip(layer.polygons, layer.state, strict=True) if state < 2]


def listed(client: TestClient) -> set[int]:
    rows = client.get(f"/api/layers/{LAYER}/objects", params={"limit": 200}).json()["rows"]
    return {row["n"] for row in rows}


def test_a_missed_glomerulus_is_drawn(client: TestClient, scene: Scene) -> None:
    corners = [(1200, 100), (1300, 110), (1280, 220), (1190, 200)]
    (row,) = edit(client, "polygon", corners, label="Sclerotic glomerulus")
    assert (row["n"], row["label"], row["state"], row["drawn"]) == (SIZE, "Sclerotic glomerulus", "accepted", True)
    assert row["area"] == pytest.approx(Polygon(corners).area * 0.25, rel=1e-3)
    assert client.get(f"/api/layers/{LAYER}/at?x=1240&y=150").json()["n"] == SIZE
    about = client.get(f"/api/layers/{LAYER}").json()
    assert (about["objects"], about["states"]) == (SIZE + 1, {"unreviewed": SIZE, "accepted": 1, "rejected": 0})

    found = read_annotations(scene.reviews[LAYER].path).polygons
    assert [p.label for p in found] == ["Ignore*"] * SIZE + ["Sclerotic glomerulus"]
    assert found[-1].polygon.equals(Polygon(corners))
    assert (found[-1].details.metadata, found[-1].score) == ({"wsiseg": "drawn by hand"}, None)

    for route, left, files in (("undo", [], SIZE), ("redo", [SIZE], SIZE + 1)):
        assert [row["n"] for row in send(client, route).json()["objects"]] == left
        assert len(read_annotations(scene.reviews[LAYER].path).polygons) == files
        assert (SIZE in listed(client)) == bool(left)
    assert send(client, "redo").json() == {"error": "There is nothing to redo."}


def test_a_drawn_object_is_painted(client: TestClient, scene: Scene) -> None:
    layer = scene.layers[LAYER]
    before = layer.revision
    edit(client, "polygon", [(1200, 100), (1300, 100), (1300, 200), (1200, 200)], label="Vessel")
    assert layer.revision > before, "the browser asks for new tiles"
    client.get("/tiles/1/0/2/0.png")
    labels = rasterise(polygons(scene), CLASSES, FRAME.box, FRAME, FRAME)
    index, _ = layer.tile(FRAME.box, FRAME, Style())
    assert np.array_equal(index > 0, labels > 0)
    assert (labels[100:200, 1200:1300] == 2).all()


def test_the_brush_adds_and_the_eraser_takes_away(client: TestClient, scene: Scene) -> None:
    original = outlines()[11].polygon  # a box of 200 × 50 px
    (row,) = edit(client, "brush", [(710, 65), (710, 120)], radius=10.0)
    added = original | LineString([(710, 65), (710, 120)]).buffer(10)
    now = polygons(scene)[-1].polygon
    assert row["n"] == SIZE
    assert now.symmetric_difference(added).area < 0.002 * added.area
    assert 11 not in listed(client), "the old outline is replaced"
    assert row["label"] == "Glomerulus"
    assert (row["score"], row["measurements"]) == (None, {}), "they were those of another outline"
    assert polygons(scene)[-1].details.metadata == {"wsiseg": "corrected by hand"}

    (row,) = edit(client, "eraser", [(890, 30), (890, 95)], radius=15.0, objects=[row["n"]])
    taken = added - LineString([(890, 30), (890, 95)]).buffer(15)
    now = polygons(scene)[-1].polygon
    assert now.area == pytest.approx(max(p.area for p in shapely.get_parts(taken)), rel=0.01)

    rows = edit(client, "eraser", [(800, 30), (800, 95)], radius=5.0)
    assert len(rows) == 2, "what falls apart becomes two objects"
    (new,) = edit(client, "brush", [(1200, 100)], radius=30.0, label="Vessel")
    assert new["area"] == pytest.approx(Point(0, 0).buffer(30).area * 0.25, rel=0.02)
    assert new["label"] == "Vessel"

    for _ in range(4):
        assert send(client, "undo").status_code == 200
    assert [p.id for p in polygons(scene)] == [p.id for p in polygons(scene)[:SIZE]]
    assert listed(client) == set(range(SIZE))
    found = read_annotations(scene.reviews[LAYER].path)
    assert len(found.polygons) == SIZE
    assert found.about["drawn"] == found.about["replaced"] == []


def test_split_and_merge(client: TestClient, scene: Scene) -> None:
    rows = edit(client, "split", [(790, 20), (800, 110)])
    assert [row["label"] for row in rows] == ["Glomerulus"] * 2
    pieces = [p.polygon for p in polygons(scene)[-2:]]
    assert shapely.union_all(pieces).symmetric_difference(outlines()[11].polygon).area < 0.1
    assert pieces[0].intersection(pieces[1]).area < 0.01
    (row,) = edit(client, "merge", objects=[row["n"] for row in rows])
    assert polygons(scene)[-1].polygon.symmetric_difference(outlines()[11].polygon).area < 0.1
    assert row["area"] == pytest.approx(2500, rel=1e-3)
    about = read_annotations(scene.reviews[LAYER].path).about
    assert about["replaced"] == [11]
    assert len(about["drawn"]) == 1


def test_several_objects_get_a_class_or_are_deleted(client: TestClient, scene: Scene) -> None:
    (drawn,) = edit(client, "polygon", [(1200, 100), (1300, 100), (1250, 200)], label="Vessel")
    rows = edit(client, "class", objects=[0, 1, drawn["n"]], label="Sclerotic glomerulus")
    assert {(row["label"], row["state"]) for row in rows} == {("Sclerotic glomerulus", "accepted")}
    rows = edit(client, "delete", objects=[1, drawn["n"]])
    assert [(row["n"], row["state"]) for row in rows] == [(1, "rejected")]
    assert client.get(f"/api/layers/{LAYER}").json()["states"]["rejected"] == 1
    assert drawn["n"] not in listed(client)
    send(client, "undo")
    assert drawn["n"] in listed(client)
    send(client, f"objects/{drawn['n']}", {"state": "unreviewed"})
    assert polygons(scene)[-1].label, "what was drawn is a statement"
    assert read_annotations(scene.reviews[LAYER].path).polygons[-1].label == "Sclerotic glomerulus"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tool": "polygon", "points": [[1, 1], [2, 2]], "label": "Vessel"}, "three corners"),
        ({"tool": "polygon", "points": [[1, 1], [2, 2], [3, 3]], "label": "Vessel"}, "no area"),
        ({"tool": "polygon", "points": [[-9, -9], [-5, -9], [-9, -5]], "label": "Vessel"}, "no area"),
        ({"tool": "polygon", "points": [[1, 1], [50, 1], [3, 30]], "label": "Tubule"}, "no such class"),
        ({"tool": "polygon", "points": [[1, 1], [50, 1], [3, 30]]}, "no such class"),
        ({"tool": "brush", "points": []}, "Nothing was drawn"),
        ({"tool": "eraser", "points": [[5, 5]]}, "touches no object"),
        ({"tool": "split", "points": [[5, 5], [9, 9]]}, "divides no object"),
        ({"tool": "split", "points": [[790, 60], [810, 70]]}, "divides no object"),
        ({"tool": "split", "points": [[790, 60]]}, "divides no object"),
        ({"tool": "merge", "objects": [1]}, "two or more"),
        ({"tool": "merge", "objects": [1, 99]}, "no longer there"),
        ({"tool": "merge", "objects": [1, -1]}, "no longer there"),
        ({"tool": "delete"}, "Select an object"),
        ({"tool": "class", "objects": [1], "label": "Tubule"}, "no such class"),
        ({"tool": "polygon", "points": [[1, 1], [1e9, 1], [3, 30]], "label": "Vessel"}, "no edit"),
        ({"tool": "polygon", "points": [[1, "x"]]}, "no edit"),
        ({"tool": "brush", "points": [[1, 1]], "radius": 0}, "no edit"),
        ({"tool": "lasso"}, "no edit"),
        ({"tool": "merge", "more": 1}, "no edit"),
        ([], "no edit"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client: TestClient, scene: Scene, body: object, said: str) -> None:
    answer = send(client, "edit", body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert answer.json()["error"].endswith(".")
    assert "\n" not in answer.json()["error"]
    assert not scene.reviews[LAYER].path.exists()
    assert scene.layers[LAYER].revision == 0


REAL = st.floats(-200, 1700) | st.floats() | st.integers(-5, 1600)
BODY = st.fixed_dictionaries(
    {"tool": st.sampled_from(["polygon", "brush", "eraser", "split", "merge", "delete", "class"])},
    optional={
        "points": st.lists(st.lists(REAL, min_size=2, max_size=2), max_size=12),
        "radius": st.floats(-1, 300),
        "objects": st.lists(st.integers(-1, 30), max_size=4),
        "label": st.sampled_from(["Glomerulus", "Vessel", "Sclerotic glomerulus", "x", None]),
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODY, back=st.booleans())
def test_no_edit_breaks_the_server(client: TestClient, scene: Scene, body: dict[str, Any], back: bool) -> None:
    kind = {"Content-Type": "application/json"}
    answer = client.post(f"/api/layers/{LAYER}/edit", content=json.dumps(body), headers=kind)
    assert answer.status_code in (200, 400), answer.text
    assert all(p.polygon.is_valid and not p.polygon.is_empty for p in polygons(scene))
    if back and answer.status_code == 200:
        assert send(client, "undo").status_code == 200
    assert client.get(f"/tiles/{LAYER}/2/0/0.png").status_code == 200


def test_the_next_session_has_what_was_drawn(client: TestClient, scene: Scene) -> None:
    edit(client, "polygon", [(1200, 100), (1300, 100), (1250, 200)], label="Vessel")
    edit(client, "split", [(790, 20), (800, 110)])
    send(client, "objects/3", {"state": "rejected"})
    before = [(p.label, p.polygon.wkt) for p in read_annotations(scene.reviews[LAYER].path).polygons]
    again = open_scene(small_slide(), [scene.reviews[LAYER].source], classes=["Sclerotic glomerulus"])
    assert len(polygons(again)) == len(polygons(scene))
    with TestClient(make_app(again), base_url=HOST) as next_client:
        assert send(next_client, "undo").json()["error"] == "There is nothing to undo."
        (row,) = edit(next_client, "brush", [(1250, 110), (1250, 90)], radius=8.0)
        assert row["label"] == "Vessel"
        send(next_client, "undo")
    again.close()
    assert sorted(before) == sorted(
        (p.label, p.polygon.wkt) for p in read_annotations(scene.reviews[LAYER].path).polygons
    )


def test_a_journal_keeps_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REWRITTEN", 3)
    source = write(tmp_path / "large.geojson", outlines())
    scene = open_scene(small_slide(), [source])
    with TestClient(make_app(scene), base_url=HOST) as client:
        edit(client, "polygon", [(1200, 100), (1300, 100), (1250, 200)], label="Vessel")
        edit(client, "split", [(790, 20), (800, 110)])
        edit(client, "brush", [(1000, 100)], radius=9.0, label="Vessel")
        send(client, "undo")
        send(client, "accept", {})
    review = scene.reviews[LAYER]
    journal, wanted = review.journal.read_bytes(), [(p.label, round(p.polygon.area)) for p in polygons(scene)]
    scene.close()
    review.path.unlink()
    review.journal.write_bytes(journal)
    again = open_scene(small_slide(), [source])
    assert [(p.label, round(p.polygon.area)) for p in polygons(again)] == wanted
    again.close()
    found = read_annotations(review.path)
    assert (len(found.polygons), len(found.about["drawn"]), found.about["replaced"]) == (SIZE + 2, 3, [11])


def test_drawing_begins_on_a_file_without_objects(tmp_path: Path) -> None:
    source = tmp_path / "none.geojson"
    write_annotations(source, [], classes=CLASSES)
    scene = open_scene(small_slide(), [source], classes=["Glomerulus"])
    with TestClient(make_app(scene), base_url=HOST) as client:
        edit(client, "polygon", [(200, 100), (300, 100), (250, 200)], label="Glomerulus")
    scene.close()
    assert [p.label for p in read_annotations(scene.reviews[LAYER].path).polygons] == ["Glomerulus"]


RECIPE = """
name = "corrected"
[classes]
names = ["Background", "Glomerulus"]
[data]
slides = "slides.csv"
mpp = 4.0
tile = 64
[model]
encoder = "tu-test_resnet"
weights = "none"
decoder_channels = 16
[training]
steps = 2
batch = 2
crop = 64
loaders = 0
evaluate_every = 2
checkpoint_every = 2
[predict]
tile = 128
overlap = 32
"""


def test_training_learns_what_was_drawn_in_the_viewer(tmp_path: Path) -> None:
    """Viewer, reviewed file, annotations, tiles: the drawn glomerulus is in the labels, the undecided are ignored."""
    rows = [["slide", "annotations", "patient", "split"]]
    classes = ClassMap(("Background", "Glomerulus"))
    for seed, side in ((1, "train"), (3, "validation")):
        made = generate(SlideSpec(seed=seed, width_um=1600, height_um=1200, mpp=2.0))
        write_slide(made, tmp_path / f"{seed}.svs")
        found = [LabelledPolygon(box(40, 40, 100, 100), "Glomerulus", score=0.4)]
        write_annotations(tmp_path / f"{seed}.geojson", found, classes=classes)
        scene = open_scene(open_slide(tmp_path / f"{seed}.svs"), [tmp_path / f"{seed}.geojson"])
        with TestClient(make_app(scene), base_url=HOST) as client:
            edit(client, "polygon", [(200, 200), (320, 200), (320, 320), (200, 320)], label="Glomerulus")
        scene.close()
        reviewed = scene.reviews[LAYER].path
        (ignored, drawn) = read_annotations(reviewed).polygons
        assert (ignored.label, drawn.label, drawn.polygon.area) == ("Ignore*", "Glomerulus", 120 * 120)
        rows.append([f"{seed}.svs", reviewed.name, f"p{seed}", side])
    with (tmp_path / "slides.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(wsiseg, words)
    assert done.exit_code == 0, done.output
    store = TileStore(tmp_path / "run" / "tiles" / "1.zarr")
    labels = np.concatenate([store.label(n).ravel() for n in range(len(store))])
    assert (labels == 1).sum() >= 60 * 60, "the drawn glomerulus, 120 px at 2 µm, has 60 × 60 px at 4 µm"
    assert (labels == IGNORE).sum() > 0
