"""Figures of a slide, each a ratio of sums over its glomeruli, so that a bootstrap gets all of them from one draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from wsiseg.geometry import Frame
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


def slide_figures(
    slide: str,
    frame: Frame,
    tissue: Polygon | MultiPolygon,
    cortex: Polygon | MultiPolygon | None,
    glomeruli: dict[str, NDArray[Any]],
    podocytes: dict[str, NDArray[Any]] | None,
    held: NDArray[np.int64],
    thickness_um: float | None,
    seed: int,
) -> tuple[dict[str, NDArray[Any]], float]:
    """The one row of a slide, and its correction factor.

    Args:
        slide, frame: its name and its level 0
        tissue, cortex: in µm
        glomeruli, podocytes: their tables so far; podocytes None where nobody looked for any
        held: (podocytes,) place among the glomeruli, or `NOBODY`
        thickness_um: of the section, None if unknown
        seed: of the bootstrap

    Returns:
        column -> (1,) array; NaN without thickness or without podocytes
    """
    sclerotic, cut = glomeruli["sclerotic"], glomeruli["cut"]
    used = ~sclerotic & ~cut
    row: dict[str, Any] = {
        "slide": slide,
        "mpp_x": frame.mpp,
        "mpp_y": frame.mpp_y,
        "glomeruli": len(sclerotic),
        "sclerotic_glomeruli": int(sclerotic.sum()),
        "cut_glomeruli": int(cut.sum()),
        "used_glomeruli": int(used.sum()),
        **_densities(tissue, cortex, glomeruli),
    }
    sums = {"all": np.ones(len(used)), "sclerotic": sclerotic, "used": used}
    sums |= {name: glomeruli[column] * used for name, column in MEANS.items() if column in glomeruli}
    if podocytes is not None:
        inside = held != NOBODY
        row |= {"podocytes": int(inside.sum()), "podocytes_outside": int((~inside).sum())}
        sums["profiles"] = glomeruli["podocytes"]
        sums["calipers"] = np.bincount(held[inside], podocytes["caliper_um"][inside], minlength=len(used))
        if thickness_um is not None:
            row["section_thickness_um"] = thickness_um
            sums["per_area"] = glomeruli["podocytes"] / glomeruli["area_um2"] * used
    table = np.stack([np.asarray(values, np.float64) for values in sums.values()], axis=1)
    whole = _ratios(dict(zip(sums, table.sum(axis=0)[:, None], strict=True)), thickness_um)
    drawn = resampled_sums(table, seed) if len(table) > 1 else np.full((1, table.shape[1]), np.nan)
    spread = _ratios(dict(zip(sums, drawn.T, strict=True)), thickness_um)
    for name, value in whole.items():
        row[name] = float(value[0])
        if name in ("sclerotic_share", "profile_diameter_um", "caliper_um", "correction_factor"):
            behind = np.ones(len(used)) if name == "sclerotic_share" else glomeruli["podocytes"] > 0
        else:
            behind = used
        # Of one glomerulus, or of none, nobody knows how much they vary.
        row[f"{name}_low"], row[f"{name}_high"] = interval(spread[name]) if behind.sum() > 1 else (np.nan, np.nan)
    packed = {name: np.array([value], object if isinstance(value, str) else None) for name, value in row.items()}
    return packed, row.get("correction_factor", np.nan)


def _ratios(sums: dict[str, Numbers], thickness_um: float | None) -> dict[str, Numbers]:
    """Figures from sums over glomeruli, all arrays of one shape; NaN where there is nothing to divide by."""
    found = {"sclerotic_share": _divide(sums["sclerotic"], sums["all"])}
    found |= {name: _divide(sums[name], sums["used"]) for name in MEANS if name in sums}
    if "profiles" in sums:
        found["profile_diameter_um"] = _divide(sums["calipers"], sums["profiles"])
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


def _densities(
    tissue: Polygon | MultiPolygon, cortex: Polygon | MultiPolygon | None, glomeruli: dict[str, NDArray[Any]]
) -> dict[str, float]:
    """Areas in mm², and glomeruli per mm² (NaN where there is no area)."""
    area = tissue.area / 1e6
    row = {"tissue_area_mm2": area, "glomeruli_per_mm2": len(glomeruli["id"]) / area if area else np.nan}
    if cortex is not None:
        inside = shapely.intersects_xy(cortex, glomeruli["centroid_x_um"], glomeruli["centroid_y_um"])
        row["cortex_area_mm2"] = cortex.area / 1e6
        row["glomeruli_per_mm2_cortex"] = int(inside.sum()) / (cortex.area / 1e6) if cortex.area else np.nan
    return row
