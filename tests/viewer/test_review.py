"""Decisions go into a new file that trains, and come back in the next session."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from shapely import box
from starlette.testclient import TestClient

from tests.viewer.conftest import HOST
from tests.viewer.scenes import CLASSES, FRAME, outlines, small_slide, write
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import Details, LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import BusyError, MismatchError, OutputError
from wsiseg.viewer import review as module
from wsiseg.viewer.app import make_app
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.review import reviewed_path
from wsiseg.viewer.scene import Scene, open_scene

LAYER = 1


def decide(client: TestClient, number: int, state: str, label: str | None = None) -> dict:
    answer = client.post(f"/api/layers/{LAYER}/objects/{number}", json={"state": state, "label": label})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("source", "reviewed"),
    [
        ("a.geojson", "a.reviewed.geojson"),
        ("a.b.GeoJSON.gz", "a.b.reviewed.geojson"),
        ("a.xml", "a.reviewed.geojson"),
        ("slide.svs.json", "slide.svs.reviewed.geojson"),
    ],
)
def test_the_name_of_the_reviewed_file(source: str, reviewed: str) -> None:
    assert reviewed_path(Path("x") / source) == Path("x") / reviewed


def test_a_review_becomes_annotations(client: TestClient, scene: Scene) -> None:
    source, path = scene.reviews[LAYER].source, scene.reviews[LAYER].path
    before = hashlib.sha256(source.read_bytes()).digest()
    assert not path.exists(), "nothing is written before anybody decides"
    assert decide(client, 0, "accepted")["state"] == "accepted"
    assert decide(client, 1, "accepted", "Sclerotic glomerulus")["label"] == "Sclerotic glomerulus"
    decide(client, 2, "rejected")
    assert not client.get(f"/api/layers/{LAYER}").json()["unsaved"]
    assert hashlib.sha256(source.read_bytes()).digest() == before, "the original is never touched"

    original, found = read_annotations(source).polygons, read_annotations(path).polygons
    assert len(found) == len(original) - 1
    assert [r.label for r in found] == ["Glomerulus", "Sclerotic glomerulus", *["Ignore*"] * (len(original) - 3)]
    kept = [r for n, r in enumerate(original) if n != 2]
    assert [r.id for r in found] == [r.id for r in kept]
    assert all(a.polygon.equals(b.polygon) for a, b in zip(found, kept, strict=True))

    classes = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
    labels = rasterise(found, classes, FRAME.box, FRAME, FRAME)
    wanted = rasterise(original, CLASSES, FRAME.box, FRAME, FRAME)
    rejected = rasterise([original[2]], CLASSES, FRAME.box, FRAME, FRAME) > 0
    assert not labels[rejected].any(), "what was rejected is background"
    assert set(np.unique(labels[(wanted > 0) & ~rejected])) == {1, 2, IGNORE}

    about = client.get(f"/api/layers/{LAYER}").json()
    assert about["states"] == {"unreviewed": len(original) - 3, "accepted": 2, "rejected": 1}
    assert about["classes"][-1] == {"name": "Rejected", "colour": [128, 128, 128], "count": 1}
    assert about["revision"] == 3


def test_accepted_objects_inside_undecided_ones_keep_all_their_pixels(tmp_path: Path) -> None:
    classes = ClassMap(("Background", "Glomerulus", "Podocyte"))
    nuclei = [LabelledPolygon(box(x, 40, x + 4, 44), "Podocyte") for x in range(20, 80, 6)]
    both = [LabelledPolygon(box(10, 10, 76, 90), "Glomerulus", details=Details("detection", "G1")), *nuclei]
    source = tmp_path / "a.geojson"
    write_annotations(source, both, classes=classes)
    scene = open_scene(small_slide(), [source])
    review = scene.reviews[LAYER]
    for number in range(1, len(both)):
        assert review.decide([number], "accepted", None)
    scene.close()
    found = read_annotations(review.path).polygons
    assert next((p.label, p.details.kind, p.details.name) for p in found) == ("Ignore*", "detection", "G1")
    for polygons in (found, take_in(review.path).polygons):
        labels = rasterise(polygons, classes, FRAME.box, FRAME, FRAME)
        assert (labels == 2).sum() == len(nuclei) * 16
        inside = (labels[10:90, 10:76] == 2).sum()
        assert (labels == IGNORE).sum() == 66 * 80 - inside


def test_a_review_of_version_0_1_keeps_accepted_pixels_too(tmp_path: Path) -> None:
    """Its undecided objects lie whole over the accepted ones."""
    classes = ClassMap(("Background", "Podocyte"))
    whole = [LabelledPolygon(box(10, 10, 70, 90), "Ignore*"), LabelledPolygon(box(20, 20, 30, 30), "Podocyte")]
    path = tmp_path / "a.reviewed.geojson"
    write_annotations(path, whole, classes=classes, properties={"wsiseg": {"kind": "review"}})
    labels = rasterise(take_in(path).polygons, classes, FRAME.box, FRAME, FRAME)
    assert (labels == 1).sum() == 100


@pytest.mark.parametrize("damage", ["accepted", "source", "classes_changed"])
def test_a_damaged_review_is_refused(scene: Scene, client: TestClient, damage: str) -> None:
    decide(client, 0, "accepted", "Sclerotic glomerulus")
    path = scene.reviews[LAYER].path
    tree = json.loads(path.read_text())
    for value in (7, {"x": 1}, [True], "a", [99999]):
        tree["properties"]["wsiseg"][damage] = value
        path.write_text(json.dumps(tree))
        with pytest.raises(MismatchError, match="a"):
            open_scene(small_slide(), [scene.reviews[LAYER].source])


def test_all_others_can_be_accepted(client: TestClient, scene: Scene) -> None:
    decide(client, 4, "rejected")
    answer = client.post(f"/api/layers/{LAYER}/accept", json={}).json()
    assert answer["accepted"] == len(outlines()) - 1
    found = read_annotations(scene.reviews[LAYER].path).polygons
    assert [r.label for r in found] == [r.label for n, r in enumerate(outlines()) if n != 4]
    decide(client, 4, "unreviewed")
    assert len(read_annotations(scene.reviews[LAYER].path).polygons) == len(outlines())


def test_the_next_session_goes_on(scene: Scene, client: TestClient) -> None:
    decide(client, 3, "rejected")
    decide(client, 5, "accepted", "Glomerulus")
    again = open_scene(small_slide(), [scene.reviews[LAYER].source])
    layer = again.layers[LAYER]
    assert np.array_equal(layer.state, scene.layers[LAYER].state)  # type: ignore[attr-defined]
    assert [layer.names[n] for n in layer.label] == [  # type: ignore[attr-defined]
        "Glomerulus" if n == 5 else r.label for n, r in enumerate(outlines())
    ]
    assert not again.reviews[LAYER].unsaved
    again.close()


def test_a_class_of_an_earlier_session_is_asked_for(scene: Scene, client: TestClient) -> None:
    decide(client, 5, "accepted", "Sclerotic glomerulus")
    with pytest.raises(MismatchError, match="--classes"):
        open_scene(small_slide(), [scene.reviews[LAYER].source])


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "a.geojson", outlines())
    foreign = write(tmp_path / "a.reviewed.geojson", outlines()[:2])
    before = foreign.read_bytes()
    with pytest.raises(MismatchError, match="in the way"):
        open_scene(small_slide(), [source])
    assert foreign.read_bytes() == before


def test_a_review_of_another_version_is_refused(scene: Scene, client: TestClient) -> None:
    decide(client, 0, "accepted")
    write(scene.reviews[LAYER].source, outlines()[:5])
    with pytest.raises(MismatchError, match="another version"):
        open_scene(small_slide(), [scene.reviews[LAYER].source])


def test_decisions_that_make_no_sense(client: TestClient, scene: Scene) -> None:
    path = f"/api/layers/{LAYER}/objects/0"
    for body in ({}, {"state": "maybe"}, {"state": 3}, {"state": "accepted", "label": "Tubule"}, [], "x", 0):
        assert client.post(path, json=body).status_code == 400, body
    kind = {"Content-Type": "application/json"}
    assert client.post(path, content=b"{", headers=kind).status_code == 400
    assert client.post(path, content=b"[" * 60_000, headers=kind).status_code == 400
    assert client.post(f"/api/layers/{LAYER}/objects/99", json={"state": "accepted"}).status_code == 400
    for other in (0, 4, 5, 6):
        assert client.post(f"/api/layers/{other}/accept", json={}).status_code == 404, "only the prediction is reviewed"
    assert not scene.reviews[LAYER].path.exists()
    assert scene.layers[LAYER].revision == 0


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of which a review is too large to be written after every decision."""
    monkeypatch.setattr(module, "REWRITTEN", 3)
    return write(tmp_path / "large.geojson", outlines())


