"""What the server answers: pixels, lists, and one sentence for everything else."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.viewer.scenes import CLASSES, FRAME, outlines, small_slide
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.classes import ClassMap
from wsiseg.evaluation.objects import match_objects
from wsiseg.selection.tissue import tissue_of
from wsiseg.viewer.outlines import CASING_COLOUR, OutlineLayer
from wsiseg.viewer.pyramid import TILE, Pyramid
from wsiseg.viewer.rasters import LabelLayer
from wsiseg.viewer.scene import AGREEMENT, Scene, open_scene
from wsiseg.viewer.style import FILL_ALPHA

TISSUE, PREDICTION, LABELS, SCORE, TRUTH, COMPARED, GRID = range(7)


def picture(client: TestClient, path: str, mode: str = "RGBA") -> np.ndarray:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert(mode))


def whole(client: TestClient, scene: Scene, layer: int | str, level: int, query: str = "", mode: str = "RGBA"):
    """A whole level of a layer, put together from its tiles."""
    frame = scene.pyramid.frame(level)
    across, down = -(-frame.width // TILE), -(-frame.height // TILE)
    out = None
    for y in range(down):
        for x in range(across):
            part = picture(client, f"/tiles/{layer}/{level}/{x}/{y}.png{query}", mode)
            box = scene.pyramid.tile(level, x, y)
            assert box is not None
            assert part.shape[:2] == box.shape
            out = np.zeros((frame.height, frame.width, part.shape[2]), np.uint8) if out is None else out
            known = out[box.slices]
            seam = known[..., -1:].any(-1)  # what a neighbour has drawn already
            assert np.array_equal(known[seam], part[seam]), "tiles agree where they overlap"
            out[box.slices] = part
    return out


def in_the_file(scene: Scene) -> list[LabelledPolygon]:
    """The prediction's outlines; files hold 0.01 px, which decides on a few pixels."""
    return list(read_annotations(scene.reviews[PREDICTION].source).polygons)


def test_levels_are_halves_and_the_last_is_one_tile() -> None:
    pyramid = Pyramid(FRAME)
    assert pyramid.levels == 3
    for level in range(pyramid.levels - 1):
        fine, coarse = pyramid.frame(level), pyramid.frame(level + 1)
        assert (fine.width, fine.height, fine.mpp * 2) == (coarse.width * 2, coarse.height * 2, coarse.mpp)
    assert max(pyramid.frame(2).width, pyramid.frame(2).height) <= TILE
    assert 0 <= pyramid.frame(0).width - FRAME.width < 4
    assert pyramid.tile(3, 0, 0) is None
    assert pyramid.tile(2, 1, 0) is None
    assert pyramid.tile(-1, 0, 0) is None


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_slide_is_what_slide_read_gives(client: TestClient, scene: Scene, level: int) -> None:
    frame = scene.pyramid.frame(level)
    expected = scene.slide.read(frame.box, frame)
    got = whole(client, scene, "slide", level, mode="RGB")
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= (0 if level == 0 else 1)
    jpeg = picture(client, f"/tiles/slide/{level}/0/0.jpeg", "RGB").astype(int)
    expected = expected[: TILE + 1, : TILE + 1].astype(int)
    assert np.abs(jpeg - expected).mean() < 5
    assert np.abs(jpeg[:, 1:] - expected[:, :-1]).mean() > 7, "one pixel away would be seen"


@pytest.mark.parametrize("level", [0, 1, 2])
def test_outlines_land_to_the_pixel(client: TestClient, scene: Scene, level: int) -> None:
    frame = scene.pyramid.frame(level)
    labels = rasterise(in_the_file(scene), CLASSES, frame.box, frame, FRAME)
    got = whole(client, scene, PREDICTION, level)
    for value, name in enumerate(CLASSES.names):
        if value:
            colour = scene.layers[PREDICTION].describe()["classes"][value - 1]["colour"]
            assert np.array_equal((got[..., :3] == colour).all(-1) & (got[..., 3] > 0), labels == value), name
    assert set(np.unique(got[..., 3])) == {0, FILL_ALPHA, 255}
    lines = whole(client, scene, PREDICTION, level, "?fill=0")
    assert np.array_equal(lines[..., 3] == 255, got[..., 3] == 255)
    seam = lines[..., 3] == CASING_COLOUR[3]
    assert set(np.unique(lines[..., 3])) == {0, CASING_COLOUR[3], 255}
    assert (lines[seam][:, :3] == 255).all(), "white on both sides of the lines"
    assert (seam & (labels > 0)).any()
    assert (seam & (labels == 0)).any()


