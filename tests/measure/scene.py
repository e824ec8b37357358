"""A square slide with three glomeruli and a few nuclei, told in µm, and measured in any plane."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shapely import Point, affinity, box

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.geometry import Frame
from wsiseg.measure.kidney.measure import measure_kidney
from wsiseg.measure.kidney.roles import ClassRoles
from wsiseg.measure.objects import Measured, TissueContext

ALL = ClassRoles(("Glomerulus",), ("Sclerotic glomerulus",), ("Podocyte",))
SIDE = 1600.0  # µm: a square slide
TISSUE = box(100, 100, 1500, 1500)  # µm


def to_px(shape: Any, mpp: tuple[float, float]) -> Any:
    return affinity.scale(shape, 1 / mpp[0], 1 / mpp[1], origin=(0, 0))


def place(mpp: tuple[float, float] = (1.0, 1.0), tissue: Any = TISSUE, cortex: Any = None) -> TissueContext:
    frame = Frame(round(SIDE / mpp[0]), round(SIDE / mpp[1]), *mpp)
    return TissueContext("s.svs", frame, to_px(tissue, mpp), None if cortex is None else to_px(cortex, mpp))


def measured(
    regions: list[LabelledPolygon], mpp: tuple[float, float] = (1.0, 1.0), names: ClassRoles = ALL, **how: Any
) -> Measured:
    """Annotations given in µm, measured in a plane of this µm/px."""
    where = place(mpp, how.pop("tissue", TISSUE), how.pop("cortex", None))
    return measure_kidney([replace(r, polygon=to_px(r.polygon, mpp)) for r in regions], where, names, **how)


def disc(x: float, y: float, r: float, label: str = "Glomerulus") -> LabelledPolygon:
    return LabelledPolygon(Point(x, y).buffer(r, 64), label)


def scene() -> list[LabelledPolygon]:
    """Three glomeruli (whole with two podocytes, cut, sclerotic), one podocyte outside, one other outline."""
    return [
        disc(400, 400, 80),
        disc(430, 400, 4, "Podocyte"),
        disc(800, 130, 80),
        disc(1000, 800, 60, "Sclerotic glomerulus"),
        disc(370, 400, 3, "Podocyte"),
        disc(1200, 1200, 4, "Podocyte"),
        disc(1000, 1300, 90, "Artery"),
    ]
