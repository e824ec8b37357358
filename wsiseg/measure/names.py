"""Which class of an outline file is a glomerulus, a sclerotic glomerulus, a podocyte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from wsiseg.annotations.polygon import Annotations
from wsiseg.classes import ClassMap
from wsiseg.errors import ClassError

# Taken where nobody says otherwise, as far as the outlines know them.
GLOMERULI = ("Glomerulus",)
SCLEROTIC = ("Sclerotic glomerulus", "Globally sclerotic glomerulus")
PODOCYTES = ("Podocyte", "Podocyte nucleus")


@dataclass(frozen=True, slots=True)
class ClassRoles:
    """Classes by what they are.

    Attributes:
        glomeruli: glomeruli that are not globally sclerotic
        sclerotic: globally sclerotic glomeruli
        podocytes: nuclei of podocytes; empty if nobody looked for any
    """

    glomeruli: tuple[str, ...]
    sclerotic: tuple[str, ...]
    podocytes: tuple[str, ...] = ()

    @property
    def any_glomeruli(self) -> frozenset[str]:
        """Both kinds of glomeruli."""
        return frozenset((*self.glomeruli, *self.sclerotic))


def classes_of(found: Iterable[Annotations]) -> tuple[ClassMap, frozenset[str]]:
    """The classes that outline files know: those of the model that made them, and those of their outlines.

    Returns:
        all of them with a background, in the colours of the first file that states them; and their names without
        background and without what is to be ignored, perhaps none
    """
    colours: dict[str, tuple[int, int, int]] = {}
    unstated: set[str] = set()
    ignored = {"Ignore", "Ignore*"}
    for outlines in found:
        classes = outlines.classes
        if classes is not None:
            ignored |= set(classes.ignore_names)
            for name, colour in zip(classes.names, classes.colours, strict=True):
                colours.setdefault(name, colour)
        unstated |= {r.label for r in outlines.polygons if r.label is not None}
    plain = sorted(unstated - set(colours) - ignored - {"Background"})
    stated = colours or {"Background": (255, 255, 255)}
    names = (*stated, *plain)
    known = frozenset(names[1:])
    if not known:
        names = (*names, "Object")  # a class map without a class is none
    paint = ClassMap(names).colours[len(stated) :] if len(names) > len(stated) else ()
    return ClassMap(names, (*stated.values(), *paint), tuple(sorted(ignored - set(names)))), known


def chosen(
    known: Iterable[str],
    glomeruli: tuple[str, ...] = (),
    sclerotic: tuple[str, ...] = (),
    podocytes: tuple[str, ...] = (),
) -> ClassRoles:
    """What is what: the names given, and for each kind that has none the usual ones among the known.

    Args:
        known: the classes that the outlines know; none at all is an outline file without any object
        glomeruli, sclerotic, podocytes: as the user said

    Raises:
        ClassError: a name given is not known, stands for two kinds, or no class is a glomerulus
    """
    there = set(known)
    given = (*glomeruli, *sclerotic, *podocytes)
    for name in given:
        if name not in there:
            near = get_close_matches(name, sorted(there), n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}?" if near else "Name one of them."
            listed = ", ".join(map(repr, sorted(there))) or "none"
            raise ClassError(f"No outline has the class {name!r}; the classes are {listed}. {hint}")
    picked = []
    for said, usual in ((glomeruli, GLOMERULI), (sclerotic, SCLEROTIC), (podocytes, PODOCYTES)):
        picked.append(said or tuple(name for name in usual if name in there and name not in given))
    names = ClassRoles(*picked)
    kinds = [name for kind in picked for name in dict.fromkeys(kind)]
    twice = sorted({name for name in kinds if kinds.count(name) > 1})
    if twice:
        raise ClassError(f"The class {twice[0]!r} cannot be two things at once: name it for one of them.")
    if there and not names.any_glomeruli:
        listed = ", ".join(map(repr, sorted(there)))
        raise ClassError(f"No class is known as a glomerulus; the classes are {listed}: name one with --glomeruli.")
    return names
