"""Keys of the recipe's table [method] that several methods share. Nothing here or in any `options` imports torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from wsiseg.section import Section


class LearningOptions(Section):
    """What every method has: the optimiser of the segmentation network, and the loss on labelled crops."""

    implementation: ClassVar[str]  # "module:class" of the method
    annotations_needed: ClassVar[bool] = True  # otherwise it also learns where no slide has any

    learning_rate: float = Field(1e-3, gt=0, description="highest learning rate of AdamW")
    encoder_lr_factor: float = Field(0.3, gt=0, description="factor on the learning rate for the pretrained encoder")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW, for all weights but norms and biases")
    lr_schedule: Literal["cosine", "poly"] = Field(
        "cosine", description="how the learning rate falls; poly has the power 0.9"
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="fraction of the steps in which the learning rate rises from 0")
    loss: Literal["ce+dice", "lal+dice", "focal+dice"] = Field(
        "ce+dice",
        description="loss on labelled crops: cross-entropy, the locally adaptive loss or the focal loss, and Dice beside it",
    )
    dice: float = Field(1.0, ge=0, description="weight of the Dice loss; 0 leaves it out")
    lal_window: int = Field(5, ge=1, description="width of a window of the locally adaptive loss, px")
    lal_power: float = Field(
        5.0,
        ge=1,
        description="power of the Minkowski mean of the locally adaptive loss; high: the hardest windows count",
    )
    focal_gamma: float = Field(2.0, ge=0, description="how much less easy pixels count in the focal loss")
    ema: float = Field(
        0.99, ge=0, lt=1,
        description="decay of the exponential moving average (EMA) of the weights, which predicts; 0.99 remembers about "
        "100 steps",
    )  # fmt: skip
    noisy_label_threshold: float = Field(
        0.0, ge=0, le=1,
        description="0: off; otherwise background pixels away from any annotation do not count in the loss where the EMA "
        "gives an object more than this probability (for slides whose annotations are incomplete)",
    )  # fmt: skip
    noisy_label_warmup: float = Field(
        0.3, ge=0, le=1, description="fraction of the steps before the noisy-label threshold applies"
    )


class UnlabelledOptions(Section):
    """When and how much unlabelled crops count, and which crops are drawn."""

    unlabelled_weight: float = Field(1.0, ge=0, description="weight of the loss on unlabelled crops")
    unlabelled_start: float = Field(
        0.1, ge=0, le=1, description="fraction of the steps in which only labelled crops count"
    )
    rampup: float = Field(
        0.2, ge=0, le=1, description="fraction of the steps in which the weight of unlabelled crops rises"
    )
    choose_every: int = Field(
        0, ge=0,
        description="0: unlabelled crops come from anywhere in the tissue; otherwise steps after which the teacher "
        "chooses again where they come from",
    )  # fmt: skip
    choose_tiles: int = Field(64, ge=1, description="tiles that the teacher looks at each time it chooses")
    choose_objects: float = Field(
        0.7,
        ge=0,
        le=1,
        description="fraction of the unlabelled crops that are then centred where the teacher sees objects",
    )


class PseudoLabelOptions(UnlabelledOptions):
    """What methods with pseudo-labels share: which labels are confident, and how strong a strong view is."""

    confidence_threshold: tuple[float, ...] = Field(
        (0.95,), description="least probability of a pseudo-label: one number for all classes, or one for each"
    )
    object_band: tuple[float, float] | None = Field(
        None,
        description="(low, high) in place of confidence_threshold: pseudo-labels are background where all objects together "
        "have less probability than low, objects where they have more than high, and nothing in between; for slides "
        "whose annotations are incomplete, which makes a teacher shy of objects",
    )
    adaptive_threshold: bool = Field(
        False,
        description="in place of both: the teacher's mean probability so far, lower for classes of which it is less sure",
    )
    strong_stain: float = Field(0.25, ge=0, description="as augment.stain, in a strong view")
    strong_brightness: float = Field(0.25, ge=0, description="as augment.brightness, in a strong view")
    strong_blur: float = Field(1.0, ge=0, description="largest standard deviation of the blur of a strong view, px")
    cutmix: float = Field(
        0.5, ge=0, le=1, description="probability that a strong view contains a rectangle of another crop"
    )

    @field_validator("confidence_threshold")
    @classmethod
    def _probabilities(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or not all(0 <= v <= 1 for v in values):
            raise ValueError("confidence_threshold must be probabilities from 0 to 1")
        return values

    @field_validator("object_band")
    @classmethod
    def _ordered(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and not 0 < band[0] <= band[1] < 1:
            raise ValueError("object_band must be two probabilities between 0 and 1, the lower one first")
        return band

    @model_validator(mode="after")
    def _one_gate(self) -> PseudoLabelOptions:
        if self.adaptive_threshold and self.object_band is not None:
            raise ValueError("give object_band or adaptive_threshold, not both")
        return self


class DiscriminatorOptions:
    """The discriminator of methods that have one."""

    discriminator: Literal["fcn", "patch"] = Field(
        "fcn", description="one logit for each pixel (fcn), or for each patch"
    )
    discriminator_width: int = Field(32, ge=4, description="channels of the discriminator's first layer")
    discriminator_learning_rate: float = Field(
        1e-3, gt=0, description="learning rate of the discriminator's Adam (0.5, 0.999)"
    )
    gan_loss: Literal["bce", "lsgan", "hinge"] = Field(
        "bce", description="loss of both networks; with target = correctness, of the segmentation network only"
    )
    r1: float = Field(0.0, ge=0, description="weight of the gradient penalty on what should be judged high")
    r1_every: int = Field(16, ge=1, description="steps from one penalty to the next")
    pause_below: float = Field(0.1, ge=0, description="the discriminator is paused while its mean loss is below this")


class RoundsOptions(Section):
    """Methods that learn in rounds, taught by the networks of earlier ones."""

    rounds: int = Field(4, ge=1, description="equal parts of the run; the first has no pseudo-labels")
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
