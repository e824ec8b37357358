"""[method] name = "style_match"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class StyleMatchOptions(LearningOptions, PseudoLabelOptions):
    """FixMatch with a view in another slide's stain, and a classifier with random weights."""

    implementation: ClassVar[str] = "wsiseg.methods.style_match.method:StyleMatch"
    name: Literal["style_match"] = "style_match"
    stain_view: float = Field(
        1.0, ge=0, le=1, description="probability that the third view of a crop is in the stain of another slide"
    )
    stochastic: bool = Field(
        True, description="the weights of the last layer are drawn from a normal distribution at each step of training"
    )
