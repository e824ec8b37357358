"""[method] name = "self_training"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions, RoundsOptions


class SelfTrainingOptions(RoundsOptions, LearningOptions, PseudoLabelOptions):
    """Pseudo-labels of an ensemble of earlier rounds."""

    implementation: ClassVar[str] = "wsiseg.methods.self_training.method:SelfTraining"
    name: Literal["self_training"] = "self_training"
    members: int = Field(3, ge=1, description="networks in the ensemble, those of the newest rounds")
    alpha: float = Field(
        0.33, ge=0,
        description="α of the chance (N_{L+1-l} / N_1)^α that a crop keeps its pseudo-labels of the l-th most frequent of L "
        "classes (CReST)",
    )  # fmt: skip
    t_min: float = Field(
        0.0, ge=0, le=1,
        description="0: off; otherwise pseudo-labels are aligned to the class frequencies of the labelled crops to a "
        "power that falls from 1 to this one over the rounds (CReST+ has 0.5)",
    )  # fmt: skip
    confident_fraction: float = Field(
        0.0, ge=0, le=1,
        description="least fraction of an unlabelled crop with confident labels for the crop to count (0.9 in ETCI)",
    )  # fmt: skip
