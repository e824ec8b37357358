"""What labels mean."""

import pytest

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import ClassError


def test_names_have_their_places() -> None:
    classes = ClassMap(("Background", "Glomerulus", "Tubule"))
    assert [classes.index(name) for name in classes] == [0, 1, 2]
    assert classes.index("Ignore") == IGNORE
    assert len(set(classes.colours)) == 3


def test_an_unknown_name_says_what_there_is_and_what_was_meant() -> None:
    with pytest.raises(ClassError, match=r"'Glomerulus'.*Did you mean 'Glomerulus'"):
        ClassMap(("Background", "Glomerulus")).index("glomerulus")


@pytest.mark.parametrize(
    "names", [("Background",), ("A", "A"), ("A", " "), ("Background", "Ignore"), tuple(map(str, range(256)))]
)
def test_impossible_lists_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ClassError):
        ClassMap(names)


@pytest.mark.parametrize("colour", [(0, 0), (0, 0, 256), (0, 0, 0.5)])
def test_impossible_colours_are_refused(colour: tuple[int, int, int]) -> None:
    with pytest.raises(ClassError, match="colour"):
        ClassMap(("Background", "A"), ((255, 255, 255), colour))


def test_classes_survive_json() -> None:
    classes = ClassMap(("Background", "A"), ((1, 2, 3), (4, 5, 6)), ("Skip",))
    assert ClassMap.from_json(classes.to_json()) == classes
