"""[method] name = "contrastive"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class ContrastiveOptions(LearningOptions, PseudoLabelOptions):
    """Embeddings of pixels and objects, drawn to those of their class."""

    implementation: ClassVar[str] = "wsiseg.methods.contrastive.method:Contrastive"
    name: Literal["contrastive"] = "contrastive"
    supervised_weight: float = Field(1.0, ge=0, description="weight of cross-entropy and Dice on labelled crops")
    pixel_weight: float = Field(1.0, ge=0, description="weight of the contrast of pixels with class prototypes")
    object_weight: float = Field(
        1.0, ge=0, description="weight of the contrast between the classes' attended means of all crops"
    )
    temperature: float = Field(0.1, gt=0, description="temperature of the contrastive losses")
    embedding: int = Field(128, ge=2, description="channels of an embedding")
    pixels: int = Field(1024, ge=1, description="pixels that are drawn for the contrast in each step, classes alike")
