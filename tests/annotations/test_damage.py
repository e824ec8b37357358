"""Damaged, hostile and odd annotation files: one sentence or a right result, never a traceback, a hang or a flood.

WSISEG_DAMAGE is the number of damaged files of each format.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shapely import Polygon, box

from wsiseg.annotations import json_file
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import Details, LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError, WsisegError
from wsiseg.geometry import Frame

CLASSES = ClassMap(("Background", "Glomerulus", "Immune: CD3"))
FRAME = Frame(2000, 1500, 0.5)
HOLED = Polygon(box(10, 10, 60, 50).exterior, [box(20, 20, 40, 40).exterior])
ROUNDS = int(os.environ.get("WSISEG_DAMAGE", "60"))


class Slide:
    frame = FRAME
    bounds = FRAME.box
    downsamples = ((1.0, 1.0), (4.0, 4.0))


SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
SHAPE = {"type": "Polygon", "coordinates": [SQUARE]}


def feature(geometry: Any = SHAPE, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


# --- files made on purpose


HOSTILE: dict[str, str] = {
    "parents nested a thousand times": json.dumps(feature(classification=7)).replace(
        "7", '{"name":"A","parentClass":' * 1000 + "null" + "}" * 1000
    ),
    "parents nested for ever": '{"a":' * 200_000,
    "children nested 300 times": '{"type":"Feature","geometry":null,"properties":{"childObjects":[' * 300
    + "]}}" * 300,
    "collections nested 2,000 times": json.dumps(feature())
    .replace(json.dumps(SHAPE), '{"type":"GeometryCollection","geometries":[' * 2000 + json.dumps(SHAPE) + "]}" * 2000),
    "an integer of 400 digits": json.dumps(feature(measurements={"x": 7})).replace("7", "1" + "0" * 400),
    "an integer of 5,000 digits": json.dumps(feature(measurements={"x": 7})).replace("7", "1" * 5000),
    "a number beyond all doubles": json.dumps(feature(measurements={"x": 7})).replace("7", "1e999"),
    "a corner of 5,000 digits": json.dumps(feature()).replace("100", "1" * 5000),
    "an ellipse of 1e20": json.dumps(feature({**SHAPE, "isEllipse": True})).replace("100", "1e20"),
    "an ellipse of 1e13": json.dumps(feature({**SHAPE, "isEllipse": True})).replace("100", "10000000000000"),
    "corners at 1e9": json.dumps(feature()).replace("100", "1000000000"),
    "corners at 1e308": json.dumps(feature()).replace("100", "1e308"),
    "half a character in a class": '{"type":"Feature","geometry":null,"properties":{"classification":"a\\ud800"}}',
    "half a character in a name": json.dumps(feature(name="a")).replace('"a"', '"\\udfff"'),
    "a null in a class": json.dumps(feature(classification={"name": "A\0B"})),
    "a line in a class": json.dumps(feature(classification={"name": "A\nB"})),
    "damaged classes of wsiseg": json.dumps(
        {"type": "FeatureCollection", "features": [], "properties": {"wsiseg": {"classes": [{"index": 7}]}}}
    ),
    "a damaged frame of wsiseg": json.dumps(
        {"type": "FeatureCollection", "features": [], "properties": {"wsiseg": {"level0": [1, 2]}}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(HOSTILE[name])
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(AnnotationError) as caught:
            read_annotations(path)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.monotonic() - started < 10
    assert peak < 2**27
    said = str(caught.value)
    assert "a.geojson" in said
    assert len(said) < 600
    assert "\n" not in said


@pytest.mark.parametrize("size", [1e4, 1e6, 1e8])
def test_a_large_ellipse_takes_little_memory(tmp_path: Path, size: float) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(feature({**SHAPE, "isEllipse": True})).replace("100", str(size)))
    (found,) = read_annotations(path).polygons
    assert found.polygon.area == pytest.approx(3.14159265 / 4 * size * size, rel=1e-5)
    assert len(found.polygon.exterior.coords) <= 4097


def test_ellipses_of_imagescope_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    for size, fine in (("1e8", True), ("1e13", False)):
        path.write_text(
            '<Annotations><Annotation Name="A"><Regions><Region Id="1" Type="2"><Vertices><Vertex X="0" Y="0"/>'
            f'<Vertex X="{size}" Y="{size}"/></Vertices></Region></Regions></Annotation></Annotations>'
        )
        if fine:
            assert len(read_annotations(path).polygons) == 1
        else:
            with pytest.raises(AnnotationError, match="farther away"):
                read_annotations(path)


DOCTYPE = '<!DOCTYPE x [<!ENTITY a "hello">]><Annotations><Annotation Name="&a;"/></Annotations>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_document_type_is_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    head = '<?xml version="1.0" encoding="iso-8859-1"?>' if encoding == "latin-1" else ""
    (tmp_path / "a.xml").write_bytes((head + DOCTYPE).encode(encoding))
    with pytest.raises(AnnotationError):
        read_annotations(tmp_path / "a.xml")


def test_utf_16_without_document_type_is_read(tmp_path: Path) -> None:
    text = '<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="Gefäß"><Coordinates>' + "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(SQUARE[:4])
    )
    text += "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    assert [p.label for p in read_annotations(tmp_path / "a.xml").polygons] == ["Gefäß"]


# --- packed files


@pytest.fixture
def limit() -> Iterator[None]:
    json_file.set_input_limit(10_000)
    yield
    json_file.set_input_limit(json_file.DEFAULT_LIMIT)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz", "a.xml", "a.zip"])
def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, b" " * 50_000_000
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("b.geojson", content)
    else:
        path.write_bytes(content if name == "a.geojson" else gzip.compress(content))
    tracemalloc.start()
    with pytest.raises(AnnotationError, match="--max-input"):
        read_annotations(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_an_archive_holds_one_file_or_several(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.geojson", json.dumps(feature(classification={"name": "A"})))
        archive.writestr("folder/two.json", json.dumps([feature(), SHAPE]))
        archive.writestr("__MACOSX/._one.geojson", b"\0\1")
        archive.writestr("read me.txt", "nothing")
    assert [p.label for p in read_annotations(path).polygons] == ["A", None, None]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("read me.txt", "nothing")
    with pytest.raises(AnnotationError, match=r"no \.geojson or \.json file in it"):
        read_annotations(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AnnotationError, match="ZIP archive that is damaged"):
        read_annotations(path)
    with pytest.raises(AnnotationError, match="cannot be written"):
        write_annotations(path, [], classes=CLASSES)


def test_several_gzip_streams_behind_each_other_are_one_file(tmp_path: Path) -> None:
    text, path = json.dumps(feature()).encode(), tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(text[:40]) + gzip.compress(text[40:]) + bytes(512))
    assert len(read_annotations(path).polygons) == 1
    path.write_bytes(gzip.compress(text)[:-4])
    with pytest.raises(AnnotationError, match="damaged gzip"):
        read_annotations(path)


# --- what QuPath reads and the RFC does not know


@pytest.mark.parametrize(
    "tree",
    [
        [SHAPE, SHAPE],
        {"features": [feature(), {"geometry": SHAPE}]},
        [{"geometry": SHAPE, "properties": None}, feature()],
        {"type": "FeatureCollection", "features": [SHAPE, feature()]},
    ],
)
def test_shapes_that_do_not_say_that_they_are_features(tmp_path: Path, tree: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert len(read_annotations(tmp_path / "a.json").polygons) == 2


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        ({"name": 3}, "3"),
        (3, "3"),
        (2.5, "2.5"),
        ({"name": True}, "true"),
        ({"names": ["A", 1]}, "A: 1"),
        ({"name": "B", "parentClass": "A"}, "A: B"),
    ],
)
def test_classes_that_are_no_text(tmp_path: Path, classification: Any, label: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(feature(classification=classification)))
    assert [p.label for p in read_annotations(tmp_path / "a.json").polygons] == [label]


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({"objectType": "annotation"}, "annotation"),
        ({"object_type": "detection"}, "detection"),
        ({"objectType": "tmaCore"}, "tmaCore"),
        ({}, None),
        ({"objectType": 7}, None),
    ],
)
def test_the_kind_of_an_object(tmp_path: Path, properties: Any, kind: str | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps(feature(**properties)))
    assert [p.details.kind for p in read_annotations(tmp_path / "a.json").polygons] == [kind]
    (tmp_path / "a.json").write_text(json.dumps({**feature(**properties), "id": "PathCellObject"}))
    assert [p.details.kind for p in read_annotations(tmp_path / "a.json").polygons] == [kind or "cell"]


@pytest.mark.parametrize(
    ("key", "value", "colour"),
    [
        ("color", [1, 2, 3], (1, 2, 3)),
        ("color", [1, 2, 3, 255], (1, 2, 3)),
        ("color", "#0a0b0c", (10, 11, 12)),
        ("colorRGB", -3342337, (204, 255, 255)),
        ("color", [1, 2], None),
        ("color", "red", None),
        ("color", [1, 2, 300], None),
    ],
)
def test_the_colour_of_an_object(tmp_path: Path, key: str, value: Any, colour: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(feature(**{key: value})))
    found = read_annotations(tmp_path / "a.json")
    assert found.polygons[0].details.colour == colour
    assert found.skipped == ({} if colour else {"unreadable colour": 1})


# --- damage by chance


def sample(path: Path) -> bytes:
    """A file of every kind of thing, of the format that the name says."""
    details = Details("cell", "Nr. 3", True, (1, 2, 3), (-1, 0, 0), box(12, 12, 14, 14), {"a": "b"}, {"mine": [1]})
    things = [
        LabelledPolygon(HOLED, "Glomerulus", 0.5, None, {"Area µm²": 12.5}),
        LabelledPolygon(box(100, 100, 130.5, 120.25), "Immune: CD3", details=details),
        LabelledPolygon(box(700, 100, 800, 300), "Ignore*"),
    ]
    if path.name == "asap.xml":
        corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(SQUARE[:4]))
        text = (
            '<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="Annotation 0" Type="Polygon" '
            f'PartOfGroup="Tumor" Color="#F4FA58"><Coordinates>{corners}</Coordinates></Annotation></Annotations>'
            '<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00ff00"/></AnnotationGroups>'
            "</ASAP_Annotations>"
        )
        return text.encode()
    if path.suffix == ".zip":
        inner = path.with_name("inner.geojson")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.geojson", sample(inner))
        return path.read_bytes()
    origin = {"wsiseg": {"classes": CLASSES.to_json(), "level0": FRAME.to_json()}}
    options: dict[str, Any] = {"legacy": True} if path.suffix == ".json" else {}
    if path.suffix != ".xml":
        options["properties"] = origin
    write_annotations(path, things, classes=CLASSES, frame=FRAME, **options)
    return path.read_bytes()


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e300, "NaN", "", "a", "\ud800", [], {}, [[]], {"type": "Point"}, [1, 2], 10**30,
)  # fmt: skip
TEXTS = (b"", b"nan", b"-1e400", b"9" * 30, b"\xff", b"\0", b"&a;", b"<", b"1_0", b'"', b"x" * 300)


def damaged(raw: bytes, chance: random.Random, tree: bool) -> bytes:
    """One way to damage a file: bytes cut, changed, doubled or put in, or a value of a JSON tree exchanged."""
    if raw[:2] == b"\x1f\x8b" and chance.random() < 0.6:  # below the checksum, which would tell of any damage
        return gzip.compress(damaged(gzip.decompress(raw), chance, tree=True))
    if tree and chance.random() < 0.6:
        value = json.loads(raw)
        for _ in range(chance.randint(1, 3)):
            _exchange(value, chance)
        return json.dumps(value).encode()
    at, end = sorted(chance.randrange(len(raw) + 1) for _ in range(2))
    end = min(end, at + chance.choice((1, 4, 40, 4000)))
    put = chance.choice((b"", chance.randbytes(3), raw[at:end] * 2, chance.choice(TEXTS)))
    return raw[:at] if chance.random() < 0.1 else raw[:at] + put + raw[end:]


def _exchange(tree: Any, chance: random.Random) -> None:
    """Set one value somewhere in a tree to something of another type, or take it out."""
    while True:
        keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(tree[key], dict | list) and chance.random() < 0.85:
            tree = tree[key]
            continue
        if chance.random() < 0.15:
            del tree[key]
        else:
            tree[key] = chance.choice(VALUES)
        return


@pytest.mark.parametrize("name", ["a.geojson", "b.json", "c.geojson.gz", "d.xml", "asap.xml", "e.zip"])
def test_damage_is_told_in_one_sentence_or_does_no_harm(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / name, tmp_path / "out.geojson"
    raw, chance = sample(path), random.Random(f"damage to {name}")
    refused, said, written = 0, [""], [False]
    for _ in range(ROUNDS):
        path.write_bytes(damaged(raw, chance, tree=name in ("a.geojson", "b.json")))
        out.unlink(missing_ok=True)
        started = time.monotonic()
        try:
            intake = take_in(path, Slide())
            write_annotations(
                out, intake.polygons, classes=intake.annotations.class_map(), colours=intake.annotations.colours
            )
        except WsisegError as error:
            refused += 1
            said.append(str(error))
            written.append(out.exists())
        else:
            again = read_annotations(out)
            assert len(again.polygons) <= intake.summary.used
            assert again.repaired == 0
        assert time.monotonic() - started < 5
        assert not list(tmp_path.glob("out.geojson?*")), "no part file is left behind"
    assert 0 < refused < ROUNDS
    assert not any("\n" in sentence for sentence in said)
    assert not any(written), "nothing half-written"
