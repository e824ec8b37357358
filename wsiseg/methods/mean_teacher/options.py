"""[method] name = "mean_teacher"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, UnlabelledOptions


class MeanTeacherOptions(LearningOptions, UnlabelledOptions):
    """Agreement with the EMA of the network."""

    implementation: ClassVar[str] = "wsiseg.methods.mean_teacher.method:MeanTeacher"
    name: Literal["mean_teacher"] = "mean_teacher"
    unlabelled_weight: float = Field(
        10.0, ge=0, description="weight of the mean squared difference of the probabilities"
    )
    unlabelled_start: float = Field(
        0.0, ge=0, le=1, description="fraction of the steps in which only the labelled loss counts"
    )
    rampup: float = Field(0.3, ge=0, le=1, description="fraction of the steps in which that weight rises")
