"""[method] name = "copy_paste"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class CopyPasteOptions(LearningOptions, PseudoLabelOptions):
    """Labelled and unlabelled crops pasted into each other."""

    implementation: ClassVar[str] = "wsiseg.methods.copy_paste.method:CopyPaste"
    name: Literal["copy_paste"] = "copy_paste"
    unlabelled_weight: float = Field(
        0.5, ge=0, description="weight of the loss on pixels of unlabelled crops; those of labelled crops have 1"
    )
    choose_every: int = Field(
        100, ge=0,
        description="0: unlabelled crops come from anywhere in the tissue; otherwise steps after which the teacher "
        "chooses again where they come from",
    )  # fmt: skip
    adaptive_threshold: bool = Field(
        True,
        description="the least probability of a pseudo-label is the teacher's mean probability so far, lower for classes "
        "of which it is less sure; in place of confidence_threshold and object_band",
    )
    cutmix: float = Field(
        1.0,
        ge=0,
        le=1,
        description="probability that two crops are pasted into each other; the others stay as they are",
    )
    pasted_width: float = Field(
        2 / 3, gt=0, lt=1, description="width and height of the pasted square, as a fraction of the crop's"
    )
    stain_view: float = Field(
        0.5, ge=0, le=1,
        description="probability that a labelled crop gets the stain of an unlabelled one, and the reverse",
    )  # fmt: skip
