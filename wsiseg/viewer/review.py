"""A person's decisions about the objects of a file, stored in a new file that can be used for training.

`NAME.geojson` is never touched; `NAME.reviewed.geojson` beside it is whole after every save:

| decision | in the reviewed file |
|---|---|
| accepted | the object, with the class that the person gave it |
| rejected | not there: its place is background |
| none yet | class `Ignore*` without what lies under accepted objects: nothing is learnt from what nobody looked at |

The decisions themselves are in the properties of the file, so that a later session goes on where this one ended.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash, read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.surround import statements_first
from wsiseg.classes import ClassMap, states_nothing
from wsiseg.errors import MismatchError
from wsiseg.geometry import Frame
from wsiseg.viewer.outlines import STATES, UNNAMED, OutlineLayer

NO_STATEMENT = "Ignore*"
UNREVIEWED, ACCEPTED, REJECTED = range(3)
ENDINGS = (".gz", ".geojson", ".json", ".xml")


def reviewed_path(source: Path) -> Path:
    """`NAME.reviewed.geojson` beside an outline file NAME.geojson, .json, .xml, packed or not."""
    name = source.name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return source.with_name(f"{name}.reviewed.geojson")


class Review:
    """The review of one file. Several threads may decide and save.

    Args:
        layer: its outlines; their `state` and `label` are kept in step with the decisions
        source: the outline file
        slide: identity of the slide, written into the reviewed file
        level0: plane of the outlines

    Raises:
        MismatchError: there is a reviewed file already that was made from something else
        AnnotationError: a file cannot be read
    """

    def __init__(self, layer: OutlineLayer, source: Path, slide: Mapping[str, Any], level0: Frame) -> None:
        self.layer, self.source, self.path = layer, source, reviewed_path(source)
        self._slide, self._level0, self._hash = dict(slide), level0, file_hash(source)
        self._original = layer.label.copy()
        self._lock, self._saving = threading.Lock(), threading.Lock()
        self._unsaved = False
        layer.reviewed = True
        if self.path.exists():
            self._resume()

    @property
    def unsaved(self) -> bool:
        """Whether there are decisions that the file does not have yet."""
        return self._unsaved

    def decide(self, number: int, state: str, label: str | None) -> bool:
        """Decide on one object; `save` writes it down.

        Args:
            number: place of the object in its file
            state: one of `STATES`
            label: its class from now on; None leaves it; must be one of the layer's

        Returns:
            False where there is no such object, state or class, and nothing is changed.
        """
        names = self.layer.palette.names
        if (
            not 0 <= number < len(self.layer.polygons)
            or state not in STATES
            or (label is not None and label not in names)
        ):
            return False
        with self._lock:
            if label is not None:
                self.layer.label[number] = names.index(label)
            self.layer.state[number] = STATES.index(state)
            self._changed()
        return True

    def accept_rest(self) -> int:
        """Accept all objects without a decision; returns their number."""
        with self._lock:
            rest = self.layer.state == UNREVIEWED
            self.layer.state[rest] = ACCEPTED
            self._changed()
        return int(rest.sum())

    def save(self) -> None:
        """Write the reviewed file, if anything changed since the last time.

        Raises:
            OutputError: the place cannot be written; the decisions stay in memory
            BusyError: another process is writing the same file
        """
        with self._saving:
            with self._lock:
                if not self._unsaved:
                    return
                state, label = self.layer.state.copy(), self.layer.label.copy()
                self._unsaved = False
            try:
                write_annotations(
                    self.path, self._statements(state, label), classes=self._classes(),
                    properties={"wsiseg": self._manifest(state, label)},
                )  # fmt: skip
            except BaseException:
                self._unsaved = True
                raise

    def _changed(self) -> None:
        self._unsaved = True
        self.layer.revision += 1

    def _statements(self, state: np.ndarray, label: np.ndarray) -> list[LabelledPolygon]:
        names = self.layer.palette.names
        kept = []
        for number in np.flatnonzero(state != REJECTED).tolist():
            name = names[label[number]] if state[number] == ACCEPTED else NO_STATEMENT
            kept.append(replace(self.layer.polygons[number], label=None if name == UNNAMED else name))
        return statements_first(kept)

    def _classes(self) -> ClassMap:
        pairs = zip(self.layer.palette.names, self.layer.palette.colours, strict=True)
        known = [(n, c) for n, c in pairs if n not in ("Background", UNNAMED) and not states_nothing(n)]
        # a file of objects without any class has none to list, and a class map needs one
        known = known or [("Object", (0, 114, 178))]
        return ClassMap(("Background", *(n for n, _ in known)), ((255, 255, 255), *(c for _, c in known)))

    def _manifest(self, state: np.ndarray, label: np.ndarray) -> dict[str, Any]:
        names = self.layer.palette.names
        moved = np.flatnonzero(label != self._original)
        return {
            "kind": "review",
            "version": __version__,
            "slide": self._slide,
            "level0": self._level0.to_json(),
            "classes": self._classes().to_json(),
            "source": {"name": self.source.name, "hash": self._hash},
            "accepted": np.flatnonzero(state == ACCEPTED).tolist(),
            "rejected": np.flatnonzero(state == REJECTED).tolist(),
            "classes_changed": {str(n): names[label[n]] for n in moved.tolist()},
        }

    def _resume(self) -> None:
        """Take over the decisions of an earlier session."""
        found = read_annotations(self.path).properties.get("wsiseg")
        advice = "move it away, or view it instead"
        if not isinstance(found, dict) or found.get("kind") != "review":
            raise MismatchError(f"{self.path} is in the way and no review of {self.source.name}: {advice}.")
        source = found.get("source")
        if not isinstance(source, dict) or source.get("hash") != self._hash:
            raise MismatchError(f"{self.path} is a review of another version of {self.source.name}: {advice}.")
        names, size = self.layer.palette.names, len(self.layer.polygons)
        states = {ACCEPTED: found.get("accepted", []), REJECTED: found.get("rejected", [])}
        moved = found.get("classes_changed", {})
        plain = isinstance(moved, dict) and all(isinstance(some, list) for some in states.values())
        if not plain or not all(n.isdecimal() and len(n) < 10 for n in moved):
            raise MismatchError(f"{self.path} is a damaged review of {self.source.name}: {advice}.")
        changed = {int(n): name for n, name in moved.items()}
        numbers = [*states[ACCEPTED], *states[REJECTED], *changed]
        if not all(type(n) is int and 0 <= n < size for n in numbers):
            raise MismatchError(f"{self.path} decides on objects that {self.source.name} does not have: {advice}.")
        for name in changed.values():
            if name not in names:
                raise MismatchError(f"{self.path} has the class {name!r}: name it with --classes to go on.")
        for state, chosen in states.items():
            self.layer.state[np.array(chosen, np.int64)] = state
        for number, name in changed.items():
            self.layer.label[number] = names.index(name)
