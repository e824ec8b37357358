"""How a trained model is used, and how its label maps become objects.

Both values are kept in the model bundle and in every label map that the model makes, so that all commands that start
from a label map find the same objects in it. Every field is checked by type and range when a value is made: a bundle
that is damaged or made up must not lead to an empty, believable result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # `true` is not a number, and NaN is none either

Micrometres = Annotated[float, Field(ge=0, le=1e6)]
SquareMicrometres = Annotated[float, Field(ge=0, le=1e12)]

# Keys of version 0.1, where the fields of Postprocessing stood directly in `usage`.
RENAMED = {
    "object_above": "foreground_threshold",
    "separate_um": "split_distance_um",
    "flips": "tta",
    "within_margin_um": "parent_margin_um",
}


@dataclass(frozen=True, slots=True, config=STRICT)
class Postprocessing:
    """How a label map becomes objects; see `wsiseg.stores.objects.objects_of`.

    Attributes:
        min_object_um2: smaller objects are left out
        min_hole_um2: smaller holes are filled
        simplify_um: objects lose detail of less than about the square of this; 0 keeps the exact edges of the pixels
        whole_objects: touching pixels of several classes are one object, of the class that most of them have; right
            where the classes are kinds of one thing
        split_distance_um: touching objects whose middles are farther apart than this are split; 0 splits nothing
    """

    min_object_um2: SquareMicrometres = 0.0
    min_hole_um2: SquareMicrometres = 0.0
    simplify_um: Micrometres = 0.0
    whole_objects: bool = False
    split_distance_um: Micrometres = 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, value: Any) -> Postprocessing:
        """The inverse of `to_json`; ValueError, in one sentence, for anything else."""
        return _made(cls, _keys(value, "usage.postprocessing"), "usage.postprocessing")


@dataclass(frozen=True, slots=True, config=STRICT)
class Usage:
    """How a network is applied to a slide.

    Attributes:
        mpp: µm/px that it was trained at
        tile: px, width of the tiles that it is given
        overlap: px that neighbouring tiles share
        batch: tiles in one forward pass; fixed, because results can depend on it in their last bits
        foreground_threshold: probability of all classes but the background together above which a pixel is foreground;
            None takes the most probable class. See `wsiseg.inference.blend.to_labels`
        tta: test-time augmentation, the mean over four flips of each tile
        upsample: pixels of the label map for each pixel of the network, along each axis; probabilities are interpolated
            before labels are chosen, so that borders have smaller steps
        scaled_decoding: it learnt from pixels that the decoder may have shrunk, see `wsiseg.slides.slide.Slide`
        parent_margin_um: around the objects of the parent model, in a cascade: what still counts as inside
        postprocessing: how its label maps become objects
    """

    mpp: Annotated[float, Field(gt=0.01, lt=100)]
    tile: Annotated[int, Field(ge=16, le=8192, multiple_of=16)] = 512
    overlap: Annotated[int, Field(ge=0, multiple_of=2)] = 128
    batch: Annotated[int, Field(ge=1, le=1024)] = 4
    foreground_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    tta: bool = False
    upsample: Annotated[int, Field(ge=1, le=8)] = 1
    scaled_decoding: bool = True
    parent_margin_um: Micrometres = 8.0
    postprocessing: Postprocessing = Postprocessing()

    @model_validator(mode="after")
    def _overlap_fits(self) -> Usage:
        if 2 * self.overlap > self.tile:
            raise ValueError(f"an overlap of {self.overlap} px is more than half of a tile of {self.tile} px")
        return self

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `upsample` only where it is not that of bundles from before it could be chosen."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "upsample" or self.upsample > 1}
        return own | {"postprocessing": self.postprocessing.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> Usage:
        """The inverse of `to_json`, which reads the keys of version 0.1 as well.

        Raises:
            ValueError: a key is unknown or a value impossible; the message is one sentence without a full stop
        """
        stated = {RENAMED.get(key, key): known for key, known in _keys(value, "usage").items()}
        nested = stated.pop("postprocessing", None)
        if nested is None:
            nested = {f.name: stated.pop(f.name) for f in fields(Postprocessing) if f.name in stated}
        return _made(cls, stated | {"postprocessing": Postprocessing.from_json(nested)}, "usage")


def _keys(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a table of keys and values")
    return {str(key): known for key, known in value.items()}


def _made(kind: Any, values: dict[str, Any], name: str) -> Any:
    try:
        return kind(**values)
    except ValidationError as error:
        raise ValueError(explain(error, name)) from error


def explain(error: ValidationError, name: str) -> str:
    """The first fault that a check found, as half a sentence: "usage.batch = -1: input should be …"."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in (name, *first["loc"]) if part != "")
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"the key {where!r} is unknown"
    if first["type"] in ("missing", "missing_argument"):
        return f"{where!r} is missing"
    if first["type"] == "value_error":  # from a check of our own, which says it all
        return str(first["ctx"]["error"])
    return f"{where} = {_short(first['input'])}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**40:  # its digits can be too many to print
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
