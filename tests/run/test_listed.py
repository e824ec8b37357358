"""Slides from patterns, lists and QuPath projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsiseg.data.slides import SlideEntry
from wsiseg.errors import RecipeError, SplitError
from wsiseg.run.listed import list_slides


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "b.svs", "a.svs", "deep/c.svs", "a.txt")
    assert [entry.name for entry in list_slides(f"{tmp_path}/*.svs")] == ["a", "b"]
    assert [entry.name for entry in list_slides(f"{tmp_path}/**/*.svs")] == ["a", "b", "c"]
    with pytest.raises(RecipeError, match="No slide matches"):
        list_slides(f"{tmp_path}/*.ndpi")


def test_two_slides_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.svs", "y/a.svs")
    with pytest.raises(RecipeError, match="would both go to the folder 'a'"):
        list_slides(f"{tmp_path}/*/*.svs")


def test_a_list_may_name_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    path.write_text("slide,mpp,patient,annotations\na.svs,0.25,p1,a.geojson\ngone.svs,,,\n")
    assert list_slides(str(path)) == (
        SlideEntry(tmp_path / "a.svs", tmp_path / "a.geojson", "p1", mpp=0.25),
        SlideEntry(tmp_path / "gone.svs", patient="gone"),
    )
    path.write_text("slide\na.svs\na.svs\n")
    with pytest.raises(SplitError, match="listed twice"):
        list_slides(str(path))


def entry(uri: str, mpp: Any = 0.25, unit: str = "µm", **more: Any) -> dict[str, Any]:
    """An image as QuPath 0.6 writes it, shortened."""
    size = {"value": mpp, "unit": unit}
    calibration = {"pixelWidth": size, "pixelHeight": size, "zSpacing": {"value": 1.0, "unit": "z-slice"}}
    builder = {
        "builderType": "uri",
        "providerClassName": "qupath.lib.images.servers.openslide.OpenslideServerBuilder",
        "uri": uri,
        "args": [],
        "metadata": {"name": "x", "width": 10, "height": 10, "pixelCalibration": calibration},
    }
    return {"serverBuilder": builder | more, "entryID": 1, "imageName": "Biopsy 7", "metadata": {}}


def project(path: Path, *images: dict[str, Any], uri: str = "file:/elsewhere/project.qpproj") -> str:
    path.write_text(json.dumps({"version": "0.6.0", "uri": uri, "lastID": 9, "images": images}), encoding="utf-8")
    return str(path)


def test_a_qupath_project(tmp_path: Path) -> None:
    touch(tmp_path, "my slides/a.svs", "b.svs")
    rotated = entry("", builderType="rotated", builder={})
    images = [
        entry((tmp_path / "my slides" / "a.svs").as_uri()),
        entry(f"file:{tmp_path}/b.svs", 1.0, "px"),
        entry(f"file:{tmp_path}/b.svs", 1.0, "px", args=["--series", "1"]),
        rotated | {"imageName": "turned.svs"},
        entry("https://omero.example.org/1") | {"imageName": "far.svs"},
        entry("file:/elsewhere/sub/moved.svs"),
    ]
    touch(tmp_path, "sub/moved.svs")
    entries = list_slides(project(tmp_path / "project.qpproj", *images))
    assert entries[:2] == (
        SlideEntry(tmp_path / "my slides" / "a.svs", mpp=0.25),
        SlideEntry(tmp_path / "b.svs"),
    )
    assert entries[2].fault == "In QuPath it is 'rotated' and no plain file: list the file itself."
    assert "files alone" in entries[3].fault
    assert entries[4] == SlideEntry(tmp_path / "sub" / "moved.svs", mpp=0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a QuPath project"),
        ("[]", "not a QuPath project"),
        ('{"images": []}', "has no images"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_project_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "project.qpproj"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        list_slides(str(path))
