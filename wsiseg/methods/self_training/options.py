"""[method] name = "self_training"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class SelfTrainingOptions(LearningOptions, PseudoLabelOptions):
    """Pseudo-labels of an ensemble of earlier rounds."""

    implementation: ClassVar[str] = "wsiseg.methods.self_training.method:SelfTraining"
    name: Literal["self_training"] = "self_training"
    rounds: int = Field(4, ge=1, description="equal parts of the run; the first has no pseudo-labels")
    members: int = Field(3, ge=1, description="networks in the ensemble, those of the newest rounds")
    taught_from_start: bool = Field(
        False,
        description="the network that training starts from labels the first round: for a start from a trained model",
    )
    restart: bool = Field(
        True, description="each round starts from the first weights, and the learning rate rises and falls again"
    )
    unlabelled_start: float = Field(
        0.0, ge=0, le=1, description="fraction of each round in which only labelled crops count"
    )
    rampup: float = Field(0.1, ge=0, le=1, description="fraction of each round in which their weight rises")
    keep_exponent: float = Field(
        0.33, ge=0,
        description="α of the fraction (N_min / N_c)^α of the crops that keep their pseudo-labels of class c",
    )  # fmt: skip
    alignment: float = Field(
        0.0, ge=0, le=1,
        description="0: off; otherwise pseudo-labels are aligned to the class frequencies of the labelled crops to a "
        "power that falls from 1 to this one over the rounds (CReST+ has 0.5)",
    )  # fmt: skip
