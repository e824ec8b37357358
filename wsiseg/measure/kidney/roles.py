"""The roles of classes: glomerulus, sclerotic glomerulus, podocyte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from wsiseg.errors import ClassError

# Taken where nobody says otherwise, as far as the annotations know them.
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


def roles_of(
    known: Iterable[str],
    glomeruli: tuple[str, ...] = (),
    sclerotic: tuple[str, ...] = (),
    podocytes: tuple[str, ...] = (),
) -> ClassRoles:
    """The role of each class: the names given, and for a role without any the usual names among the known classes.

    Args:
        known: the classes that the annotations know; none at all is a file without any object
        glomeruli, sclerotic, podocytes: as the user said

    Raises:
        ClassError: a name given is not known or has two roles, or no class is a glomerulus
    """
    there = set(known)
    given = (*glomeruli, *sclerotic, *podocytes)
    for name in given:
        if name not in there:
            near = get_close_matches(name, sorted(there), n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}?" if near else "Name one of them."
            listed = ", ".join(map(repr, sorted(there))) or "none"
            raise ClassError(f"No object has the class {name!r}; the classes are {listed}. {hint}")
    picked = []
    for said, usual in ((glomeruli, GLOMERULI), (sclerotic, SCLEROTIC), (podocytes, PODOCYTES)):
        picked.append(said or tuple(name for name in usual if name in there and name not in given))
    names = ClassRoles(*picked)
    kinds = [name for kind in picked for name in dict.fromkeys(kind)]
    twice = sorted({name for name in kinds if kinds.count(name) > 1})
    if twice:
        raise ClassError(f"The class {twice[0]!r} cannot have two roles: name it for one of them.")
    if there and not names.any_glomeruli:
        listed = ", ".join(map(repr, sorted(there)))
        raise ClassError(
            f"None of the classes {listed} is known as a glomerulus: name one with --glomeruli, or measure with "
            "--profile generic."
        )
    return names
