"""Flags: each is one number of a slide with its limits and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wsiseg.geometry import Frame

# µm/px of level 0 that scanners have: 0.1 is an objective of 100×, 2 one of 5×.
FINEST, COARSEST = 0.08, 2.5
SQUARE = 0.02  # by how much µm/px may differ along x and y
OBJECTIVE = 1.5  # by which factor µm/px may differ from 10 µm/px divided by the stated objective
LEAST_TISSUE_MM2 = 1.0
MOST_BLUR, MOST_FOLD = 0.05, 0.02  # of the tissue
LEAST_STAIN, MOST_STAIN = 0.08, 0.40  # median optical density of the tissue


@dataclass(frozen=True, slots=True)
class Flag:
    """The result of one check of a slide.

    Attributes:
        name: "resolution", "tissue", "blur", "folds", "pen", "bubbles", "stain"
        raised: whether a person should look
        value: the number; None where it could not be measured
        unit: of the number; empty for fractions of 1
        limits: what counts as usual, in words
        says: one sentence
    """

    name: str
    raised: bool
    value: float | None
    unit: str
    limits: str
    says: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def resolution_flag(frame: Frame, stated: tuple[float, float] | None, properties: Mapping[str, str]) -> Flag:
    """Whether µm/px can be believed.

    Args:
        frame: level 0, as it is used
        stated: µm/px along x and y as the file has it, None where it does not
        properties: of the file; `openslide.objective-power` is held against µm/px
    """
    mpp = math.sqrt(frame.mpp * frame.mpp_y)
    doubts = []
    if stated is None:
        doubts.append(f"the file does not state it, {mpp:.4g} was assumed")
    elif stated != (frame.mpp, frame.mpp_y):
        doubts.append(f"the file states {stated[0]:.4g}, {mpp:.4g} was said instead")
    if not FINEST <= mpp <= COARSEST:
        doubts.append(f"no scanner has {mpp:.4g}")
    if abs(frame.mpp / frame.mpp_y - 1) > SQUARE:
        doubts.append(f"x has {frame.mpp:.4g} and y {frame.mpp_y:.4g}")
    objective = _number(properties.get("openslide.objective-power", ""))
    if objective and not 1 / OBJECTIVE <= mpp * objective / 10 <= OBJECTIVE:
        doubts.append(f"an objective of {objective:g}× would have about {10 / objective:.3g}")
    says = f"µm/px: {'; '.join(doubts)}." if doubts else "The file states it, and it is plausible."
    return Flag("resolution", bool(doubts), mpp, "µm/px", f"stated, {FINEST:g} to {COARSEST:g}, square pixels", says)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def tissue_flag(mm2: float) -> Flag:
    """Whether there is enough tissue, in mm²."""
    little = mm2 < LEAST_TISSUE_MM2
    says = "There is little tissue, or it was not found." if little else "There is enough tissue."
    return Flag("tissue", little, mm2, "mm²", f"{LEAST_TISSUE_MM2:g} or more", says)


def blur_flag(fraction: float | None) -> Flag:
    """Whether too much of the tissue is out of focus (a fraction); None if this cannot be measured."""
    limits = f"at most {MOST_BLUR:.0%} of the tissue"
    if fraction is None:
        return Flag("blur", False, None, "", limits, "The focus cannot be judged: there is no tissue or no fine pixel.")
    raised = fraction > MOST_BLUR
    says = f"{fraction:.1%} of the tissue is out of focus." if fraction else "No tissue is out of focus."
    return Flag("blur", raised, fraction, "", limits, says)


def fold_flag(fraction: float | None) -> Flag:
    """Whether much of the section looks folded, as a fraction of the tissue."""
    limits = f"at most {MOST_FOLD:.0%} of the tissue"
    if fraction is None:
        return Flag("folds", False, None, "", limits, "Folds cannot be looked for: there is no tissue.")
    says = (
        f"{fraction:.1%} of the tissue looks like folds, or is darker than the rest."
        if fraction
        else "No folds were found."
    )
    return Flag("folds", fraction > MOST_FOLD, fraction, "", limits, says)


def pen_flag(mm2: float) -> Flag:
    """Whether somebody wrote on the slide, in mm²."""
    says = f"{mm2:.2f} mm² are covered by pen." if mm2 else "No pen was found."
    return Flag("pen", mm2 > 0, mm2, "mm²", "none", says)


def bubble_flag(mm2: float) -> Flag:
    """Whether there is air under the coverslip, in mm²."""
    says = f"{mm2:.2f} mm² lie under bubbles." if mm2 else "No bubble was found."
    return Flag("bubbles", mm2 > 0, mm2, "mm²", "none", says)


def stain_flag(density: float | None) -> Flag:
    """Whether the stain is unusually weak or strong, by the median optical density of the tissue."""
    limits = f"{LEAST_STAIN:g} to {MOST_STAIN:g}"
    if density is None:
        return Flag("stain", False, None, "", limits, "The stain cannot be judged: there is no tissue.")
    says = "The stain is as strong as usual."
    if density < LEAST_STAIN:
        says = "The stain is weak, or the section thin."
    elif density > MOST_STAIN:
        says = "The stain is strong, or the section thick."
    return Flag("stain", not LEAST_STAIN <= density <= MOST_STAIN, density, "optical density", limits, says)
