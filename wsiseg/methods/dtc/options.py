"""[method] name = "dtc"."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsiseg.methods.options import LearningOptions, UnlabelledOptions


class DTCOptions(LearningOptions, UnlabelledOptions):
    """Agreement of the segmentation with signed distances to the borders of objects."""

    implementation: ClassVar[str] = "wsiseg.methods.dtc.method:DTC"
    name: Literal["dtc"] = "dtc"
    distance_weight: float = Field(
        0.3, ge=0, description="weight of the mean squared error of the signed distances on labelled crops"
    )
    distance_um: float = Field(
        50.0,
        gt=0,
        description="distance from a border, µm, at which the signed distance is 1 or -1; it goes no further",
    )
    steepness: float = Field(
        1500.0, gt=0, description="k of sigmoid(-k · signed distance), the mask that signed distances give"
    )
    unlabelled_weight: float = Field(1.0, ge=0, description="weight of the mean squared difference of the two masks")
    unlabelled_start: float = Field(
        0.0, ge=0, le=1, description="fraction of the steps in which only the labelled loss counts"
    )
    rampup: float = Field(1.0, ge=0, le=1, description="fraction of the steps in which that weight rises")
