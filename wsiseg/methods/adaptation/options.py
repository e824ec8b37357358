"""[method] name = "adaptation"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import DiscriminatorOptions, LearningOptions, PseudoLabelOptions


class AdaptationOptions(LearningOptions, PseudoLabelOptions, DiscriminatorOptions):
    """Maps of unlabelled slides that a discriminator cannot tell from those of labelled ones."""

    implementation: ClassVar[str] = "wsiseg.methods.adaptation.method:Adaptation"
    name: Literal["adaptation"] = "adaptation"
    unlabelled_weight: float = Field(0.01, ge=0, description="λ, weight of the adversarial loss on unlabelled crops")
    unlabelled_start: float = Field(
        0.1, ge=0, le=1, description="fraction of the steps in which only the discriminator sees unlabelled crops"
    )
    choose_every: int = Field(
        100, ge=0,
        description="0: unlabelled crops come from anywhere in the tissue, and the discriminator learns that they are "
        "emptier; otherwise steps after which the teacher chooses again where they come from",
    )  # fmt: skip
    discriminator_sees: Literal["image_and_map", "map", "information"] = Field(
        "image_and_map",
        description="the crop without its stain beside the probabilities, these alone (AdaptSegNet), or their weighted "
        "self-information (ADVENT)",
    )
    consistency_weight: float = Field(
        0.0, ge=0, description="weight of the cross-entropy of the stain view against the EMA's pseudo-labels; 0: off"
    )
    stain_view: float = Field(
        0.5, ge=0, le=1,
        description="probability that an unlabelled crop is shown in the stain of a labelled one, and the reverse; with "
        "consistency_weight",
    )  # fmt: skip
