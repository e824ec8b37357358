"""The scene: the slide and the layers over it, read from the files that the command names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wsiseg.annotations.intake import named, take_in
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import Colour
from wsiseg.errors import AnnotationError, MismatchError
from wsiseg.evaluation.objects import match_objects
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.prediction import is_label_map
from wsiseg.viewer.layer import Layer
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.pyramid import OVERLAP, TILE, Pyramid
from wsiseg.viewer.rasters import GridLayer, LabelLayer, ScoreLayer, TissueLayer
from wsiseg.viewer.review import Review
from wsiseg.viewer.style import GREY, Style

# Bluish green, vermilion and reddish purple of Okabe and Ito, distinguished with any kind of colour vision
AGREEMENT: dict[str, Colour] = {"Agreement": (0, 158, 115), "Missed": (213, 94, 0), "False": (204, 121, 167)}
GRID_MPP, GRID_SIZE = 1.0, 512  # what `wsiseg tile` takes unless told otherwise

Say = Callable[[str], None]


@dataclass
class Scene:
    """A slide, the layers over it, and the reviews of those that can be reviewed.

    Attributes:
        slide: open
        layers: in the order of drawing
        shown: which of them are visible at first
        reviews: place in `layers` -> its review
        session: random text; another one means that pictures kept by a browser may be of something else
    """

    slide: Slide
    layers: list[Layer]
    shown: set[int]
    reviews: dict[int, Review]
    session: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def pyramid(self) -> Pyramid:
        """The levels of the slide and of every layer."""
        return Pyramid(self.slide.frame)

    def describe(self) -> dict[str, Any]:
        """All that the page needs to start, as JSON values."""
        frame, pyramid = self.slide.frame, self.pyramid
        padded = pyramid.frame(0)
        return {
            "session": self.session, "name": self.slide.name,
            "tile": TILE, "overlap": OVERLAP, "levels": pyramid.levels,
            "width": frame.width, "height": frame.height, "padded": [padded.width, padded.height],
            "mpp": [frame.mpp, frame.mpp_y], "layers": [self.about(i) for i in range(len(self.layers))],
        }  # fmt: skip

    def about(self, number: int) -> dict[str, Any]:
        """One layer, as JSON values."""
        more: dict[str, Any] = {"id": number, "shown": number in self.shown}
        if number in self.reviews:
            more |= {"unsaved": self.reviews[number].unsaved, "file": self.reviews[number].path.name}
        return self.layers[number].describe() | more

    def close(self) -> None:
        """Save everything and close the slide; OutputError if a review cannot be written."""
        try:
            for review in self.reviews.values():
                review.close()
        finally:
            self.slide.close()


def open_scene(
    slide: Slide,
    paths: Sequence[Path],
    *,
    reference: Path | None = None,
    classes: Sequence[str] = (),
    class_of_rest: str | None = None,
    say: Say = lambda line: None,
) -> Scene:
    """Read everything that is to be shown.

    Args:
        slide: open; the scene closes it
        paths: files of polygons and label maps (.zarr), the later ones on top
        reference: annotations to compare the first file of polygons with
        classes: more classes to choose from in a review
        class_of_rest: the class of all annotations that have none
        say: told what was found, a line at a time

    Raises:
        AnnotationError: a file cannot be read, is named twice, or there is nothing to compare the reference with
        StoreError: a label map is damaged
        MismatchError: a file was made from another slide, or a reviewed file is in the way
    """
    names = [path.resolve() for path in (*paths, *([reference] if reference else []))]
    for path in names:
        if names.count(path) > 1:
            raise AnnotationError(f"{path.name} is given twice: give each file once.")
    layers: list[Layer] = [TissueLayer(slide)]
    grid = Grid(slide.frame.at(GRID_MPP), GRID_SIZE)
    shown: set[int] = set()
    reviews: dict[int, Review] = {}
    prediction: OutlineLayer | None = None
    seen: dict[str, Colour] = {}  # a class has one colour, whichever file it comes from
    for path in paths:
        if is_label_map(path):
            labels = LabelMap(path)
            _fits(labels.level0, slide, path)
            layers += [LabelLayer(path.name, labels), ScoreLayer(f"{path.name}, confidence", labels)]
            grid = labels.grid
            if all(map(is_label_map, paths)):  # polygons say the same, and more exactly
                shown.add(len(layers) - 2)
        else:
            layer = _outline_layer(path, slide, seen, classes, class_of_rest, say)
            shown.add(len(layers))
            reviews[len(layers)] = Review(layer, path, slide.identity, slide.frame)
            layers.append(layer)
            prediction = prediction or layer
    if reference is not None:
        if prediction is None:
            raise AnnotationError(
                f"There are no outlines to compare {reference} with: give those of the prediction too."
            )
        wanted = _outline_layer(reference, slide, seen, (), class_of_rest, say)
        layers += [wanted, compared(wanted.polygons, prediction.polygons, slide.frame)]
        shown = {len(layers) - 1}
    layers.append(GridLayer(grid))
    warm_up(layers, slide.frame)
    return Scene(slide, layers, shown, reviews)


def _outline_layer(
    path: Path, slide: Slide, seen: dict[str, Colour], more: Sequence[str], class_of_rest: str | None, say: Say
) -> OutlineLayer:
    """The layer of a file of polygons; `seen` are the colours of all classes so far, and its own are added to them.

    Everything in the file is shown, also what other commands leave out, in the file's order.
    """
    intake = take_in(path, slide)
    found = intake.annotations
    if found.level0 is not None:
        _fits(found.level0, slide, path)
    say(str(intake.summary))
    known = found.classes
    given = dict(zip(known.names[1:], known.colours[1:], strict=True)) if known else {}
    layer = OutlineLayer(
        path.name, named(found.polygons, {}, class_of_rest), slide.frame, given=seen | given, more=more
    )
    seen |= {name: c for name, c in zip(layer.names, layer.colours, strict=True) if c != GREY}
    return layer


def _fits(level0: Frame, slide: Slide, path: Path) -> None:
    if level0 != slide.frame:
        raise MismatchError(
            f"{path} was made from a slide of another size or µm/px than {slide.name}: give a file of this slide."
        )


def compared(
    reference: Sequence[LabelledPolygon], prediction: Sequence[LabelledPolygon], level0: Frame
) -> OutlineLayer:
    """Reference against prediction as one layer, objects matched class by class as by `wsiseg.evaluation.objects`.

    "Agreement" are the prediction's objects that have a partner, "False" those that have none, and "Missed" are the
    objects of the reference without a partner.
    """
    rows: list[LabelledPolygon] = []
    for name in sorted({r.label for r in (*reference, *prediction)}, key=str):
        wanted = [r for r in reference if r.label == name]
        said = [r for r in prediction if r.label == name]
        matches = match_objects(wanted, said)
        rows += [replace(said[j], label="Agreement", measurements={"IoU": iou}) for _, j, iou in matches.found]
        rows += [replace(said[j], label="False", measurements={}) for j in matches.unmatched]
        rows += [replace(wanted[i], label="Missed", measurements={}) for i in matches.missed]
    return OutlineLayer(
        "Reference against prediction", rows, level0, given=AGREEMENT, more=tuple(AGREEMENT), kind="agreement"
    )


def warm_up(layers: Sequence[Layer], frame: Frame) -> None:
    """Compile what paints outlines, so that the first tile does not wait for it."""
    for layer in layers:
        if isinstance(layer, OutlineLayer):
            layer.tile(Box(0, 0, 8, 8), frame, Style())
            layer.at(0.0, 0.0)
            return
