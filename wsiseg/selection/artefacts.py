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
from wsiseg.selection import artefact_masks, bubbles
from wsiseg.selection.focus import sharpness
from wsiseg.selection.masks import Mask
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
    **bubbles.RULES,
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
    picture = slide.read(frame.box, frame)
    um = (frame.mpp_y, frame.mpp)
    everything = find_tissue(picture, frame)
    labels = np.zeros(frame.box.shape, np.uint8)
    numbers: dict[str, float | None] = {}
    if picture.size and not is_dark(picture):  # light that shines is no stain: of fluorescence nothing here is true
        light = transmittance(picture, um)
        ink = _pen(light, everything, um)
        air = bubbles.bubbles(light, um)
        tissue = everything & ~ink & ~air
        if tissue.any():
            labels, numbers = _damage(slide, light, tissue, frame, report)
        labels[air] = BUBBLE
        labels[ink] = PEN
    return Artefacts(frame, slide.frame, picture, TissueMask(everything, frame), labels, **numbers)


def _pen(light: NDArray[np.float32], tissue: Mask, um: tuple[float, float]) -> Mask:
    """Pen; nothing if all coloured pixels would be pen, because then it is the stain."""
    ink = artefact_masks.pen(light, um)
    return ink & ((tissue & ink).sum() <= PEN_MAX_FRACTION * tissue.sum())


def _damage(
    slide: Readable, light: NDArray[np.float32], tissue: Mask, frame: Frame, report: Report
) -> tuple[NDArray[np.uint8], dict[str, float | None]]:
    """Labels of blur and folds, which fractions of the tissue they are, and how dense the rest is."""
    um = (frame.mpp_y, frame.mpp)
    labels = np.zeros(tissue.shape, np.uint8)
    folds = artefact_masks.folds(light, tissue, um)
    labels[folds] = FOLD
    focus = sharpness(slide, tissue, frame, report)
    blurred = None
    if focus is not None:
        mask = artefact_masks.blur(focus, um)
        labels[mask] = BLUR
        blurred = float(mask.sum() / tissue.sum())
    sound = tissue & (labels == 0)
    return labels, {
        "blurred": blurred,
        "folded": float((folds & tissue).sum() / tissue.sum()),
        "stain_density": float(np.median(_density(light)[sound])) if sound.any() else None,
    }


def _density(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density, the mean of the three channels."""
    return -np.log10(np.maximum(light, np.float32(0.005))).mean(2)
