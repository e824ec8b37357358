"""The tables of a recipe and their keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from wsiseg.classes import ClassMap, Colour
from wsiseg.data.options import Augment
from wsiseg.errors import ClassError
from wsiseg.methods import MethodOptions
from wsiseg.methods.supervised.options import SupervisedOptions
from wsiseg.section import Section


def _named(value: Any) -> Any:
    """A table [method] without a name is that of supervised learning."""
    return {"name": "supervised", **value} if isinstance(value, dict) else value


AnyMethod = Annotated[MethodOptions, Field(discriminator="name"), BeforeValidator(_named)]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Stage = Literal["tile", "qc", "predict", "measure", "export", "report"]
Export = Literal["geojson.gz", "xml", "csv", "parquet", "coco.json"]
STRIDE = 16  # px that DeepLabV3+'s encoder halves away; crops and tiles must be whole multiples


class Classes(Section):
    """[classes]: the classes to learn."""

    names: tuple[str, ...] = Field(description="background first; where annotations overlap, the later class wins")
    colours: tuple[Colour, ...] = Field(
        (), description="(red, green, blue) for each class; chosen automatically by default"
    )
    ignore: tuple[str, ...] = Field(
        ("Ignore", "Ignore*"), description="classes of annotations in which nothing is learnt"
    )

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

    slides: str = Field(
        description="slide list: a CSV with the columns slide, annotations, patient, split and, if needed, mpp"
    )
    root: str = Field(
        "", description="folder that the paths in the slide list start from; by default the folder of the slide list"
    )
    mpp: float = Field(gt=0, description="resolution to learn at, µm/px")
    tile: int = Field(512, ge=64, description="width of a stored tile, px")
    rename: dict[str, str] = Field(
        {}, description='class in the annotations -> class of the recipe; "" leaves out a class'
    )
    roi: tuple[str, ...] = Field(
        (),
        description="learn only inside annotations of these classes, for example nuclei inside "
        "glomeruli; they come from the column `roi` of the slide list, or from the "
        "slide's own annotations",
    )
    roi_margin_um: float = Field(8.0, ge=0, description="margin around these annotations that counts as inside, µm")
    unlabelled: Literal["rest", "all"] = Field(
        "rest",
        description="slides that methods may use without annotations: `rest`, those that have none, "
        "or `all`, the annotated ones as well",
    )
    pixels: Literal["zstd", "jpeg", "slide", "reference"] = Field(
        "zstd",
        description="how tiles are stored: exactly (zstd), as JPEG (a tenth of the space), as the "
        "slide's own JPEG data where tiles and level coincide, or not at all (reference: "
        "read from the slide each time)",
    )
    scaled_decoding: bool = Field(
        True,
        description="between two levels of a slide, let the JPEG decoder reduce the image: faster, "
        "and about one grey level off; false decodes every pixel and reduces afterwards",
    )


class Model(Section):
    """[model]: the segmentation network."""

    network: Literal["DeepLabV3Plus", "DPT"] = Field(
        "DeepLabV3Plus", description="DeepLabV3Plus over a convolutional encoder, or DPT over a vision transformer"
    )
    encoder: str = Field("tu-tf_efficientnet_lite0", description="name of the encoder in segmentation-models-pytorch")
    encoder_options: dict[str, bool | int | float | str] = Field(
        {}, description="settings of a vision transformer that its name does not tell, such as init_values = 1e-5"
    )
    encoder_training: Literal["all", "frozen", "lora"] | Annotated[int, Field(ge=1)] = Field(
        "all",
        description="what of the encoder learns: all, frozen (nothing), low-rank updates of the attention (lora), or the "
        "last blocks (their number)",
    )
    weights: str = Field(
        "imagenet",
        description='starting weights: "imagenet" (from an installed package), "none", a file with '
        'weights of the encoder, a model (its name or bundle) to continue from, or "hf-hub:ORGANISATION/NAME" to '
        "download weights of the encoder",
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="mean of red, green and blue, from 0 to 1, that the encoder's weights expect; known for "
        "encoders of timm",
    )
    std: tuple[float, float, float] | None = Field(None, description="and their standard deviation")
    decoder_channels: int = Field(256, ge=16, description="channels of the ASPP and of the decoder")
    output_stride: Literal[8, 16] = Field(16, description="px of the image per px of the deepest features")
    atrous_rates: tuple[int, int, int] | None = Field(
        None,
        description="dilations of the atrous convolutions, in px of the deepest features; by default "
        "in proportion to the crop (6, 12, 18 for 512 px), or those of the starting "
        "bundle",
    )


class Training(Section):
    """[training]: time."""

    steps: int = Field(gt=0, description="number of updates of the weights")
    batch: int = Field(8, ge=2, description="crops per step and device; batch normalisation needs two")
    crop: int = Field(256, ge=32, description="width in px, a multiple of 16")
    seed: int = Field(0, description="seed of starting weights, crops, augmentation and dropout")
    precision: Precision = Field(
        "32-true", description="bf16-mixed is faster on GPUs, and on CPUs with AMX or AVX512-BF16"
    )
    devices: int = Field(1, ge=1, description="GPUs, or processes on a CPU")
    loaders: int = Field(1, ge=0, description="processes that read crops; 0 reads in the training process")
    evaluate_every: int = Field(500, gt=0, description="steps from one to the next")
    checkpoint_every: int = Field(250, gt=0, description="steps from one to the next")
    object_fraction: float = Field(
        0.7, ge=0, le=1, description="fraction of the labelled crops that are centred on an object"
    )
    class_weights: Literal["sqrt", "equal"] | tuple[float, ...] = Field(
        "sqrt",
        description="how often each class is chosen for this: by the square root of its area (sqrt), "
        "all equally (equal), or weights of your own, one for each class but background",
    )

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, value: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if not isinstance(value, str) and (not value or min(value) < 0 or not sum(value)):
            raise ValueError("training.class_weights must be 0 or more, and not all of them 0")
        return value


class TrainingStage(Section):
    """[[stage]]: one part of training. Its tables change those of the recipe; it starts from the last one's bundle."""

    name: str = Field(pattern=r"^[\w-]+$", description="name of the stage and of its folder: pretrain, round, ...")
    repeat: int = Field(1, ge=1, description="how many times in a row, each starting from the bundle before")
    model: dict[str, Any] = Field({}, description="keys of [model] that differ in this stage")
    method: dict[str, Any] = Field(
        {}, description="keys of [method] that differ in this stage; with a `name` they replace the whole table"
    )
    augment: dict[str, Any] = Field({}, description="keys of [augment] that differ in this stage")
    training: dict[str, Any] = Field({}, description="keys of [training] that differ in this stage")


