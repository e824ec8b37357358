"""The measurements of a kidney: of each glomerulus, of each podocyte, and of the slide."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsiseg.measure.column import Column, means_of, text
from wsiseg.measure.edges import CUT_FRACTION, REACH_UM, edge_fraction
from wsiseg.measure.kidney.stereology import correction_factor, true_caliper
from wsiseg.measure.nesting import NOBODY
from wsiseg.measure.objects import AREA, DIAMETER, ID, LABEL, OF_SLIDE, PLACE, SHAPE, SLIDE, Objects, per_area
from wsiseg.measure.sample import Sample

# When a whole column is absent.
NO_PODOCYTES = "the annotations know no podocyte class"
NO_THICKNESS = "no `--thickness-um`, or no podocyte class"
NO_CORTEX = "no `--cortex`"
# When a single field is empty.
NO_USED = "there are no such glomeruli"
NO_PROFILES = "there are no profiles"

VENKATAREDDY = "Venkatareddy 2014"
USED = "the glomeruli that are neither sclerotic nor cut"


def _nuclear_fraction(glomeruli: Objects) -> Any:
    area = glomeruli.values("podocyte_nuclear_area_um2")
    return None if area is None else area / glomeruli["area_um2"]


def _corrected(glomeruli: Objects) -> Any:
    bare = glomeruli.around.density()
    if bare is None:
        return None
    # No profile is no nucleus, whatever the factor, which is then unknown.
    return np.where(bare == 0, 0.0, bare * _factor(glomeruli.around.sample()))


GLOMERULI = (
    SLIDE,
    ID,
    LABEL,
    AREA,
    *SHAPE,
    Column(
        "sclerotic", "true, false", "Whether its class is one of globally sclerotic glomeruli.",
        lambda g: np.array([r.label in g.around.roles.sclerotic for r in g.polygons], np.bool_), shown="Sclerotic",
    ),
    Column(
        "edge_fraction", "0 to 1",
        f"Fraction of the outer outline that lies outside the tissue or less than {REACH_UM:g} µm inside it.",
        lambda g: edge_fraction(g.um, g.place.tissue_um), shown="Edge fraction",
    ),
    Column(
        "cut", "true, false",
        f"Whether that is more than {CUT_FRACTION:.0%}: part of the glomerulus is missing.",
        lambda g: g["edge_fraction"] > CUT_FRACTION, shown="Cut by edge",
    ),
    *PLACE,
    Column(
        "podocytes", "", "Number of nuclear profiles of podocytes whose centroid lies in it.",
        lambda g: g.around.sums_of_podocytes(), absent=NO_PODOCYTES, shown="Podocytes", compared=True, averaged=True,
    ),
    Column(
        "podocyte_nuclear_area_um2", "µm²", "Sum of their areas.",
        lambda g: g.around.sums_of_podocytes("area_um2"), absent=NO_PODOCYTES, shown="Podocyte nuclear area µm²",
        compared=True, averaged=True,
    ),
    Column(
        "podocyte_nuclear_fraction", "0 to 1", "That sum divided by the area of the glomerulus.", _nuclear_fraction,
        absent=NO_PODOCYTES, shown="Podocyte nuclear fraction", compared=True, averaged=True,
    ),
    Column(
        "uncorrected_density_per_1e6_um3", "1/10⁶ µm³", "Profiles per volume of the glomerulus in the section (area × "
        "thickness), each counted as one nucleus: too many.", lambda g: g.around.density(), absent=NO_THICKNESS,
        shown="Podocyte density, uncorrected, per 10⁶ µm³", compared=True, averaged=True,
    ),
    Column(
        "podocyte_density_per_1e6_um3", "1/10⁶ µm³", "The same times the slide's correction factor.", _corrected,
        absent=NO_THICKNESS, source=VENKATAREDDY, shown="Podocyte density per 10⁶ µm³", compared=True,
    ),
)  # fmt: skip


PODOCYTES = (
    SLIDE,
    ID,
    Column(
        "parent", "", "Id of the glomerulus that holds the centroid, as QuPath resolves its hierarchy.",
        lambda p: text(None if i == NOBODY else p.around.glomeruli.polygons[i].id for i in p.around.held),
        source="QuPath", empty="the nucleus lies in no glomerulus",
    ),
    LABEL,
    AREA,
    DIAMETER,
    *PLACE,
)  # fmt: skip


def _diameter(sample: Sample) -> Any:
    sums = sample.summary.sums_of_podocytes("equivalent_diameter_um")
    podocytes = sample.values("podocytes")
    return None if sums is None or podocytes is None else sample.ratio(sums, podocytes)


def _caliper(sample: Sample) -> Any:
    diameter, thickness = _diameter(sample), sample.summary.thickness_um
    return None if diameter is None or thickness is None else true_caliper(diameter, thickness)


def _factor(sample: Sample) -> Any:
    caliper = _caliper(sample)
    return None if caliper is None else correction_factor(caliper, sample.summary.thickness_um)


def _mean_density(sample: Sample) -> Any:
    bare = sample.values("uncorrected_density_per_1e6_um3")
    if bare is None:
        return None
    mean = sample.mean(bare)
    return np.where(mean == 0, 0.0, mean * _factor(sample))


SLIDES = (
    *OF_SLIDE,
    Column(
        "cortex_area_mm2", "mm²", "Area of the annotations given as cortex, as far as they are tissue.",
        lambda k: None if k.place.cortex is None else k.place.cortex_um.area / 1e6, absent=NO_CORTEX,
    ),
    Column(
        "glomeruli", "", "Number of glomeruli, sclerotic and cut ones included.", lambda k: len(k.glomeruli),
        compared=True,
    ),
    Column(
        "glomeruli_per_mm2", "1/mm²", "Their number per area of tissue.",
        lambda k: per_area(len(k.glomeruli), k.place.tissue_um.area / 1e6), empty="there is no tissue", compared=True,
    ),
    Column(
        "glomeruli_per_mm2_cortex", "1/mm²", "Number of glomeruli with their centroid in the cortex, per its area.",
        lambda k: None if k.place.cortex is None else per_area(k.in_cortex(), k.place.cortex_um.area / 1e6),
        absent=NO_CORTEX, empty="there is no cortex",
    ),
    Column(
        "sclerotic_glomeruli", "", "Number of globally sclerotic glomeruli.",
        lambda k: int(k.glomeruli["sclerotic"].sum()), compared=True,
    ),
    Column(
        "sclerotic_fraction", "0 to 1", "Their number divided by that of all glomeruli.",
        lambda s: s.ratio(s.values("sclerotic"), np.ones(len(s.used))), empty="there are no glomeruli",
        compared=True, interval=True,
    ),
    Column(
        "cut_glomeruli", "", "Number of glomeruli that the edge of the tissue cuts.",
        lambda k: int(k.glomeruli["cut"].sum()), compared=True,
    ),
    Column(
        "used_glomeruli", "", "Number of glomeruli in the means below: neither sclerotic nor cut.",
        lambda k: int(k.used.sum()), compared=True,
    ),
    Column(
        "podocytes", "", "Number of nuclear profiles of podocytes in all glomeruli.",
        lambda k: None if k.podocytes is None else int((k.held != NOBODY).sum()), absent=NO_PODOCYTES, compared=True,
    ),
    Column(
        "podocytes_outside", "", "Number of those in no glomerulus, which no other number counts.",
        lambda k: None if k.podocytes is None else int((k.held == NOBODY).sum()), absent=NO_PODOCYTES,
    ),
    Column(
        "profile_diameter_um", "µm", "d: mean equivalent diameter of the profiles of podocytes in all glomeruli.",
        _diameter, absent=NO_PODOCYTES, empty=NO_PROFILES, source=VENKATAREDDY, compared=True, interval=True,
    ),
    Column(
        "section_thickness_um", "µm", "T: as given with `--thickness-um`.",
        lambda k: None if k.podocytes is None else k.thickness_um, absent=NO_THICKNESS,
    ),
    Column(
        "caliper_um", "µm", "D = (d - T + √((d - T)² + 4kdT)) / 2k, k = 0.72: mean caliper of whole nuclei.",
        _caliper, absent=NO_THICKNESS, empty=NO_PROFILES, source=VENKATAREDDY, compared=True, interval=True,
    ),
    Column(
        "correction_factor", "0 to 1", "CF = 1 / (D / T + 1): fraction of the profiles that counts.",
        _factor, absent=NO_THICKNESS, empty=NO_PROFILES, source=VENKATAREDDY, interval=True,
    ),
    *means_of(GLOMERULI, USED, NO_USED),
    Column(
        "mean_podocyte_density_per_1e6_um3", "1/10⁶ µm³",
        f"Mean of the uncorrected density over {USED}, times the correction factor.", _mean_density,
        absent=NO_THICKNESS, empty=NO_USED, source=VENKATAREDDY, compared=True, interval=True,
    ),
)  # fmt: skip

TABLES = {"slides": SLIDES, "glomeruli": GLOMERULI, "podocytes": PODOCYTES}