def test_decisions_on_a_large_file_are_appended_to_a_journal(large: Path) -> None:
    scene = open_scene(small_slide(), [large])
    review = scene.reviews[LAYER]
    with TestClient(make_app(scene), base_url=HOST) as client:
        decide(client, 0, "accepted")
        first = review.journal.read_bytes()
        decide(client, 1, "rejected")
        assert review.journal.read_bytes().startswith(first), "appended, not written again"
        assert not review.path.exists()
    with pytest.raises(BusyError):
        open_scene(small_slide(), [large])
    scene.close()
    assert not review.journal.exists()
    assert read_annotations(review.path).polygons[0].label == "Glomerulus", "ending the viewer writes it"


def test_a_killed_viewer_leaves_its_journal(large: Path) -> None:
    scene = open_scene(small_slide(), [large], classes=["Artefact"])
    review = scene.reviews[LAYER]
    assert review.decide([0, 3], "accepted", "Artefact")
    review.save()
    assert review.decide([4], "rejected", None)
    review.save()
    killed = review.journal.read_bytes()
    scene.close()
    review.path.unlink()
    for cut, rejected in ((len(killed), 1), (len(killed) - 1, 0)):
        review.journal.write_bytes(killed[:cut])
        again = open_scene(small_slide(), [large], classes=["Artefact"])
        layer = again.layers[LAYER]
        assert isinstance(layer, OutlineLayer)
        assert [layer.names[layer.label[n]] for n in (0, 3)] == ["Artefact"] * 2
        assert ((layer.state == 1).sum(), (layer.state == 2).sum()) == (2, rejected), "half a line is left out"
        again.reviews[LAYER].decide([5], "rejected", None)
        again.reviews[LAYER].save()
        again.close()
        assert json.loads(review.path.read_text())["properties"]["wsiseg"]["rejected"][-1] == 5
        review.path.unlink()
    for damage in (b"{}\n", killed + b"x\n", killed.replace(b"numbers", b"n"), killed.replace(b"[0,3]", b"[0,-3]")):
        review.journal.write_bytes(damage)
        with pytest.raises(MismatchError, match="move it away"):
            open_scene(small_slide(), [large], classes=["Artefact"])


def test_a_place_that_cannot_be_written_is_told_and_kept_in_mind(client: TestClient, scene: Scene) -> None:
    path = scene.reviews[LAYER].path
    path.mkdir()  # a folder is in the way, also for a user who may write everywhere
    answer = client.post(f"/api/layers/{LAYER}/objects/0", json={"state": "accepted"})
    assert answer.status_code == 409
    assert "cannot be written" in answer.json()["error"]
    assert client.get(f"/api/layers/{LAYER}").json()["unsaved"]
    with pytest.raises(OutputError):
        scene.reviews[LAYER].save()
    path.rmdir()
    decide(client, 1, "accepted")
    assert [r.label for r in read_annotations(path).polygons][:2] == ["Glomerulus", "Glomerulus"]