def test_styles(client: TestClient, scene: Scene) -> None:
    regions = in_the_file(scene)
    labels = rasterise(regions, CLASSES, FRAME.box, FRAME, FRAME)
    got = whole(client, scene, PREDICTION, 0, "?colours=0-102030")[: FRAME.height, : FRAME.width]
    assert np.array_equal((got[..., :3] == (16, 32, 48)).all(-1) & (got[..., 3] > 0), labels == 1)
    hidden = whole(client, scene, PREDICTION, 0, "?hide=1")[: FRAME.height, : FRAME.width]
    only = rasterise([r for r in regions if r.label == "Glomerulus"], CLASSES, FRAME.box, FRAME, FRAME)
    assert np.array_equal(hidden[..., 3] > 0, only > 0)
    for bad in ("fill=2", "hide=x", "hide=1..2", "colours=0-10203", "colours=red", "colours=1-GGGGGG", "hide=1000"):
        answer = client.get(f"/tiles/{PREDICTION}/0/0/0.png?{bad}")
        assert answer.status_code == 400, bad
        assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_label_maps_are_nearest_pixels(client: TestClient, scene: Scene, level: int) -> None:
    layer = scene.layers[LABELS]
    assert isinstance(layer, LabelLayer)
    stored, score = (read(layer.labels.frame.box) for read in (layer.labels.read, layer.labels.read_score))
    frame = scene.pyramid.frame(level)
    y, x = (np.floor((np.arange(n) + 0.5) * frame.mpp / 2.0).astype(int) for n in (frame.height, frame.width))
    inside = np.ix_(y < stored.shape[0], x < stored.shape[1])
    at = np.ix_(y[y < stored.shape[0]], x[x < stored.shape[1]])
    expected = np.zeros((frame.height, frame.width), np.uint8)
    expected[inside] = stored[at]
    got = whole(client, scene, LABELS, level)
    for value in (1, 2):
        colour = CLASSES.colours[value]
        assert np.array_equal((got[..., :3] == colour).all(-1) & (got[..., 3] > 0), expected == value)
    heat = whole(client, scene, SCORE, level)
    assert np.array_equal(heat[..., 3] > 0, expected > 0)
    brightness = heat[..., :3].astype(int).sum(-1)[inside][expected[inside] > 0]
    order = np.argsort(score[at][expected[inside] > 0], kind="stable")
    assert (np.diff(brightness[order]) >= -3).all(), "surer is brighter"


