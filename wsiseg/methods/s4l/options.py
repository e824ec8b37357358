"""[method] name = "s4l"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, UnlabelledOptions


class S4LOptions(LearningOptions, UnlabelledOptions):
    """Pretext tasks on all crops: how was a crop turned, and which stain was changed?"""

    implementation: ClassVar[str] = "wsiseg.methods.s4l.method:S4L"
    annotations_needed: ClassVar[bool] = False
    name: Literal["s4l"] = "s4l"
    supervised_weight: float = Field(1.0, ge=0, description="weight of cross-entropy and Dice on labelled crops")
    rotation_weight: float = Field(1.0, ge=0, description="weight of the question for the quarter turn")
    stain_weight: float = Field(1.0, ge=0, description="weight of the question for the changed stain")
    stain_change: float = Field(
        0.3, gt=0, lt=1, description="by how much haematoxylin or eosin gets more or less, as a fraction"
    )
    unlabelled_start: float = Field(
        0.0, ge=0, le=1, description="fraction of the steps in which only labelled crops count"
    )
    rampup: float = Field(0.0, ge=0, le=1, description="fraction of the steps in which their weight rises")
