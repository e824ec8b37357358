"""The meaning of the labels of a map: index, name, colour."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from wsiseg.errors import ClassError

Colour = tuple[int, int, int]

# Okabe and Ito, "Color universal design" (2008): distinguished by people with any kind of colour vision.
PALETTE: tuple[Colour, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip

IGNORE = 255
IGNORED = ("Ignore", "Ignore*")  # classes of annotations that make no statement, unless somebody lists others


def canonical_name(name: str) -> str:
    """A class name in the one spelling used inside: composed Unicode (NFC), parents and children joined by ": ".

    "Tumor:necrosis" and "Tumor : necrosis" are "Tumor: necrosis" to QuPath, and "é" looks the same however many code
    points it takes.
    """
    parts = (part.strip() for part in unicodedata.normalize("NFC", name).split(":"))
    return ": ".join(part for part in parts if part)


def states_nothing(name: str) -> bool:
    """Whether a class name says "no statement": by QuPath's convention it or a parent ends in `*`, or it is "Ignore"."""
    parts = name.split(": ")
    return parts[0] == "Ignore" or any(part.endswith("*") for part in parts)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Names and colours of the labels 0, 1, …; label 0 is the background, label `ignore` (255) is "no statement".

    Attributes:
        names: one per label; the order is also the order of painting: where annotations overlap, the later class wins
        colours: (red, green, blue), 0 to 255, one per label
        ignore_names: classes of an annotation file that mean "do not train or judge here", painted over all others;
            further classes that state nothing by their name (see `states_nothing`) are ignored without being listed

    All names are kept as `canonical_name` spells them.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    ignore_names: tuple[str, ...] = IGNORED

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(canonical_name, self.names)))
        object.__setattr__(self, "ignore_names", tuple(map(canonical_name, self.ignore_names)))
        if not self.colours:
            paint = tuple(PALETTE[i % len(PALETTE)] for i in range(len(self.names) - 1))
            object.__setattr__(self, "colours", ((255, 255, 255), *paint))
        if len(self.names) < 2 or len(self.names) > IGNORE:
            raise ClassError(f"A class map needs 2 to {IGNORE} names, background first; it has {len(self.names)}.")
        if len(set(self.names)) != len(self.names) or not all(name.strip() for name in self.names):
            raise ClassError(f"Class names must be different and not blank: {', '.join(map(repr, self.names))}.")
        if set(self.names) & set(self.ignore_names):
            raise ClassError("A class cannot be learnt and ignored at once: remove it from one of the two lists.")
        if len(self.colours) != len(self.names):
            raise ClassError(f"{len(self.names)} classes need as many colours, not {len(self.colours)}.")
        for colour in self.colours:
            if len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
                raise ClassError(f"{colour} is not a colour: give three whole numbers from 0 to 255.")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def ignores(self, name: str) -> bool:
        """Whether a class is ignored: it is listed as such, or its name says so and it is not a class of this map."""
        name = canonical_name(name)
        return name in self.ignore_names or (states_nothing(name) and name not in self.names)

    def gives_way(self, name: str) -> bool:
        """Whether a class states nothing and is painted under all others: Region*, say, but not the listed ones."""
        name = canonical_name(name)
        return self.ignores(name) and not {name, name.split(": ")[0]} & {*self.ignore_names, "Ignore", "Ignore*"}

    def index(self, name: str) -> int:
        """The label of a class name, `IGNORE` for an ignored one; ClassError for a name that is neither."""
        name = canonical_name(name)
        if self.ignores(name):
            return IGNORE
        if name not in self.names:
            near = get_close_matches(name, self.names, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ClassError(f"The class {name!r} is unknown here; there are {', '.join(map(repr, self.names))}.{hint}")
        return self.names.index(name)

    def to_json(self) -> list[dict[str, Any]]:
        """As plain JSON values, one object per label; ignored classes carry the label 255."""
        rows = [
            {"index": i, "name": name, "color": list(colour)}
            for i, (name, colour) in enumerate(zip(self.names, self.colours, strict=True))
        ]
        return rows + [{"index": IGNORE, "name": name} for name in self.ignore_names]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> ClassMap:
        """The inverse of `to_json`."""
        kept = sorted((r for r in rows if r["index"] != IGNORE), key=lambda r: int(r["index"]))
        colours = tuple((int(r["color"][0]), int(r["color"][1]), int(r["color"][2])) for r in kept)
        ignored = tuple(str(r["name"]) for r in rows if r["index"] == IGNORE)
        return cls(tuple(str(r["name"]) for r in kept), colours, ignored)


def joined(first: ClassMap, second: ClassMap) -> ClassMap:
    """The classes of two maps as one: those of the second are painted over those of the first.

    Raises:
        ClassError: a name stands in both
    """
    twice = set(first.names[1:]) & set(second.names[1:])
    if twice:
        raise ClassError(f"Two models both say {', '.join(map(repr, sorted(twice)))}: rename a class of one of them.")
    names, colours = first.names + second.names[1:], list(first.colours + second.colours[1:])
    free = [c for c in PALETTE if c not in colours]
    for i, colour in enumerate(colours):
        if colour in colours[:i] and free:  # both took the first colours of the palette
            colours[i] = free.pop(0)
    ignored = tuple(dict.fromkeys(first.ignore_names + second.ignore_names))
    return ClassMap(names, tuple(colours), tuple(name for name in ignored if name not in names))
