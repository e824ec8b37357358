"""Examine the quality of one slide: its artefacts and flags."""

from __future__ import annotations

from dataclasses import dataclass

from wsiseg.progress import Report, silent
from wsiseg.qc import flags
from wsiseg.qc.flags import Flag
from wsiseg.selection.artefacts import BUBBLE, PEN, Artefacts, find_artefacts
from wsiseg.slides.slide import Slide


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
    return Quality(
        found,
        (
            flags.resolution_flag(slide.frame, slide.stated_mpp, slide.properties),
            flags.tissue_flag(found.tissue.area_um2 / 1e6),
            flags.blur_flag(found.blurred),
            flags.fold_flag(found.folded),
            flags.pen_flag(found.area_um2(PEN) / 1e6),
            flags.bubble_flag(found.area_um2(BUBBLE) / 1e6),
            flags.stain_flag(found.stain_density),
        ),
    )
