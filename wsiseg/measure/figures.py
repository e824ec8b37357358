"""Figures of a slide; each mean is a ratio of sums over its glomeruli, so that one bootstrap serves all of them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from wsiseg.measure.bootstrap import interval, resampled_sums
from wsiseg.measure.parents import NOBODY
from wsiseg.measure.shapes import Numbers
from wsiseg.measure.stereology import correction_factor, true_caliper

# Figure -> the column of which it is the mean over the glomeruli that are neither sclerotic nor cut.
MEANS = {
    "mean_area_um2": "area_um2",
    "mean_equivalent_diameter_um": "equivalent_diameter_um",
    "mean_circularity": "circularity",
    "mean_podocytes": "podocytes",
    "mean_podocyte_nuclear_area_um2": "podocyte_nuclear_area_um2",
    "mean_podocyte_nuclear_share": "podocyte_nuclear_share",
}


# These rest on other glomeruli than the means do: on all, or on all that hold podocytes.
OF_ALL = ("sclerotic_share",)
OF_HOLDERS = ("profile_diameter_um", "caliper_um", "correction_factor")

Table: TypeAlias = dict[str, NDArray[Any]]
Row: TypeAlias = dict[str, float]


def slide_counts(tissue: Polygon | MultiPolygon, cortex: Polygon | MultiPolygon | None, glomeruli: Table) -> Row:
    """Areas and numbers of a slide: column -> number, NaN for a number per an area that is 0.

    Args:
        tissue, cortex: in µm; cortex None if nobody said where it is
        glomeruli: their table
    """
    sclerotic, cut = glomeruli["sclerotic"], glomeruli["cut"]
    count, area = len(sclerotic), tissue.area / 1e6
    row = {
        "tissue_area_mm2": area,
        "glomeruli": count,
        "glomeruli_per_mm2": count / area if area else np.nan,
        "sclerotic_glomeruli": int(sclerotic.sum()),
        "cut_glomeruli": int(cut.sum()),
        "used_glomeruli": int((~sclerotic & ~cut).sum()),
    }
    if cortex is not None:
        inside = shapely.intersects_xy(cortex, glomeruli["centroid_x_um"], glomeruli["centroid_y_um"])
        row["cortex_area_mm2"] = cortex.area / 1e6
        row["glomeruli_per_mm2_cortex"] = int(inside.sum()) / (cortex.area / 1e6) if cortex.area else np.nan
    return row


def slide_means(
    glomeruli: Table, podocytes: Table | None, held: NDArray[np.int64], thickness_um: float | None, seed: int
) -> Row:
    """Means and shares of a slide with their intervals: column -> number, NaN where there is nothing to go by.

    Args:
        glomeruli: their table, with podocytes counted if anybody looked for them
        podocytes: their table; None if nobody did
        held: (podocytes,) place among the glomeruli, or `NOBODY`
        thickness_um: of the section, None if unknown
        seed: of the bootstrap
    """
    used = ~glomeruli["sclerotic"] & ~glomeruli["cut"]
    sums = {"all": np.ones(len(used)), "sclerotic": glomeruli["sclerotic"], "used": used}
    sums |= {name: glomeruli[column] * used for name, column in MEANS.items() if column in glomeruli}
    behind = dict.fromkeys(OF_ALL, len(used))
    if podocytes is not None:
        inside = held != NOBODY
        sums["profiles"] = glomeruli["podocytes"]
        sums["diameters"] = np.bincount(held[inside], podocytes["equivalent_diameter_um"][inside], minlength=len(used))
        sums["per_area"] = glomeruli["podocytes"] / glomeruli["area_um2"] * used
        behind |= dict.fromkeys(OF_HOLDERS, int((glomeruli["podocytes"] > 0).sum()))
    table = np.stack([np.asarray(values, np.float64) for values in sums.values()], axis=1)
    whole = _ratios(dict(zip(sums, table.sum(axis=0)[:, None], strict=True)), thickness_um)
    drawn = resampled_sums(table, seed) if len(table) else np.full((1, table.shape[1]), np.nan)
    spread = _ratios(dict(zip(sums, drawn.T, strict=True)), thickness_um)
    row: Row = {}
    for name, value in whole.items():
        # Of one glomerulus, or of none, nobody knows how much they vary.
        enough = behind.get(name, int(used.sum())) > 1
        ends = interval(spread[name]) if enough else (np.nan, np.nan)
        row |= {name: float(value[0]), f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return row


def _ratios(sums: dict[str, Numbers], thickness_um: float | None) -> dict[str, Numbers]:
    """Figures from sums over glomeruli, all arrays of one shape; NaN where there is nothing to divide by."""
    found = {"sclerotic_share": _divide(sums["sclerotic"], sums["all"])}
    found |= {name: _divide(sums[name], sums["used"]) for name in MEANS if name in sums}
    if "profiles" in sums:
        found["profile_diameter_um"] = _divide(sums["diameters"], sums["profiles"])
    if "per_area" in sums and thickness_um is not None:
        found["caliper_um"] = true_caliper(found["profile_diameter_um"], thickness_um)
        found["correction_factor"] = correction_factor(found["caliper_um"], thickness_um)
        bare = _divide(sums["per_area"], sums["used"]) / thickness_um * 1e6
        found["mean_uncorrected_density_per_1e6_um3"] = bare
        # No profile is no nucleus, whatever the factor, which is then unknown.
        found["mean_podocyte_density_per_1e6_um3"] = np.where(bare == 0, 0.0, bare * found["correction_factor"])
    return found


def _divide(part: Numbers, whole: Numbers) -> Numbers:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