class Predict(Section):
    """[predict]: how the trained model is to be used; written into its bundle."""

    tile: int = Field(512, ge=64, description="width in px, a multiple of 16")
    overlap: int = Field(128, ge=0, description="overlap of neighbouring tiles in px, even, at most half a tile")
    batch: int = Field(
        4, ge=1, description="tiles per forward pass; part of the model's identity, and reduced only by `--max-ram`"
    )
    min_object_um2: float = Field(0.0, ge=0, description="smaller objects are left out")
    min_hole_um2: float = Field(0.0, ge=0, description="smaller holes are filled")
    simplify_um: float = Field(
        0.0, ge=0, description="outlines lose detail of less than about the square of this; 0: exact edges of pixels"
    )
    foreground_threshold: float | None = Field(
        None, gt=0, lt=1,
        description="a pixel belongs to an object if all classes but background together have more "
        "than this probability: 0.5 if the classes are kinds of one thing, less if "
        "annotations are incomplete; by default the most probable class counts",
    )  # fmt: skip
    tta: bool = Field(
        False, description="test-time augmentation: the mean over four flips of each tile, four times slower"
    )
    upsample: int = Field(
        1, ge=1, le=8,
        description="interpolate probabilities to pixels this many times smaller before labels are chosen: smoother "
        "borders of objects, label maps with that many pixels squared",
    )  # fmt: skip
    whole_objects: bool = Field(
        False,
        description="join touching pixels of several classes into one object of the most frequent "
        "class, for classes that are kinds of one thing",
    )
    split_distance_um: float = Field(
        0.0, ge=0, description="separate touching objects whose centres are farther apart than this; 0: off"
    )
    parent_model: str = Field(
        "", description="a coarse model, by its name or bundle: this one predicts only inside the objects of that model"
    )
    parent_margin_um: float = Field(8.0, ge=0, description="margin around those objects that counts as inside, µm")
    half_weights: bool = Field(False, description="store the weights in 16 bits, which halves the file")


