"""[method] name = "ael"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class AELOptions(LearningOptions, PseudoLabelOptions):
    """Classes that are learnt badly are pasted, drawn and taught more."""

    implementation: ClassVar[str] = "wsiseg.methods.ael.method:AEL"
    name: Literal["ael"] = "ael"
    paste: float = Field(
        0.5, ge=0, le=1,
        description="probability that a labelled crop gets the pixels of one class of another labelled crop",
    )  # fmt: skip
    paste_power: float = Field(
        0.5, ge=0, description="power of 1 - confidence in the chance that a class is pasted or drawn"
    )
    cutmix: float = Field(
        1.0, ge=0, le=1,
        description="probability that a strong view contains a rectangle of another crop, around a class learnt badly",
    )  # fmt: skip
    equalisation: float = Field(
        1.0, ge=0,
        description="power of (1 - confidence) / (the highest of it), the fraction of the pixels predicted as a class that "
        "count in the unlabelled loss; 0: all count",
    )  # fmt: skip
    reweighting: float = Field(
        2.0, ge=0, description="power of a pseudo-label's probability, which is its weight in the unlabelled loss"
    )
    bank_memory: float = Field(
        0.99, ge=0, lt=1, description="memory of each class's confidence; 0.99 remembers about 100 steps"
    )
    confidence_threshold: tuple[float, ...] = Field(
        (0.0,), description="least probability of a pseudo-label: one number for all classes, or one for each"
    )
    choose_every: int = Field(
        100, ge=0,
        description="0: crops are drawn as in other methods; otherwise steps after which classes learnt badly are drawn "
        "more, in labelled crops by their labels and in unlabelled crops where the teacher sees them",
    )  # fmt: skip
