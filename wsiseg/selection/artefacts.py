"""The artefacts of one slide: blur, folds, pen and bubbles, and which of them to leave out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.trace import trace
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame
from wsiseg.progress import Report, silent
from wsiseg.selection import artefact_masks
from wsiseg.selection.focus import sharpness
from wsiseg.selection.tissue import (
    LOOK_UM,
    PEN_MAX_FRACTION,
    Readable,
    TissueMask,
    find_tissue,
    is_dark,
    transmittance,
)

CLASSES = ClassMap(("Background", "Blur", "Fold", "Pen", "Bubble"))
BLUR, FOLD, PEN, BUBBLE = 1, 2, 3, 4  # where they overlap, pen wins over a bubble, that over blur, that over a fold
# What is left out on demand. Folds are not: all that were looked at on real biopsies were dark tubules or blood.
EXCLUDED = (BLUR, PEN, BUBBLE)

# What artefacts are found by, for manifests: an output made by other rules is another output.
RULES: dict[str, Any] = {
    "look_um": LOOK_UM,
    "excluded": [CLASSES.names[label] for label in EXCLUDED],
    **artefact_masks.RULES,
}


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What was found on a slide.

    Attributes:
        frame: the coarse plane that was looked at, about 8 µm/px
        level0: the slide's own plane
        picture: uint8 (h, w, 3), the pixels of `frame`
        tissue: all tissue, that under artefacts too
        labels: uint8 (h, w), 0 or a label of `CLASSES`
        blurred, folded: fractions of the tissue without pen and bubbles, 0 to 1; None where they cannot be judged
        stain_density: median optical density of the tissue without artefacts; None where there is none
    """

    frame: Frame
    level0: Frame
    picture: NDArray[np.uint8]
    tissue: TissueMask
    labels: NDArray[np.uint8]
    blurred: float | None = None
    folded: float | None = None
    stain_density: float | None = None

    def polygons(self) -> Iterator[LabelledPolygon]:
        """Polygons in level-0 pixels, of the classes "Blur", "Fold", "Pen" and "Bubble"."""
        return trace([self.labels], CLASSES, self.frame, self.level0)

    def excluded(self) -> tuple[LabelledPolygon, ...]:
        """The polygons of the artefacts to leave out."""
        names = RULES["excluded"]
        return tuple(polygon for polygon in self.polygons() if polygon.label in names)

    def cut_from(self, tissue: TissueMask | None) -> TissueMask:
        """A tissue mask without the artefacts to leave out; None means the whole slide."""
        clean = ~np.isin(self.labels, EXCLUDED)
        if tissue is None:
            return TissueMask(clean, self.frame)
        assert tissue.frame == self.frame, "both look at the same µm/px"
        return TissueMask(tissue.mask & clean, self.frame)

    def area_um2(self, label: int) -> float:
        """Area of one kind of artefact in µm²."""
        return float((self.labels == label).sum()) * self.frame.mpp * self.frame.mpp_y


def find_artefacts(slide: Readable, report: Report = silent) -> Artefacts:
    """Look for artefacts on a slide, which is read once as a whole at 8 µm/px, and its tissue block by block at 1.

    Args:
        slide: the slide
        report: told how many blocks of tissue are done

    Raises:
        SlideError: pixels cannot be read
    """
    frame = slide.frame.at(max(LOOK_UM, slide.frame.mpp, slide.frame.mpp_y))
    picture, um = slide.read(frame.box, frame), (frame.mpp_y, frame.mpp)
    everything = find_tissue(picture, frame)
    labels = np.zeros(frame.box.shape, np.uint8)
    blurred = folded = density = None
    if picture.size and not is_dark(picture):  # light that shines is no stain: of fluorescence nothing here is true
        light = transmittance(picture, um)
        ink, air = artefact_masks.pen(light, um), artefact_masks.bubbles(light, um)
        if (everything & ink).sum() > PEN_MAX_FRACTION * everything.sum():  # then it is the stain
            ink[:] = False
        tissue = everything & ~ink & ~air
        if tissue.any():
            folds = artefact_masks.folds(light, tissue, um)
            folded = float((folds & tissue).sum() / tissue.sum())
            labels[folds] = FOLD
            focus = sharpness(slide, tissue, frame, report)
            if focus is not None:
                blur = artefact_masks.blur(focus, um)
                blurred = float(blur.sum() / tissue.sum())
                labels[blur] = BLUR
            sound = tissue & (labels == 0)
            if sound.any():
                density = float(np.median(-np.log10(np.maximum(light, np.float32(0.005))).mean(2)[sound]))
        labels[air] = BUBBLE
        labels[ink] = PEN
    return Artefacts(frame, slide.frame, picture, TissueMask(everything, frame), labels, blurred, folded, density)
