"""A person's decisions about the objects of a file, and what the person drew, in a new file that can be used for training.

`NAME.geojson` is never touched; `NAME.reviewed.geojson` lies beside it:

| object | in the reviewed file |
|---|---|
| accepted | the object, with the class that the person gave it |
| drawn or corrected by hand | the object; what it replaces is not there |
| rejected | not there: its place is background |
| no decision yet | class `Ignore*` without what lies under accepted objects: nothing is learnt from what nobody looked at |

The decisions themselves are in the properties of the file, so that a later session goes on where this one ended. Of a
small file the reviewed file is written again after every change. Of a large one each change is appended to a journal,
`NAME.reviewed.geojson.journal`, and the reviewed file is written when the viewer ends; if the viewer was killed, the
next one takes the journal up.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from wsiseg import __version__
from wsiseg.annotations.feature import from_feature, to_feature
from wsiseg.annotations.formats import file_hash, read_annotations, write_annotations
from wsiseg.annotations.json_file import opened
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.surround import statements_first
from wsiseg.atomic import lock, translate_os_errors
from wsiseg.classes import ClassMap, states_nothing
from wsiseg.errors import AnnotationError, MismatchError
from wsiseg.geometry import Frame
from wsiseg.viewer.edit import DECISIONS, Edit, edited
from wsiseg.viewer.outlines import ACCEPTED, GONE, REJECTED, STATES, UNNAMED, UNREVIEWED, Change, OutlineLayer

NO_STATEMENT = "Ignore*"
ENDINGS = (".gz", ".geojson", ".json", ".xml")
REWRITTEN = 5000  # objects of a file whose review is written again after every change
STEPS = 200  # that can be undone
ADVICE = "move it away, or view it instead"


def reviewed_path(source: Path) -> Path:
    """`NAME.reviewed.geojson` beside a file NAME.geojson, .json or .xml, packed or not."""
    name = source.name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return source.with_name(f"{name}.reviewed.geojson")


class Review:
    """The review of one file. Several threads may use it.

    Args:
        layer: its objects, which follow the decisions
        source: the file of objects
        slide: identity of the slide, written into the reviewed file
        level0: plane of the objects

    Raises:
        MismatchError: there is a reviewed file already that was made from something else
        AnnotationError: a file cannot be read
        BusyError: another viewer has the journal
    """

    def __init__(self, layer: OutlineLayer, source: Path, slide: Mapping[str, Any], level0: Frame) -> None:
        self.layer, self.source, self.path = layer, source, reviewed_path(source)
        self.journal = self.path.with_name(f"{self.path.name}.journal")
        self._slide, self._level0, self._hash = dict(slide), level0, file_hash(source)
        self._original = layer.label.copy()
        self._lock, self._saving = threading.RLock(), threading.Lock()
        self._undo: deque[Change] = deque(maxlen=STEPS)
        self._redo: deque[Change] = deque(maxlen=STEPS)
        self._whole = layer.from_file <= REWRITTEN
        self._changed = False  # since the reviewed file was written
        self._lines: list[bytes] = []  # changes that the journal does not have
        self._file: BinaryIO | None = None
        layer.reviewed = True
        if self.path.exists():
            self._resume()
        if self.journal.exists():
            self._replay()

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that are in no file yet."""
        return bool(self._changed if self._whole else self._lines)

    def decide(self, numbers: Sequence[int], state: str, label: str | None) -> bool:
        """Decide on objects; `save` writes it down. What was drawn is accepted as long as it is there at all.

        Args:
            numbers: places of the objects in the layer
            state: one of `STATES` but the last
            label: their class from now on; None leaves it; must be one of the layer's

        Returns:
            False where there is no such object, state or class, and nothing is changed.
        """
        names, layer = self.layer.names, self.layer
        if not (self.has(numbers) and state in STATES[:GONE] and (label is None or label in names)):
            return False
        chosen = np.array(sorted(set(numbers)), np.int64)
        wanted = np.full(len(chosen), STATES.index(state), np.int8)
        drawn = chosen >= layer.from_file
        wanted[drawn] = GONE if state == "rejected" else ACCEPTED
        labels = layer.label[chosen] if label is None else np.full(len(chosen), names.index(label), np.int16)
        self._make(Change(chosen, wanted, labels))
        return True

    def has(self, numbers: Sequence[int]) -> bool:
        """Whether there are objects of all these numbers."""
        state = self.layer.state
        return bool(numbers) and all(0 <= n < len(state) and state[n] != GONE for n in numbers)

    def accept_rest(self) -> int:
        """Accept all objects without a decision; returns their number."""
        rest = np.flatnonzero(self.layer.state == UNREVIEWED)
        if len(rest):
            self._make(Change(rest, np.full(len(rest), ACCEPTED, np.int8), self.layer.label[rest]))
        return len(rest)

    def edit(self, edit: Edit) -> list[int]:
        """Do what a person did by hand; returns the numbers of the objects that came of it.

        Raises:
            ValueError: nothing can come of it, in one sentence
        """
        with self._lock:
            decision = DECISIONS.get(edit.tool)
            if decision and not edit.objects:
                raise ValueError("Select an object first: click on it.")
            if edit.objects and not self.has(edit.objects):
                raise ValueError("An object that was selected is no longer there: select again.")
            if decision is None:
                return self.put(*edited(self.layer, edit))
            if not self.decide(edit.objects, decision, edit.label if edit.tool == "class" else None):
                raise ValueError("There is no such class: choose one of the list.")
            return [n for n in edit.objects if self.layer.state[n] != GONE]

    def put(self, drawn: Sequence[LabelledPolygon], instead: Sequence[int]) -> list[int]:
        """Add objects that a person drew, and take away those that they replace; returns the new numbers."""
        with self._lock:
            new = self.layer.add(drawn)
            numbers = np.concatenate([np.array(instead, np.int64), new])
            state = np.repeat(np.array([GONE, ACCEPTED], np.int8), [len(instead), len(drawn)])
            self._make(Change(numbers, state, self.layer.label[numbers]), drawn)
        return new.tolist()

    def step(self, *, back: bool) -> list[int] | None:
        """Undo the last change, or make an undone one again; returns the objects that it leaves, None if there is none."""
        one, other = (self._undo, self._redo) if back else (self._redo, self._undo)
        with self._lock:
            if not one:
                return None
            change = one.pop()
            other.append(self.layer.apply(change))
            self._note(change)
        return change.numbers[change.state != GONE].tolist()

    def _make(self, change: Change, drawn: Sequence[LabelledPolygon] = ()) -> None:
        with self._lock:
            self._undo.append(self.layer.apply(change))
            self._redo.clear()
            self._note(change, drawn)

    def _note(self, change: Change, drawn: Sequence[LabelledPolygon] = ()) -> None:
        self._changed = True
        if not self._whole:
            entry = {
                "numbers": change.numbers, "state": change.state, "label": change.label, "names": self.layer.names,
                "drawn": [to_feature(region) for region in drawn],
            }  # fmt: skip
            self._lines.append(orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def save(self) -> None:
        """Write down what changed since the last time: the reviewed file, or a line of the journal.

        Raises:
            OutputError: the place cannot be written; the decisions stay in memory
            BusyError: another process is writing the same file
        """
        with self._saving:
            if self._whole:
                self._write()
            elif self._lines:
                self._append()

    def close(self) -> None:
        """Write the reviewed file and remove the journal; see `save`."""
        with self._saving:
            self._write()
            if self._file is not None:
                self.journal.unlink()
                self._file.close()

    def _write(self) -> None:
        with self._lock:
            if not self._changed:
                return
            state, label, polygons = self.layer.state.copy(), self.layer.label.copy(), list(self.layer.polygons)
            self._changed, lines = False, len(self._lines)
        try:
            write_annotations(
                self.path, self._statements(polygons, state, label), classes=self._classes(),
                properties={"wsiseg": self._manifest(polygons, state, label)},
            )  # fmt: skip
        except BaseException:
            self._changed = True
            raise
        del self._lines[:lines]

    def _append(self) -> None:
        with translate_os_errors(self.journal):
            if self._file is None:
                self._file = lock(self.journal, self.path)
                self._file.truncate(0)
                self._lines.insert(0, orjson.dumps({"kind": "journal", "source": self._hash}) + b"\n")
            lines, descriptor = list(self._lines), self._file.fileno()
            end, rest = os.fstat(descriptor).st_size, memoryview(b"".join(lines))
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:  # half a line would be in the way of the next one
                os.ftruncate(descriptor, end)
                raise
        del self._lines[: len(lines)]

    def _statements(
        self, polygons: Sequence[LabelledPolygon], state: NDArray[np.int8], label: NDArray[np.int16]
    ) -> list[LabelledPolygon]:
        names, kept = self.layer.names, []
        for number in np.flatnonzero(state < REJECTED).tolist():
            name = names[label[number]] if state[number] == ACCEPTED else NO_STATEMENT
            kept.append(replace(polygons[number], label=None if name == UNNAMED else name))
        return statements_first(kept)

    def _classes(self) -> ClassMap:
        pairs = zip(self.layer.names, self.layer.colours, strict=True)
        known = [(n, c) for n, c in pairs if n not in ("Background", UNNAMED) and not states_nothing(n)]
        # a file of objects without any class has none to list, and a class map needs one
        known = known or [("Object", (0, 114, 178))]
        return ClassMap(("Background", *(n for n, _ in known)), ((255, 255, 255), *(c for _, c in known)))

    def _manifest(
        self, polygons: Sequence[LabelledPolygon], state: NDArray[np.int8], label: NDArray[np.int16]
    ) -> dict[str, Any]:
        size = self.layer.from_file
        own, drawn = state[:size], np.flatnonzero(state[size:] == ACCEPTED) + size
        moved = np.flatnonzero(label[:size] != self._original)
        return {
            "kind": "review",
            "version": __version__,
            "slide": self._slide,
            "level0": self._level0.to_json(),
            "classes": self._classes().to_json(),
            "source": {"name": self.source.name, "hash": self._hash},
            "accepted": np.flatnonzero(own == ACCEPTED).tolist(),
            "rejected": np.flatnonzero(own == REJECTED).tolist(),
            "replaced": np.flatnonzero(own == GONE).tolist(),
            "drawn": [polygons[n].id for n in drawn.tolist()],
            "classes_changed": {str(n): self.layer.names[label[n]] for n in moved.tolist()},
        }

    def _resume(self) -> None:
        """Take over the decisions and the drawn objects of an earlier session."""
        about, layer = _about(self.path), self.layer
        if about.get("kind") != "review":
            raise MismatchError(f"{self.path} is in the way and no review of {self.source.name}: {ADVICE}.")
        source = about.get("source")
        if not isinstance(source, dict) or source.get("hash") != self._hash:
            raise MismatchError(f"{self.path} is a review of another version of {self.source.name}: {ADVICE}.")
        moved, ids = about.get("classes_changed", {}), about.get("drawn", [])
        marked = {state: about.get(key, []) for key, state in _MARKS.items()}
        plain = isinstance(moved, dict) and isinstance(ids, list) and all(isinstance(m, list) for m in marked.values())
        if plain and all(n.isascii() and n.isdecimal() and len(n) < 10 for n in moved):
            numbers = [n for some in (*marked.values(), map(int, moved)) for n in some]
            plain = all(type(n) is int and 0 <= n < layer.from_file for n in numbers)
        else:
            plain = False
        drawn = _named(self.path, {i for i in ids if isinstance(i, str)}) if plain else []
        if not plain or len(drawn) != len(ids):
            raise MismatchError(f"{self.path} is a damaged review of {self.source.name}: {ADVICE}.")
        self._known([*moved.values(), *(p.label or UNNAMED for p in drawn)])
        new = layer.add(drawn)
        layer.state[new] = ACCEPTED
        for state, chosen in marked.items():
            layer.state[np.array(chosen, np.int64)] = state
        for number, name in moved.items():
            layer.label[int(number)] = layer.names.index(name)

    def _known(self, names: Sequence[object]) -> None:
        for name in names:
            if name not in self.layer.names:
                raise MismatchError(f"{self.path} has the class {name!r}: name it with --classes to go on.")

    def _replay(self) -> None:
        """Take over the changes that a killed viewer left in its journal."""
        self._file = lock(self.journal, self.path)
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]  # the last one may have been cut
        self._file.truncate(sum(map(len, whole)))
        try:
            entries = [orjson.loads(line) for line in whole]
            if entries and entries[0]["source"] != self._hash:
                raise MismatchError(f"{self.journal} belongs to another version of {self.source.name}: move it away.")
            drawn = [from_feature(feature) for entry in entries[1:] for feature in entry["drawn"]]
            self._known(list(dict.fromkeys(name for entry in entries[1:] for name in entry["names"])))
            if drawn:
                self.layer.add(drawn)  # once: it indexes all objects again
            for entry in entries[1:]:
                table = np.array([self.layer.names.index(name) for name in entry["names"]], np.int16)
                numbers, state = np.array(entry["numbers"], np.int64), np.array(entry["state"], np.int8)
                if ((numbers < 0) | (state < 0) | (state > GONE)).any():
                    raise ValueError("a number is negative")
                self.layer.apply(Change(numbers, state, table[np.array(entry["label"], np.int64)]))
        except (ValueError, LookupError, TypeError, AnnotationError) as error:
            raise MismatchError(f"{self.journal} is damaged: move it away.") from error
        self._changed = True


