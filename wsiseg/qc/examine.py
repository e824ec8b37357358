"""The quality of one slide: artefacts, flags, and tissue without the artefacts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.trace import trace
from wsiseg.geometry import Frame
from wsiseg.progress import Report, silent
from wsiseg.qc import artefacts, bubbles, flags
from wsiseg.qc.blur import sharpness
from wsiseg.qc.flags import Flag
from wsiseg.selection.masks import Mask
from wsiseg.selection.tissue import PEN_MOSTLY, TissueMask, find_tissue, is_dark, transmittance
from wsiseg.slides.slide import Slide

LOOK_UM = 8.0  # µm/px at which `wsiseg.selection.tissue.tissue_of` looks, too

# What artefacts are found by, for manifests: an output made by other rules is another output.
RULES: dict[str, Any] = {
    "look_um": LOOK_UM,
    "excluded": [artefacts.CLASSES.names[label] for label in artefacts.EXCLUDED],
    "blur": [artefacts.BLURRED, artefacts.SOFT, artefacts.BLUR_MIN_UM2],
    "fold": [artefacts.FOLDED, artefacts.FOLD_RIM, artefacts.FOLD_MIN_UM2, artefacts.FOLD_SURE_UM2],
    "fold_shape": [artefacts.FOLD_AROUND_UM, artefacts.FOLD_LONG],
    "pen": [*artefacts.BLACK, *artefacts.BLACK_RIM, artefacts.INK_RED, artefacts.STROKE_WIDTH_UM],
    "bubble": [bubbles.RIM_LIGHT, bubbles.RIM_COLOUR, bubbles.RIM_GAP_UM, bubbles.RIM_WIDTH_UM],
    "bubble_shape": [bubbles.LEAST_UM, bubbles.LONGEST, *bubbles.ROUND, bubbles.HOLLOW, bubbles.AROUND],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quality:
    """What was found on a slide.

    Attributes:
        frame: the coarse plane that was looked at, about 8 µm/px
        level0: the slide's own plane
        picture: uint8 (h, w, 3), its pixels
        labels: uint8 (h, w), 0 or a label of `wsiseg.qc.artefacts.CLASSES`
        flags: one for each thing that was looked at, in a fixed order
    """

    frame: Frame
    level0: Frame
    picture: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    flags: tuple[Flag, ...]

    def outlines(self) -> Iterator[LabelledPolygon]:
        """Artefacts as outlines in level-0 pixels, of the classes "Blur", "Fold", "Pen" and "Bubble"."""
        return trace([self.labels], artefacts.CLASSES, self.frame, self.level0)

    def excluded(self) -> list[LabelledPolygon]:
        """The outlines of what is left out on demand."""
        names = RULES["excluded"]
        return [region for region in self.outlines() if region.label in names]

    def left(self, tissue: TissueMask | None) -> TissueMask:
        """A tissue mask without what is left out on demand; None stands for the whole slide."""
        clean = ~np.isin(self.labels, artefacts.EXCLUDED)
        if tissue is None:
            return TissueMask(clean, self.frame)
        assert tissue.frame == self.frame, "both look at the same µm/px"
        return TissueMask(tissue.mask & clean, self.frame)


def examine(slide: Slide, report: Report = silent) -> Quality:
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
    tissue = find_tissue(picture, frame, grow_um=0.0)
    labels = np.zeros(frame.box.shape, np.uint8)
    blurred: float | None = None
    folded: float | None = None
    depth: float | None = None
    if picture.size and not is_dark(picture):  # light that shines is no stain: of fluorescence nothing here is true
        light = transmittance(picture, um)
        ink = _pen(light, tissue, um)
        air = bubbles.bubbles(light, um)
        tissue = tissue & ~ink & ~air
        if tissue.any():
            labels, blurred, folded = _damage(slide, light, tissue, frame, report)
            sound = tissue & (labels == 0)
            depth = float(np.median(_density(light)[sound])) if sound.any() else None
        labels[air] = artefacts.BUBBLE
        labels[ink] = artefacts.PEN
    pixel_mm2 = um[0] * um[1] / 1e6
    found = (
        flags.resolution_flag(slide.frame, slide.stated_mpp, slide.properties),
        flags.tissue_flag(float(tissue.sum()) * pixel_mm2),
        flags.blur_flag(blurred),
        flags.fold_flag(folded),
        flags.pen_flag(float((labels == artefacts.PEN).sum()) * pixel_mm2),
        flags.bubble_flag(float((labels == artefacts.BUBBLE).sum()) * pixel_mm2),
        flags.stain_flag(depth),
    )
    return Quality(frame, slide.frame, picture, labels, found)


def _pen(light: NDArray[np.float32], tissue: Mask, um: tuple[float, float]) -> Mask:
    """Pen; none where it would be all that is coloured, for then it is the stain."""
    ink = artefacts.pen(light, um)
    return ink & ((tissue & ink).sum() <= PEN_MOSTLY * tissue.sum())


def _damage(
    slide: Slide, light: NDArray[np.float32], tissue: Mask, frame: Frame, report: Report
) -> tuple[NDArray[np.uint8], float | None, float]:
    """Labels of blur and folds, and which parts of the tissue they are."""
    um = (frame.mpp_y, frame.mpp)
    labels = np.zeros(tissue.shape, np.uint8)
    folds = artefacts.folds(light, tissue, um)
    labels[folds] = artefacts.FOLD
    focus = sharpness(slide, tissue, frame, report)
    blurred = None
    if focus is not None:
        mask = artefacts.blur(focus, um)
        labels[mask] = artefacts.BLUR
        blurred = float(mask.sum() / tissue.sum())
    return labels, blurred, float((folds & tissue).sum() / tissue.sum())


def _density(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density, the mean of the three channels."""
    return -np.log10(np.maximum(light, np.float32(0.005))).mean(2)