class Run(Section):
    """[run]: what `wsiseg run` does with each slide. It decides nothing about training."""

    stages: tuple[Stage, ...] = Field(
        ("predict", "measure"),
        description="what is done with each slide, in this order: `tile` stores its tissue as for "
        "training, `qc` detects artefacts, `predict` finds objects; `measure`, `export` "
        "(in `formats`) and `report` (about all results before it) need the objects",
    )
    formats: tuple[Export, ...] = Field(("csv",), description="what `export` writes, as endings of file names")
    labels: bool = Field(False, description="also keep the label map of `predict`")

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if not stages or len(set(stages)) < len(stages):
            raise ValueError("run.stages must name one stage or more, each once")
        for later in ("measure", "export", "report"):
            if later in stages and "predict" not in stages[: stages.index(later)]:
                raise ValueError(f"run.stages: {later} needs the objects of predict, which must come before it")
        return stages


class Measure(Section):
    """[measure]: what the stage `measure` of `wsiseg run` measures. It decides nothing about training."""

    profile: Literal["auto", "generic", "kidney"] = Field(
        "auto",
        description="`generic` measures the objects of any organ, `kidney` glomeruli, sclerosis and "
        "podocytes; `auto` is `kidney` if a class is called Glomerulus or Sclerotic "
        "glomerulus, or if a key below is set, and otherwise `generic`",
    )
    thickness_um: float | None = Field(
        None, gt=0, description="kidney: thickness of the sections in µm, needed for podocyte densities"
    )
    glomeruli: tuple[str, ...] = Field(
        (), description="kidney: classes of glomeruli without global sclerosis (default: `Glomerulus`)"
    )
    sclerotic: tuple[str, ...] = Field(
        (), description="kidney: classes of globally sclerotic glomeruli (default: `Sclerotic glomerulus`)"
    )
    podocytes: tuple[str, ...] = Field(
        (), description="kidney: classes of podocyte nuclei (default: `Podocyte` or `Podocyte nucleus`)"
    )

    @property
    def stated(self) -> dict[str, Any]:
        """The profile and the keys that are set, as JSON values."""
        return {"profile": self.profile, **self.model_dump(mode="json", exclude_defaults=True)}

    @model_validator(mode="after")
    def _of_one_profile(self) -> Measure:
        kidney = {name: getattr(self, name) for name in ("thickness_um", "glomeruli", "sclerotic", "podocytes")}
        given = [name for name, value in kidney.items() if value]
        if given and self.profile == "generic":
            raise ValueError(f"measure.{given[0]} belongs to measure.profile = 'kidney'")
        return self


class Recipe(Section):
    """A whole recipe."""

    name: str = Field(description="name of the model and of the run's folder")
    description: str = Field("", description="a description for people")
    classes: Classes
    data: Data
    model: Model = Model()
    method: AnyMethod = SupervisedOptions()
    augment: Augment = Augment()
    training: Training
    predict: Predict = Predict()
    run: Run = Run()
    measure: Measure = Measure()
    stage: tuple[TrainingStage, ...] = Field((), description="parts of training, one after the other; none: one part")

    def stages(self) -> tuple[tuple[str, Recipe], ...]:
        """Name and recipe of each stage; for a recipe without stages itself, under an empty name.

        Raises:
            ValidationError: a stage has a key or a value that its recipe cannot have
        """
        if not self.stage:
            return (("", self),)
        found: list[tuple[str, Recipe]] = []
        for stage in self.stage:
            value = self.model_dump(exclude={"stage"})
            for table in ("model", "augment", "training"):
                value[table] |= getattr(stage, table)
            value["method"] = stage.method if "name" in stage.method else value["method"] | stage.method
            recipe = type(self).model_validate(value)
            names = [f"{stage.name}-{i}" for i in range(1, stage.repeat + 1)] if stage.repeat > 1 else [stage.name]
            found += [(name, recipe) for name in names]
        if len({name for name, _ in found}) < len(found):
            raise ValueError("each [[stage]] needs a name of its own")
        return tuple(found)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        for name, pixels in (("training.crop", self.training.crop), ("predict.tile", self.predict.tile)):
            if pixels % STRIDE:
                raise ValueError(f"{name} must be a multiple of {STRIDE} px")
        if self.predict.overlap % 2 or 2 * self.predict.overlap > self.predict.tile:
            raise ValueError("predict.overlap must be even and at most half of predict.tile")
        features = self.training.crop // self.model.output_stride
        if self.model.atrous_rates and max(self.model.atrous_rates) >= features:
            raise ValueError(
                f"model.atrous_rates must be below {features}: the deepest features of a crop of {self.training.crop} px "
                f"are {features} px wide, so a larger rate would reach nothing but padding"
            )
        weights = self.training.class_weights
        if not isinstance(weights, str) and len(weights) != len(self.classes.names) - 1:
            raise ValueError(
                f"training.class_weights must hold {len(self.classes.names) - 1} numbers, one for each class but background"
            )
        return self
