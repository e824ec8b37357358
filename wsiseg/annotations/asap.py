"""Read annotations of ASAP (Automated Slide Analysis Platform, Radboudumc), used by the CAMELYON challenges.

    ASAP_Annotations
      Annotations
        Annotation Name Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58"
          Coordinates
            Coordinate Order="0" X Y …
      AnnotationGroups
        Group Name="Tumor" …

Coordinates are level-0 pixels. The class is the group; the group "None" means no class. ASAP has no holes.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import shapely

from wsiseg.annotations import safe_xml
from wsiseg.annotations.gather import Gathering, check_text, closed, hex_colour
from wsiseg.annotations.polygon import Annotations, Details, LabelledPolygon
from wsiseg.classes import canonical_name
from wsiseg.errors import AnnotationError

ROOT = "ASAP_Annotations"

# A spline is read as the polygon of its corners, which is how challenge kits read it too.
AREAS = ("Polygon", "Rectangle", "Spline")


def read_asap(path: Path) -> Annotations:
    """Read an ASAP file.

    Args:
        path: XML whose outermost element is `ASAP_Annotations`

    Returns:
        Polygons, rectangles and splines in level-0 pixels; points and measurements are counted by their type.

    Raises:
        AnnotationError: the file is missing, damaged, of another kind, or has a corner that is not a number
    """
    if safe_xml.root_of(path) != ROOT:
        raise AnnotationError(f"{path} is not an ASAP file (no {ROOT} in it): give one saved by ASAP.")
    found, number = Gathering(), 0
    for event, element in safe_xml.events(path):
        if event != "end" or element.tag != "Annotation":
            continue
        number += 1
        kind = element.get("Type", "Polygon")
        if kind not in AREAS:
            found.skip(kind)
        else:
            corners = sorted(element.iter("Coordinate"), key=_order)
            points = closed(safe_xml.coordinates(corners, path, f"annotation {number}"))
            group = canonical_name(element.get("PartOfGroup", ""))
            label = None if group in ("", "None") else group
            check_text(group, f"{path}: the class of annotation {number}")
            if label and (colour := hex_colour(element.get("Color", ""))):
                found.colour(label, colour)
            if len(points) < 4:
                found.skip("collapsed")
            else:
                details = Details(name=element.get("Name") or None)
                found.add(LabelledPolygon(shapely.polygons(points), label, details=details))
        element.clear()
    return found.annotations()


def _order(corner: Element) -> float:
    """The place of a corner in its ring; corners without a number keep their place, because sorting is stable."""
    text = corner.get("Order", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0
