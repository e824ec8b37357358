"""The objects of a slide, whatever kind of file holds them: a label map or an annotation file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import ClassMap, joined
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame
from wsiseg.stores.labels import LabelMap
from wsiseg.usage import Postprocessing


@dataclass(frozen=True)
class PredictionFile:
    """A prediction as it lies on disk.

    Attributes:
        path: the file, or the folder of the label map
        labels: the label map; None where the file is an annotation file
        parent: of a label map that was made in a cascade, the prediction of the parent model
    """

    path: Path
    labels: LabelMap | None = None
    parent: Annotations | None = None

    @cached_property
    def annotations(self) -> Annotations:
        """All objects, and what was skipped or repaired while they were read."""
        if self.labels is None:
            return read_annotations(self.path)
        return Annotations(tuple(self.objects()), properties={"wsiseg": self.manifest})

    def objects(self, postprocessing: Postprocessing | None = None) -> Iterable[LabelledPolygon]:
        """The objects in level-0 pixels; those of a label map one by one, never all in memory.

        Args:
            postprocessing: other settings than the label map's own

        Raises:
            AnnotationError: other settings for an annotation file, whose objects are there already
        """
        if self.labels is not None:
            found: Iterator[LabelledPolygon] = self.labels.objects(postprocessing)
            return found if self.parent is None else chain(self.parent.polygons, map(_as_detection, found))
        if postprocessing is not None:
            raise AnnotationError(
                f"{self.path} holds finished objects: sizes and simplification can be chosen for a label map alone."
            )
        return self.annotations.polygons

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What the prediction was made from, as JSON values; empty where the file does not say."""
        if self.labels is None:
            return self.annotations.about
        first = {} if self.parent is None else {"first": self.parent.properties["wsiseg"]}
        return self.labels.manifest | first

    @cached_property
    def classes(self) -> ClassMap | None:
        """The classes of its model, or of both models of a cascade; None where the file does not say."""
        if self.labels is None:
            return self.annotations.classes
        before = None if self.parent is None else self.parent.classes
        return self.labels.classes if before is None else joined(before, self.labels.classes)

    @cached_property
    def level0(self) -> Frame | None:
        """The plane of the slide that it was made from; None where the file does not say."""
        return self.annotations.level0 if self.labels is None else self.labels.level0


def _as_detection(polygon: LabelledPolygon) -> LabelledPolygon:
    """For QuPath, whose "Resolve hierarchy" goes by the centroids of detections alone."""
    return replace(polygon, details=replace(polygon.details, kind="detection"))


def is_label_map(path: Path) -> bool:
    """Whether a path is meant to be a label map: they are folders, and annotation files never are."""
    return path.suffix == ".zarr" or path.is_dir()


def read_prediction(path: Path) -> PredictionFile:
    """A label map or an annotation file, known by its content.

    Raises:
        AnnotationError: the file is missing, of no known format, or damaged
        StoreError: there is no label map at this path, or it is damaged
    """
    path = Path(path)
    if not is_label_map(path):
        found = PredictionFile(path)
        found.annotations  # noqa: B018  read at once, so that a damaged file is reported here
        return found
    labels = LabelMap(path)
    return PredictionFile(path, labels, None if labels.parent is None else read_annotations(labels.parent))
