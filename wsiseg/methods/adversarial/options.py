"""[method] name = "adversarial"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import DiscriminatorOptions, LearningOptions, UnlabelledOptions


class AdversarialOptions(LearningOptions, UnlabelledOptions, DiscriminatorOptions):
    """A discriminator that sees image and label map together."""

    implementation: ClassVar[str] = "wsiseg.methods.adversarial.method:Adversarial"
    name: Literal["adversarial"] = "adversarial"
    target: Literal["correctness", "source"] = Field(
        "correctness",
        description="what the discriminator distinguishes: right pixels from wrong ones, or reference "
        "maps from predicted ones",
    )
    held_out: float = Field(
        0.2, ge=0, lt=1,
        description="fraction of the labelled tiles from which the segmentation network does not learn, and on which the "
        "discriminator learns (correctness) or is watched (source)",
    )  # fmt: skip
    gan_schedule: Literal["interleaved", "paper"] = Field(
        "interleaved", description="both losses in each step, or labelled slides first and then unlabelled ones only"
    )
    adversarial_start: float = Field(
        0.1, ge=0, le=1, description="fraction of the steps before the discriminator takes part"
    )
    unlabelled_start: float = Field(
        0.3, ge=0, le=1, description="fraction of the steps in which only labelled crops count"
    )
    labelled_weight: float = Field(0.01, ge=0, description="λ1, weight of the adversarial loss on labelled crops")
    unlabelled_weight: float = Field(0.01, ge=0, description="λ2, weight of the adversarial loss on unlabelled crops")
    self_taught_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the cross-entropy against the EMA's labels on pixels that the discriminator trusts",
    )
    trusted_fraction: float = Field(
        0.5,
        gt=0,
        le=1,
        description="fraction of the pixels of each predicted class that it trusts, those with the highest scores",
    )
    feature_matching: float = Field(
        0.0, ge=0, description="weight of the difference of the mean features, labelled to unlabelled"
    )
    map_encoding: Literal["raw", "smooth", "scaled", "straight_through", "gumbel"] = Field(
        "scaled", description="how reference maps are shown to it, see `wsiseg.losses.encoding`"
    )
