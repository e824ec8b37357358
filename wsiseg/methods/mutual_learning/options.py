"""[method] name = "mutual_learning"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class MutualLearningOptions(LearningOptions, PseudoLabelOptions):
    """Two students, each taught by the other one's EMA."""

    implementation: ClassVar[str] = "wsiseg.methods.mutual_learning.method:MutualLearning"
    name: Literal["mutual_learning"] = "mutual_learning"
    second_encoder: str = Field(
        "", description='encoder of the second student; "": that of the first, with other starting weights'
    )
    feature_dropout: float = Field(
        0.5, ge=0, lt=1, description="probability that a feature channel is dropped while a strong view is learnt"
    )
    rectify_temperature: float = Field(
        1.0, ge=0,
        description="τ of the rectification of pseudo-labels by the distance of features to the means of the classes; "
        "0: off",
    )  # fmt: skip
