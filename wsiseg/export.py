"""The same objects in another format: from a label map, or from a file that wsiseg wrote or reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import LabelledPolygon, Written
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame
from wsiseg.stores.prediction import is_label_map, read_prediction
from wsiseg.usage import explain


def export(
    source: Path,
    out: Path,
    *,
    postprocessing: Mapping[str, Any] | None = None,
    frame: Frame | None = None,
    class_of_rest: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Written:
    """Write the objects of a label map or of an annotation file in the format that `out` names.

    Args:
        source: a label map or an annotation file
        out: the file to write; its suffix chooses the format
        postprocessing: fields of `Postprocessing` that are to differ from the label map's own settings; None or empty
            gives the same objects as in every other command
        frame: level 0 of the slide, which tables and COCO need and a file drawn by hand does not say
        class_of_rest: the class of all annotations that have none
        say: told what became of the annotations of a file
        options: of the format's writer, such as `kind` and `legacy` of GeoJSON

    Returns:
        How many objects were written, repaired and dropped, and how many had what the format cannot say.

    Raises:
        AnnotationError: a file cannot be read or written in this format, or `frame` is needed
        StoreError: the label map is damaged
        OutputError: the place cannot be written
    """
    polygons: Iterable[LabelledPolygon]
    if is_label_map(source):
        found = read_prediction(source)
        assert found.labels is not None
        try:
            settings = replace(found.labels.postprocessing, **(postprocessing or {}))
        except ValidationError as error:
            raise AnnotationError(f"The objects cannot be found so: {explain(error, '')}.") from error
        polygons = found.objects(settings)
        manifest, classes, colours, frame = dict(found.manifest), found.classes, {}, found.level0
    else:
        if postprocessing:
            raise AnnotationError(
                f"{source} holds finished objects: sizes and simplification can be chosen for a label map alone."
            )
        intake = take_in(source, all_planes=True, class_of_rest=class_of_rest)
        say(str(intake.summary))
        polygons, manifest = intake.polygons, dict(intake.annotations.about)
        colours = dict(intake.annotations.colours)
        classes = replace(intake.annotations, polygons=intake.polygons).class_map()
        frame = intake.annotations.level0 or frame
    assert classes is not None
    properties = {"wsiseg": manifest} if manifest else None
    return write_annotations(
        out, polygons, classes=classes, properties=properties, frame=frame, colours=colours, **options
    )
