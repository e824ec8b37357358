"""[method] name = "consistency"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions


class ConsistencyOptions(LearningOptions, PseudoLabelOptions):
    """Pseudo-labels of a weak view for two strong ones."""

    implementation: ClassVar[str] = "wsiseg.methods.consistency.method:Consistency"
    name: Literal["consistency"] = "consistency"
    channel_dropout: float = Field(
        0.5, ge=0, le=1,
        description="fraction of the pairs of strong views in which each feature channel is dropped from one view and "
        "doubled in the other",
    )  # fmt: skip
