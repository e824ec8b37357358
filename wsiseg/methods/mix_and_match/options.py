"""[method] name = "mix_and_match"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from wsiseg.methods.options import LearningOptions


class MixAndMatchOptions(LearningOptions):
    """Triplets of patches of all labelled crops of a step."""

    implementation: ClassVar[str] = "wsiseg.methods.mix_and_match.method:MixAndMatch"
    name: Literal["mix_and_match"] = "mix_and_match"
    supervised_weight: float = Field(1.0, ge=0, description="weight of cross-entropy and Dice on labelled crops")
    triplet_weight: float = Field(1.0, ge=0, description="weight of the triplet loss")
    margin: float = Field(2.1, gt=0, description="margin of the triplet loss, in squared distances of unit vectors")
    patches: int = Field(10, ge=2, description="patches from each crop")
    patch_width: tuple[float, float] = Field(
        (0.125, 0.5), description="narrowest and widest patch, as a fraction of the crop"
    )

    @field_validator("patch_width")
    @classmethod
    def _ordered(cls, width: tuple[float, float]) -> tuple[float, float]:
        if not 0 < width[0] <= width[1] <= 1:
            raise ValueError("patch_width must be two fractions of the crop, the smaller one first")
        return width
