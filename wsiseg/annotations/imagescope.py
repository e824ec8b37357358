"""Read and write annotations of Aperio ImageScope.

    Annotations MicronsPerPixel
      Annotation Id Name LineColor                     one layer per class
        Regions
          Region Id Type NegativeROA InputRegionId     one ring; NegativeROA="1" is a hole
            Vertices
              Vertex X Y

Coordinates are level-0 pixels. LineColor is a Windows COLORREF, 0x00BBGGRR as a decimal number: 255 is red, 65280
green, 65535 yellow, 16711680 blue. Region types: 0 freehand, 1 rectangle, 2 ellipse, 3 arrow, 4 ruler.
Source: files written by ImageScope 12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from wsiseg.annotations import safe_xml
from wsiseg.annotations.canonical import canonical
from wsiseg.annotations.gather import Area, Gathering, check_text, closed, ellipse, make_valid
from wsiseg.annotations.geojson_write import colour_of
from wsiseg.annotations.polygon import Annotations, Details, LabelledPolygon, Written
from wsiseg.atomic import atomic_write
from wsiseg.classes import ClassMap, Colour, canonical_name
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame

ROOT = "Annotations"
RECTANGLE, ELLIPSE, ARROW = "1", "2", "3"

# What a layer without a class is drawn in.
NO_CLASS_COLOUR: Colour = (128, 128, 128)

# Letters that XML 1.0 cannot hold, not even escaped.
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def read_imagescope(path: Path) -> Annotations:
    """Read an ImageScope file.

    A hole is cut out of the region that its InputRegionId names (so it is in files written here), otherwise out of
    the smallest region of its layer that covers it, otherwise out of all polygons of its layer that it crosses.

    Args:
        path: XML whose outermost element is `Annotations`

    Returns:
        Annotations in level-0 pixels, labelled by the names of their layers and named by their text;
        `properties["mpp"]` in µm where the file states it. Arrows, rulers and points are counted as skipped.

    Raises:
        AnnotationError: the file is missing, damaged, of another kind, or has a corner that is not a number
    """
    if safe_xml.root_of(path) != ROOT:
        raise AnnotationError(f"{path} is not an ImageScope file (no {ROOT} in it): give one saved by ImageScope.")
    found, label, locked = Gathering(), "", False
    regions: list[tuple[str, Polygon, Details]] = []  # of the layer, with their numbers
    holes: list[tuple[str, Polygon]] = []  # with the numbers of their regions
    properties: dict[str, Any] = {}
    for event, element in safe_xml.events(path):
        if event == "start" and element.tag == ROOT and element.get("MicronsPerPixel"):
            if mpp := _number(element.get("MicronsPerPixel", ""), path):  # 0 where the scanner did not know
                properties["mpp"] = mpp
        elif event == "start" and element.tag == "Annotation":
            regions, holes, label = [], [], canonical_name(element.get("Name", ""))
            check_text(label, f"{path}: a layer")
            colour, locked = element.get("LineColor", ""), element.get("ReadOnly") == "1"
            if label and colour.isdecimal() and len(colour) < 9:
                red, green, blue, _ = int(colour).to_bytes(4, "little")
                found.colour(label, (red, green, blue))
        elif event == "end" and element.tag == "Region":
            where = f"region {element.get('Id', '?')} of the layer {label or 'without name'}"
            points = safe_xml.coordinates(list(element.iter("Vertex")), path, where)
            shape = _shape(element.get("Type", "0"), points)
            if isinstance(shape, str):
                found.skip(shape)
            elif element.get("NegativeROA", "0") in ("1", "-1"):
                holes.append((element.get("InputRegionId", "0"), shape))
            else:
                details = Details(name=element.get("Text") or None, locked=locked)
                regions.append((element.get("Id", ""), shape, details))
            element.clear()
        elif event == "end" and element.tag == "Annotation":
            for (area, patched), (_, _, details) in zip(_without(holes, regions), regions, strict=True):
                found.add(LabelledPolygon(area, label or None, details=details), patched)
            element.clear()
    return found.annotations(properties)


def _number(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise AnnotationError(f"{path} says MicronsPerPixel={text!r}: correct it to a number of µm.")
    return value


def _shape(kind: str, points: NDArray[np.float64]) -> Polygon | str:
    """The area of a region, valid or not, or the name of what it is instead."""
    if kind == ARROW:
        return "Arrow"
    if kind in (RECTANGLE, ELLIPSE) and len(points) >= 2:
        bounds = (*points.min(axis=0), *points.max(axis=0))
        if kind == ELLIPSE:
            return ellipse(*bounds)
        if len(points) == 2:  # two opposite corners
            return shapely.box(*bounds)
    ring = closed(points)
    if len(ring) >= 4:
        return shapely.polygons(ring)
    return ("empty", "Point", "LineString", "collapsed")[len(points)]


def _without(holes: list[tuple[str, Polygon]], regions: list[tuple[str, Polygon, Details]]) -> list[tuple[Area, bool]]:
    """The regions of a layer without its holes, and whether a region was invalid before that."""
    if not holes or not regions:
        return [(area, False) for _, area, _ in regions]
    valid, patched = make_valid(np.array([shape for _, shape, _ in regions]))
    areas: list[Area] = valid.tolist()
    tree = shapely.STRtree(areas)
    owners = {number: i for i, (number, _, _) in enumerate(regions)}
    cuts: dict[int, list[Area]] = {}
    for (owner, _), hole in zip(holes, make_valid(np.array([shape for _, shape in holes]))[0], strict=True):
        near = tree.query(hole, predicate="intersects").tolist()
        around = [i for i in near if areas[i].covers(hole)]
        if owners.get(owner) in near:
            near = [owners[owner]]
        elif around:
            near = [min(around, key=lambda i: areas[i].area)]
        for i in near:
            cuts.setdefault(i, []).append(hole)
    for i, cut in cuts.items():
        # Rings that lie properly inside become holes vertex by vertex; only the others need the overlay.
        plain = all(isinstance(ring, Polygon) and not ring.interiors for ring in (areas[i], *cut))
        whole = Polygon(areas[i].exterior, [hole.exterior for hole in cut]) if plain else Polygon()
        exact = not whole.is_empty and whole.is_valid
        areas[i] = whole if exact else areas[i].difference(shapely.union_all(cut))
    return list(zip(areas, patched.tolist(), strict=True))


def write_imagescope(
    path: Path,
    polygons: Iterable[LabelledPolygon],
    *,
    classes: ClassMap,
    frame: Frame | None = None,
) -> Written:
    """Write objects as one layer per class. The name of an object becomes its text; there is no place for more.

    The text of all objects is held in memory, because each layer must be in one piece. An object of several parts
    becomes several regions.

    Args:
        path: the XML file
        polygons: in level-0 pixels
        classes: the order and the colours of the layers
        frame: level 0, for lengths and areas in µm; without it the file states none

    Raises:
        AnnotationError: an object cannot be expressed
        ClassError: a label is not in `classes`
        OutputError: the place cannot be written or the disk is full
    """
    layers: dict[str | None, list[str]] = {}
    written = Written()
    for batch in canonical(polygons):
        written += batch.written
        for region, shape in zip(batch.polygons, batch.shapes, strict=True):
            rows = layers.setdefault(region.label, [])
            name = NO_XML.sub(" ", region.details.name or "")
            for part in shape.geoms:
                rows.append(_region(part.exterior, len(rows) + 1, 0, frame, name))
                owner = len(rows)
                rows += [_region(hole, owner + 1 + i, owner, frame, "") for i, hole in enumerate(part.interiors)]
    colours = {label: colour_of(label, classes) if label else NO_CLASS_COLOUR for label in layers}
    # As in the class map, then what is ignored, then what has no class.
    order = sorted(layers, key=lambda label: (label is None, classes.index(label) if label else 0, label or ""))
    with atomic_write(path) as sink:
        scale = f' MicronsPerPixel="{math.sqrt(frame.mpp * frame.mpp_y):.6f}"' if frame else ""
        sink.write(f"<Annotations{scale}>\n".encode())
        for number, label in enumerate(order, 1):
            head = {
                "Id": number, "Name": label or "", "ReadOnly": 0, "NameReadOnly": 0, "LineColorReadOnly": 0,
                "Incremental": 0, "Type": 4, "LineColor": colorref(colours[label]), "Visible": 1,
                "Selected": int(number == 1), "MarkupImagePath": "", "MacroName": "",
            }  # fmt: skip
            sink.write(f"<Annotation{_attributes(head)}>\n<Attributes/>\n<Regions>\n".encode())
            sink.write("".join(layers[label]).encode())
            sink.write(b"</Regions>\n<Plots/>\n</Annotation>\n")
        sink.write(b"</Annotations>\n")
    return written


def _region(ring: Any, number: int, owner: int, frame: Frame | None, text: str) -> str:
    """One ring as XML; `owner` is the number of the region that it is a hole of, 0 for a region."""
    corners = shapely.get_coordinates(ring)
    facts: dict[str, Any] = {
        "Id": number, "Type": 0, "Zoom": 1, "Selected": 0, "ImageLocation": "", "ImageFocus": 0,
        "Length": f"{ring.length:.1f}", "Area": f"{Polygon(ring).area:.1f}",
    }  # fmt: skip
    if frame:
        scaled = Polygon(corners * (frame.mpp, frame.mpp_y))
        facts |= {"LengthMicrons": f"{scaled.length:.1f}", "AreaMicrons": f"{scaled.area:.1f}"}
    facts |= {
        "Text": text, "NegativeROA": int(owner > 0), "InputRegionId": owner, "Analyze": int(owner == 0),
        "DisplayId": number,
    }  # fmt: skip
    vertices = "".join(f'<Vertex X="{x:.12g}" Y="{y:.12g}" Z="0"/>\n' for x, y in corners[:-1].tolist())
    return f"<Region{_attributes(facts)}>\n<Attributes/>\n<Vertices>\n{vertices}</Vertices>\n</Region>\n"


def _attributes(values: Mapping[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items())


def colorref(colour: Colour) -> int:
    """0x00BBGGRR, red in the lowest byte."""
    return int.from_bytes(colour, "little")
