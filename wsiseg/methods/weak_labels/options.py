"""[method] name = "weak_labels"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from wsiseg.methods.options import LearningOptions, UnlabelledOptions


class WeakLabelsOptions(LearningOptions, UnlabelledOptions):
    """Pseudo-labels from tags of slides."""

    implementation: ClassVar[str] = "wsiseg.methods.weak_labels.method:WeakLabels"
    annotations_needed: ClassVar[bool] = False
    name: Literal["weak_labels"] = "weak_labels"
    unlabelled_start: float = Field(
        0.3, ge=0, le=1, description="fraction of the steps in which tags teach, and there are no pseudo-labels yet"
    )
    tags: dict[str, str] = Field(
        {}, description="tag in the slide list -> class that it says is there; tags that are names of classes need none"
    )
    class_weight: float = Field(1.0, ge=0, description="weight of the loss of the head that is taught by tags")
    seed_object: float = Field(0.7, gt=0, le=1, description="least activation of a seed of an object")
    seed_background: float = Field(
        0.1, ge=0, le=1, description="background is seeded where no class is activated more than this"
    )
    affinity_power: float = Field(8.0, gt=0, description="power of the cosine of two places' features: their affinity")
    affinity_steps: int = Field(4, ge=0, description="steps of the random walk that spreads the seeds")
    confidence_threshold: float = Field(
        0.7, ge=0, le=1, description="least part that one class has in a place after the walk, to be its pseudo-label"
    )

    @model_validator(mode="after")
    def _ordered(self) -> WeakLabelsOptions:
        if self.seed_background >= self.seed_object:
            raise ValueError("method.seed_background must be less than method.seed_object")
        return self
