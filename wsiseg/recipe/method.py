"""The table [method] of a recipe, and those of single methods below it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from wsiseg.recipe.section import Section


class Adversarial(Section):
    """[method.adversarial]: the semi-supervised GAN."""

    discriminator: Literal["fcn", "patch"] = Field("fcn", description="a logit per pixel, or per patch of 70 px")
    width: int = Field(32, ge=4, description="channels of the discriminator's first layer")
    game: Literal["bce", "lsgan", "hinge"] = Field("bce", description="loss of both players")
    learning_rate: float = Field(2e-4, gt=0, description="of the discriminator's Adam (0.5, 0.999)")
    r1: float = Field(0.0, ge=0, description="weight of the gradient penalty on true maps")
    r1_every: int = Field(16, ge=1, description="steps from one penalty to the next")
    schedule: Literal["interleaved", "paper"] = Field(
        "interleaved", description="both losses in each step, or labelled slides first and then unlabelled ones alone"
    )
    start: float = Field(0.15, ge=0, le=1, description="share of the steps with labelled slides and no discriminator")
    unlabelled_from: float = Field(0.3, ge=0, le=1, description="share of the steps before unlabelled slides count")
    ramp: float = Field(0.2, ge=0, le=1, description="share of the steps in which their weight rises (sigmoid)")
    labelled_weight: float = Field(0.01, ge=0, description="λ1, of the adversarial loss on labelled slides")
    unlabelled_weight: float = Field(0.001, ge=0, description="λ2, of the adversarial loss on unlabelled slides")
    self_taught: float = Field(0.0, ge=0, description="of the loss on pixels that the discriminator believes")
    believe: float = Field(0.2, ge=0, le=1, description="probability of truth above which it believes them")
    feature_matching: float = Field(0.0, ge=0, description="of the difference of mean features, labelled to unlabelled")
    target: Literal["source", "correctness"] = Field(
        "source", description="what the discriminator tells: truth from prediction, or right pixels from wrong ones"
    )
    encoding: Literal["raw", "smooth", "scaled", "straight_through", "gumbel"] = Field(
        "scaled", description="how true maps are shown, see `wsiseg.losses.encoding`"
    )
    pause_below: float = Field(0.1, ge=0, description="the discriminator rests while its mean loss is below this")
    probe_every: int = Field(100, ge=1, description="steps from one probe of the encoding to the next")


class Strong(Section):
    """What the methods with pseudo-labels share: how sure a label must be, and how strong a view is."""

    confidence: tuple[float, ...] = Field(
        (0.95,), description="least probability of a pseudo-label: one for all classes, or one for each"
    )
    weight: float = Field(1.0, ge=0, description="of the loss on unlabelled slides")
    stain: float = Field(0.25, ge=0, description="as augment.stain, in a strong view")
    brightness: float = Field(0.25, ge=0, description="as augment.brightness, in a strong view")
    blur: float = Field(1.0, ge=0, description="px, largest standard deviation of the blur of a strong view")
    cutmix: float = Field(0.5, ge=0, le=1, description="chance that a view holds a piece of another image")

    @field_validator("confidence")
    @classmethod
    def _probabilities(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or not all(0 <= v <= 1 for v in values):
            raise ValueError("confidence must hold probabilities from 0 to 1")
        return values


class Consistency(Strong):
    """[method.consistency]: pseudo-labels of a plain view for two strong ones."""

    start: float = Field(0.1, ge=0, le=1, description="share of the steps with labelled slides alone")
    ramp: float = Field(0.2, ge=0, le=1, description="share of the steps in which the weight rises (sigmoid)")
    channel_dropout: bool = Field(True, description="each feature channel is dropped from one of the two views")


class MeanTeacher(Section):
    """[method.mean_teacher]: agreement with the averaged network."""

    weight: float = Field(10.0, ge=0, description="of the mean squared difference of the probabilities")
    start: float = Field(0.0, ge=0, le=1, description="share of the steps with labelled slides alone")
    ramp: float = Field(0.3, ge=0, le=1, description="share of the steps in which the weight rises (sigmoid)")


class SelfTraining(Strong):
    """[method.self_training]: pseudo-labels of an ensemble, in rounds."""

    rounds: int = Field(4, ge=2, description="equal parts of the run; the first has no pseudo-labels")
    members: int = Field(3, ge=1, description="networks in the ensemble, the newest ones")
    alpha: float = Field(0.33, ge=0, description="α of the share (N_min / N_c)^α of pseudo-labels that a class keeps")


class Method(Section):
    """[method]: how it learns. Options of one method alone are in a table of its name."""

    name: Literal["supervised", "adversarial", "consistency", "mean_teacher", "self_training"] = Field(
        "supervised", description="which method"
    )
    adversarial: Adversarial = Adversarial()
    consistency: Consistency = Consistency()
    mean_teacher: MeanTeacher = MeanTeacher()
    self_training: SelfTraining = SelfTraining()
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW at its highest")
    encoder_rate: float = Field(0.3, gt=0, description="factor on the learning rate for the pretrained encoder")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    schedule: Literal["cosine", "poly"] = Field("cosine", description="how the learning rate falls; poly is power 0.9")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the rate rises from 0")
    dice: float = Field(1.0, ge=0, description="weight of the Dice loss beside the cross-entropy")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights that predict")
    forgive: float = Field(
        0.0, ge=0, le=1,
        description="0: off; else pixels outlined as nothing, away from any outline, on which the averaged network is "
        "more than this sure of an object, are not held against it (for slides whose outlines are incomplete)",
    )  # fmt: skip
    forgive_after: float = Field(0.3, ge=0, le=1, description="share of the steps after which forgiving starts")