def test_a_large_label_map_is_seen_from_afar(client: TestClient, scene: Scene, monkeypatch) -> None:
    """The small copy takes every n-th pixel."""
    from wsiseg.viewer import rasters

    monkeypatch.setattr(rasters, "SMALL_SIDE", 100)
    layer = scene.layers[LABELS]
    assert isinstance(layer, LabelLayer)
    sample = rasters.Sampler(layer.labels.read, layer.labels.frame)
    frame = FRAME.at(8.0)
    stored = layer.labels.read(layer.labels.frame.box)
    rows, columns = ((np.floor((np.arange(n) + 0.5) * 4) // 4 * 4).astype(int) for n in (frame.height, frame.width))
    got = sample(frame.box, frame)
    inside = np.ix_(rows < stored.shape[0], columns < stored.shape[1])
    assert np.array_equal(got[inside], stored[np.ix_(rows[rows < 275], columns[columns < 375])])


def test_tissue_and_grid(client: TestClient, scene: Scene) -> None:
    mask = tissue_of(scene.slide)
    frame = scene.pyramid.frame(2)
    got = whole(client, scene, TISSUE, 2)[..., 3] > 0
    assert got.mean() == pytest.approx(mask.mask.mean(), abs=0.05)
    grid = scene.layers[GRID].grid  # type: ignore[attr-defined]
    frame = scene.pyramid.frame(1)
    lines = whole(client, scene, GRID, 1)[..., 3] > 0
    edges = {round(t.keep.x * 2.0 / frame.mpp) for t in grid}
    assert set(np.flatnonzero(lines.all(0)).tolist()) >= {e for e in edges if e < frame.width}
    assert lines.mean() < 0.05
    assert grid.stride == 96, "the grid is that of the label map"


def test_truth_against_prediction(client: TestClient, scene: Scene) -> None:
    truth, said = outlines(9.0)[:8], outlines()
    found = missed = false = 0
    for name in ("Glomerulus", "Vessel"):
        matches = match_objects([r for r in truth if r.label == name], [r for r in said if r.label == name])
        found, missed, false = found + len(matches.found), missed + len(matches.missed), false + len(matches.unmatched)
    assert found
    assert false
    about = client.get(f"/api/layers/{COMPARED}").json()
    assert {c["name"]: c["count"] for c in about["classes"]} == {"Agreement": found, "Missed": missed, "False": false}
    assert {c["name"]: tuple(c["colour"]) for c in about["classes"]} == AGREEMENT
    assert [layer["shown"] for layer in client.get("/api/scene").json()["layers"]] == [n == COMPARED for n in range(7)]


def test_the_list_of_objects(client: TestClient) -> None:
    path = f"/api/layers/{PREDICTION}/objects"
    regions = outlines()
    by_area = sorted(range(len(regions)), key=lambda n: -regions[n].polygon.area)
    first = client.get(path, params={"limit": 5}).json()
    second = client.get(path, params={"limit": 5, "offset": 5}).json()
    assert [row["n"] for row in first["rows"] + second["rows"]] == by_area[:10]
    assert first["total"] == len(regions)
    row = first["rows"][0]
    assert row["area"] == pytest.approx(regions[by_area[0]].polygon.area * 0.25, rel=1e-3)
    assert row["bounds"] == pytest.approx(regions[by_area[0]].polygon.bounds, abs=0.02)
    worst = client.get(path, params={"sort": "score", "descending": 0}).json()["rows"]
    assert [r["score"] for r in worst] == sorted(r.score for r in regions)
    counted = client.get(path, params={"sort": "podocytes"}).json()["rows"]
    assert [r["measurements"].get("podocytes") for r in counted][:3] == [3, 3, 2]
    assert counted[-1]["measurements"] == {}, "objects without the value come last"
    vessels = client.get(path, params={"class": 1}).json()
    assert ({r["label"] for r in vessels["rows"]}, vessels["total"]) == ({"Vessel"}, 4)
    names = [c["name"] for c in client.get(f"/api/layers/{PREDICTION}").json()["classes"]]
    assert names == ["Glomerulus", "Vessel", "Sclerotic glomerulus"]
    for bad in (
        "sort=nothing",
        "limit=0",
        "limit=201",
        "offset=-1",
        "class=9",
        "state=maybe",
        "descending=yes",
        "limit=٣",
    ):
        assert client.get(f"{path}?{bad}").status_code == 400, bad
    assert client.get(f"/api/layers/{GRID}/objects").status_code == 404


def test_what_is_at_a_point(client: TestClient) -> None:
    for n, region in enumerate(outlines()):
        left, top = region.polygon.bounds[:2]
        x, y = (left + 2, top + 2) if n > 9 else region.polygon.exterior.interpolate(0.25, normalized=True).coords[0]
        inside = region.polygon.representative_point()
        x, y = (inside.x, inside.y) if n < 9 else (x * 0.98 + inside.x * 0.02, y * 0.98 + inside.y * 0.02)
        assert client.get(f"/api/layers/{PREDICTION}/at", params={"x": x, "y": y}).json()["n"] == n
    assert client.get(f"/api/layers/{PREDICTION}/at?x=3&y=3").json() is None
    for bad in ("x=1", "x=nan&y=1", "x=1e999&y=1", "x=a&y=1"):
        assert client.get(f"/api/layers/{PREDICTION}/at?{bad}").status_code == 400, bad


def test_a_class_has_one_colour_and_no_other_class_has_it(tmp_path: Path) -> None:
    """Over all files; here Glomerulus and Vessel in the first, Vessel and Podocyte in the second."""
    moved = [replace(r, label="Podocyte") for r in outlines(9.0)[:2]]
    paths = [tmp_path / "first.geojson", tmp_path / "second.geojson"]
    classes = ClassMap(("Background", "Glomerulus", "Podocyte", "Vessel"))
    write_annotations(paths[0], outlines(), classes=classes)
    write_annotations(paths[1], [*moved, *(r for r in outlines() if r.label == "Vessel")], classes=classes)
    opened = open_scene(small_slide(), paths, classes=["Artefact"])
    coloured = [layer for layer in opened.layers if isinstance(layer, OutlineLayer)]
    opened.close()
    pairs = {pair for p in coloured for pair in zip(p.names, p.colours, strict=True)}
    assert {name for name, _ in pairs} == {"Artefact", "Glomerulus", "Podocyte", "Vessel"}
    assert len(pairs) == len({colour for _, colour in pairs}) == 4


def test_errors_are_sentences_and_pages(client: TestClient) -> None:
    page = client.get("/nothing/here")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "There is nothing at this address." in page.text
    for path in (
        "/tiles/slide/9/0/0.jpeg",
        "/tiles/slide/0/99/0.jpeg",
        "/tiles/slide/0/0/0.gif",
        "/tiles/77/0/0/0.png",
        "/api/x",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"].endswith(".")
    assert client.put("/api/scene", json={}).status_code == 405


def test_only_the_listed_parts_of_the_page_are_served(client: TestClient) -> None:
    assert client.get("/").text.startswith("<!doctype html>")
    for name in ("app.js", "stage.js", "style.css", "openseadragon.min.js"):
        assert client.get(f"/static/{name}").status_code == 200, name
    for name in ("index.html", "../app.py", "..%2fapp.py", "openseadragon", "%2e%2e/page.py", "LICENSE.txt", ""):
        assert client.get(f"/static/{name}").status_code == 404, name


def test_a_part_of_the_slide_that_cannot_be_read_is_told(client: TestClient, scene: Scene) -> None:
    scene.slide.close()
    answer = client.get("/tiles/slide/0/0/0.png")
    assert answer.status_code == 409
    assert "has been closed" in answer.json()["error"]
