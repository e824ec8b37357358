"""Recipes: everything that decides a training run, as a TOML file with a schema.

Unknown keys are refused with the nearest valid name. A path may hold environment variables (`${NAME}/slides`) and is
relative to the recipe's folder.
"""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from string import Template
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wsiseg.classes import ClassMap, Colour
from wsiseg.errors import ClassError, RecipeError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
STRIDE = 16  # px that DeepLabV3+'s encoder halves away; crops and tiles must be whole multiples


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Classes(Section):
    """[classes]: what is learnt."""

    names: tuple[str, ...] = Field(description="background first; where outlines overlap, the later class wins")
    colours: tuple[Colour, ...] = Field((), description="(red, green, blue) per class; chosen when left out")
    ignore: tuple[str, ...] = Field(("Ignore", "Ignore*"), description="outlines that mean: do not learn here")

    def class_map(self) -> ClassMap:
        """The classes as a value."""
        return ClassMap(self.names, self.colours, self.ignore)

    @model_validator(mode="after")
    def _check(self) -> Classes:
        try:
            self.class_map()
        except ClassError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return self


class Data(Section):
    """[data]: which slides, and how they are tiled."""

    slides: str = Field(description="CSV with the columns slide, annotations, patient, split and, where needed, mpp")
    root: str = Field("", description="folder that the CSV's paths start from; the CSV's own when left out")
    mpp: float = Field(gt=0, description="µm/px to learn at")
    tile: int = Field(512, ge=64, description="px, width of a stored tile")
    rename: dict[str, str] = Field({}, description="class in the outlines -> class of the recipe")
    scaled_decoding: bool = Field(
        True,
        description="between two levels of a slide, let the JPEG decoder shrink: faster, a grey level off the exact "
        "means; false decodes everything and shrinks it afterwards",
    )


class Model(Section):
    """[model]: the generator."""

    encoder: str = Field("tu-tf_efficientnet_lite0", description="encoder name of segmentation-models-pytorch")
    weights: str = Field("imagenet", description='"imagenet" (an offline package), "none", or a file')
    decoder_channels: int = Field(256, ge=16, description="channels of the ASPP and the decoder")
    output_stride: Literal[8, 16] = Field(16, description="px of the image per px of the deepest features")


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


class Augment(Section):
    """[augment]: what is varied at random in a training crop."""

    rotate: bool = Field(True, description="by any angle; flips and quarter turns are always done")
    scale: float = Field(1.25, ge=1, description="largest factor up and down")
    stain: float = Field(0.05, ge=0, description="spread of the haematoxylin, eosin and residual jitter")
    brightness: float = Field(0.1, ge=0, description="spread of the brightness factor")


class Training(Section):
    """[training]: time."""

    steps: int = Field(gt=0, description="updates of the weights")
    batch: int = Field(8, ge=2, description="crops per step and device; batch normalisation needs two")
    crop: int = Field(256, ge=32, description="px, a multiple of 16")
    seed: int = Field(0, description="fixes starting weights, crops, augmentation and dropout")
    precision: Precision = Field("32-true", description="bf16-mixed pays on GPUs, and on CPUs with AMX or AVX512-BF16")
    devices: int = Field(1, ge=1, description="GPUs, or processes on a CPU")
    loaders: int = Field(1, ge=0, description="processes that read crops; 0 reads in the training process")
    evaluate_every: int = Field(500, gt=0, description="steps")
    checkpoint_every: int = Field(250, gt=0, description="steps")
    object_share: float = Field(0.7, ge=0, le=1, description="share of the crops that are centred on an object")


class Predict(Section):
    """[predict]: how the trained model is to be used; written into its bundle."""

    tile: int = Field(512, ge=64, description="px, a multiple of 16")
    overlap: int = Field(128, ge=0, description="px, even, at most half a tile")
    batch: int = Field(4, ge=1, description="tiles per forward pass; a part of the model's identity")
    min_object_um2: float = Field(0.0, ge=0, description="smaller objects are left out")
    min_hole_um2: float = Field(0.0, ge=0, description="smaller holes are filled")
    object_above: float | None = Field(
        None, gt=0, lt=1,
        description="an object is where all classes but background together have more than this probability: 0.5 where "
        "the classes are kinds of one thing, less where outlines are incomplete; left out: the most probable class",
    )  # fmt: skip
    flips: bool = Field(False, description="predict each tile in four flips and take the mean, four times slower")
    whole_objects: bool = Field(
        False,
        description="touching pixels of several classes are one object, of the class that most of them have: right "
        "where the classes are kinds of one thing",
    )
    half_weights: bool = Field(False, description="store the weights in 16 bits: a file of half the size")


class Recipe(Section):
    """A whole recipe."""

    name: str = Field(description="of the model, and of the run's folder")
    description: str = Field("", description="for people")
    classes: Classes
    data: Data
    model: Model = Model()
    method: Method = Method()
    augment: Augment = Augment()
    training: Training
    predict: Predict = Predict()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        for name, pixels in (("training.crop", self.training.crop), ("predict.tile", self.predict.tile)):
            if pixels % STRIDE:
                raise ValueError(f"{name} must be a multiple of {STRIDE} px")
        if self.predict.overlap % 2 or 2 * self.predict.overlap > self.predict.tile:
            raise ValueError("predict.overlap must be even and at most half of predict.tile")
        return self


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file
        overrides: "table.key=value" with the value in TOML, or as bare text

    Raises:
        RecipeError: not TOML, an unknown key, an impossible value
    """
    try:
        value = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe at {path}: the ones that come along are in pipelines/.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is no readable TOML file: {error}.") from error
    for override in overrides:
        _override(value, override)
    data = value.get("data")
    if isinstance(data, dict):
        base = Path(path).resolve().parent
        for key in ("slides", "root"):
            if data.get(key):
                data[key] = str(base / expand(str(data[key])))
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from error


def expand(text: str) -> str:
    """Put environment variables into a path; RecipeError for one that is not set."""
    try:
        return Template(text).substitute(os.environ)
    except KeyError as error:
        raise RecipeError(f"{text!r} needs the environment variable {error.args[0]}, which is not set.") from None
    except ValueError as error:
        raise RecipeError(f"{text!r} is no path: {error}.") from error


def _override(value: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {override!r} is not of the form table.key=value.")
    *tables, key = name.strip().split(".")
    for table in tables:
        value = value.setdefault(table, {})
        if not isinstance(value, dict):
            raise RecipeError(f"--set {override!r}: {table!r} is no table.")
    try:
        value[key] = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value[key] = text.strip()


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *tables, key = first["loc"]
        section: Any = Recipe
        for table in tables:
            section = section.model_fields[table].annotation
        near = get_close_matches(str(key), section.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(section.model_fields)}."
        return f"the key {where!r} is unknown; {hint}"
    if first["type"] == "missing":
        return f"{where!r} is missing."
    if first["type"] == "value_error":  # from a check of our own, which says it all
        return f"{first['ctx']['error']}."
    return f"{where} = {first['input']!r} will not do: {first['msg'][:1].lower()}{first['msg'][1:]}."
