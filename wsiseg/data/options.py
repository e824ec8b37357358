"""The recipe's table about random changes of crops; without torch."""

from __future__ import annotations

from pydantic import Field

from wsiseg.section import Section


class Augment(Section):
    """[augment]: the random changes of a training crop."""

    rotate: bool = Field(
        False, description="rotate by any angle, which blurs a little; flips and quarter turns are always on"
    )
    scale: float = Field(1.25, ge=1, description="largest change of scale, as a factor")
    stain: float = Field(0.05, ge=0, description="spread of the haematoxylin, eosin and residual jitter")
    brightness: float = Field(0.1, ge=0, description="spread of the brightness factor")
