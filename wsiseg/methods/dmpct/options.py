"""[method] name = "dmpct"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from wsiseg.methods.options import LearningOptions, PseudoLabelOptions, RoundsOptions


class DMPCTOptions(RoundsOptions, LearningOptions, PseudoLabelOptions):
    """Pseudo-labels on which magnifications and quarter turns agree."""

    implementation: ClassVar[str] = "wsiseg.methods.dmpct.method:DMPCT"
    name: Literal["dmpct"] = "dmpct"
    scales: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0),
        description="resolutions at which crops are learnt and labelled, as factors on data.mpp: at 2 µm/px, 0.5 is 1 µm/px",
    )
    symmetries: int = Field(
        4, ge=1, le=8, description="how many of the eight flips and quarter turns label a crop at each scale"
    )
    members: int = Field(1, ge=1, description="networks that label crops, those of the newest rounds")
    confidence_threshold: tuple[float, ...] = Field(
        (0.5,),
        description="least fraction of the planes that agree on a label: one number for all classes, or one for each",
    )

    @field_validator("scales")
    @classmethod
    def _usable(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not scales or not all(0.25 <= s <= 4 for s in scales):
            raise ValueError("scales must be factors from 0.25 to 4")
        return scales
