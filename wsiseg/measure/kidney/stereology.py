"""From nuclear profiles in a section to nuclei in a volume.

A section of thickness T shows every nucleus that it touches, so that it shows too many: of nuclei of caliper D, those
whose centre lies in a slab of T + D. The fraction of them that belongs to the section is T / (T + D) = 1 / (D / T + 1).

Source: Venkatareddy, Wang, Yang et al., "Estimating podocyte number and density using a single histologic section",
J Am Soc Nephrol 25:1118-1129 (2014), https://pmc.ncbi.nlm.nih.gov/articles/PMC4005315.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from wsiseg.errors import GeometryError
from wsiseg.measure.shapes import Numbers

K = 0.72  # mean diameter of the caps of a nucleus that lie in the section while its centre does not, per caliper


def checked_thickness(thickness_um: float) -> float:
    """The thickness of a section in µm; GeometryError if no section has it."""
    if not (math.isfinite(thickness_um) and thickness_um > 0):
        raise GeometryError(f"A section cannot be {thickness_um:g} µm thick: give µm above 0, such as 3.")
    return float(thickness_um)


def true_caliper(profile_um: ArrayLike, thickness_um: float) -> Numbers:
    """Mean caliper D of the nuclei in µm, from the mean diameter d of their profiles in a section of thickness T.

    D = (d - T + sqrt((d - T)² + 4 k d T)) / (2 k) solves (T + D) d = T D + k D · D: in a projection of the section,
    nuclei with their centre inside show D, the others k D on average.
    """
    d, t = np.asarray(profile_um, np.float64), checked_thickness(thickness_um)
    return (d - t + np.sqrt((d - t) ** 2 + 4 * K * d * t)) / (2 * K)


def correction_factor(caliper_um: ArrayLike, thickness_um: float) -> Numbers:
    """CF = 1 / (D / T + 1), the fraction of the profiles that counts."""
    return 1 / (np.asarray(caliper_um, np.float64) / checked_thickness(thickness_um) + 1)
