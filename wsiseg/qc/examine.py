"""Examine the quality of one slide: its artefacts, and flags, each one number with its limits and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wsiseg.geometry import Frame
from wsiseg.progress import Report, silent
from wsiseg.selection.artefacts import BUBBLE, PEN, Artefacts, find_artefacts
from wsiseg.slides.slide import Slide

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


@dataclass(frozen=True, slots=True)
class Quality:
    """What was found on a slide.

    Attributes:
        artefacts: where they are
        flags: one for each thing that was looked at, in a fixed order
    """

    artefacts: Artefacts
    flags: tuple[Flag, ...]


def examine(slide: Slide, report: Report = silent) -> Quality:
    """Look for artefacts on a slide, and judge its resolution, tissue and stain.

    Args:
        slide: the slide
        report: told how many blocks of tissue are done

    Raises:
        SlideError: pixels cannot be read
    """
    found = find_artefacts(slide, report)
    flags = (
        resolution_flag(slide.frame, slide.stated_mpp, slide.properties),
        tissue_flag(found.tissue.area_um2 / 1e6),
        _fraction_flag(
            "blur", found.blurred, MOST_BLUR, "is out of focus", "No tissue is out of focus.",
            "The focus cannot be judged: there is no tissue or no fine pixel.",
        ),
        _fraction_flag(
            "folds", found.folded, MOST_FOLD, "looks like folds, or is darker than the rest", "No folds were found.",
            "Folds cannot be looked for: there is no tissue.",
        ),
        _area_flag("pen", found.area_um2(PEN) / 1e6, "are covered by pen", "No pen was found."),
        _area_flag("bubbles", found.area_um2(BUBBLE) / 1e6, "lie under bubbles", "No bubble was found."),
        stain_flag(found.stain_density),
    )  # fmt: skip
    return Quality(found, flags)


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
    try:
        objective = float(properties.get("openslide.objective-power", ""))
    except ValueError:
        objective = 0.0
    if 0 < objective < math.inf and not 1 / OBJECTIVE <= mpp * objective / 10 <= OBJECTIVE:
        doubts.append(f"an objective of {objective:g}× would have about {10 / objective:.3g}")
    says = f"µm/px: {'; '.join(doubts)}." if doubts else "The file states it, and it is plausible."
    return Flag("resolution", bool(doubts), mpp, "µm/px", f"stated, {FINEST:g} to {COARSEST:g}, square pixels", says)


def tissue_flag(mm2: float) -> Flag:
    """Whether there is enough tissue, in mm²."""
    little = mm2 < LEAST_TISSUE_MM2
    says = "There is little tissue, or it was not found." if little else "There is enough tissue."
    return Flag("tissue", little, mm2, "mm²", f"{LEAST_TISSUE_MM2:g} or more", says)


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


def _fraction_flag(name: str, fraction: float | None, most: float, found: str, none: str, unknown: str) -> Flag:
    """Whether something has too much of the tissue; a fraction of None could not be measured."""
    says = unknown if fraction is None else f"{fraction:.1%} of the tissue {found}." if fraction else none
    return Flag(name, (fraction or 0) > most, fraction, "", f"at most {most:.0%} of the tissue", says)


def _area_flag(name: str, mm2: float, found: str, none: str) -> Flag:
    """Whether there is any of something."""
    return Flag(name, mm2 > 0, mm2, "mm²", "none", f"{mm2:.2f} mm² {found}." if mm2 else none)