_MARKS = {"accepted": ACCEPTED, "rejected": REJECTED, "replaced": GONE}


# How `write_geojson` begins a file and each of its lines
HEAD, FEATURE = b'{"type":"FeatureCollection","properties":', b'{"type":"Feature","id":"'
UUID_CHARS = 36


def _about(path: Path) -> Mapping[str, Any]:
    """What a reviewed file says of its making: in the first line of one that wsiseg wrote and nobody changed."""
    with opened(path) as file:
        first = file.readline()
    with contextlib.suppress(orjson.JSONDecodeError, LookupError):
        if first.startswith(HEAD):
            about: Mapping[str, Any] = orjson.loads(first.rstrip() + b"]}")["properties"]["wsiseg"]
            return about
    return read_annotations(path).about


def _named(path: Path, ids: Set[str]) -> list[LabelledPolygon]:
    """The objects of a reviewed file that have one of these ids: those of a million others are not looked at."""
    if not ids:
        return []
    with opened(path) as file, contextlib.suppress(orjson.JSONDecodeError):
        if file.readline().startswith(HEAD):
            wanted, at = {i.encode() for i in ids}, len(FEATURE)
            lines = [s for s in file if s.startswith(FEATURE) and s[at : at + UUID_CHARS] in wanted]
            return [from_feature(orjson.loads(line.rstrip(b",\n"))) for line in lines]
    return [polygon for polygon in read_annotations(path).polygons if polygon.id in ids]
