"""Single objects as GeoJSON features, for people who write Python and know the package `geojson`.

Files go another way, which takes millions of objects in bounded memory: `read_annotations` and `write_annotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geojson

from wsiseg.annotations.canonical import canonical
from wsiseg.annotations.geojson_read import FeatureReader
from wsiseg.annotations.geojson_write import FeatureWriter
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError


def to_feature(polygon: LabelledPolygon, classes: ClassMap | None = None) -> geojson.Feature:
    """One object as the GeoJSON feature that `write_annotations` would write of it.

    Args:
        polygon: in level-0 pixels
        classes: where the colour of its class comes from; a class that states nothing has a grey of its own

    Raises:
        AnnotationError: it has no area, or a name or coordinate that no file can hold
        ClassError: its class is not in `classes`
    """
    if classes is None:
        name = "Object" if polygon.label is None or polygon.states_nothing else polygon.label
        classes = ClassMap(("Background", name))
    (batch,) = canonical([polygon])
    if not len(batch):
        raise AnnotationError("The object has no area on the grid of 0.01 px: leave it out.")
    (text,) = FeatureWriter(classes, "annotation", legacy=False, keep=True).features(batch, 1)
    return geojson.loads(text)


def from_feature(feature: Mapping[str, Any]) -> LabelledPolygon:
    """The object of one GeoJSON feature, in any of the dialects that `read_annotations` knows.

    Raises:
        AnnotationError: it is not a feature of one area, or has a value of the wrong type
    """
    found = _read(feature)
    if len(found.polygons) != 1:
        raise AnnotationError(f"The feature holds {found}, not one: take the objects one by one.")
    return found.polygons[0]


def faults(feature: Mapping[str, Any]) -> list[str]:
    """What is wrong with a feature, a sentence each: by the rules of RFC 7946, and by those of QuPath's reader.

    Most of it `from_feature` repairs; a feature without faults goes through unchanged.
    """
    found = []
    checked = feature if isinstance(feature, geojson.GeoJSON) else geojson.GeoJSON.to_instance(dict(feature))
    if not checked.is_valid:
        found.append(f"RFC 7946: {checked.errors()}")
    try:
        read = _read(feature)
        if read.repaired or read.skipped or len(read.polygons) != 1:
            found.append(f"QuPath: {read}")
    except AnnotationError as error:
        found.append(str(error))
    return found


def _read(feature: Mapping[str, Any]) -> Annotations:
    reader = FeatureReader(Path("the feature"))
    reader.feature(feature, "it")
    return reader.found.annotations()
