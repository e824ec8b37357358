"""Every column of the tables that `wsiseg measure` writes: name, unit, meaning, when it is absent, where it comes from.

The page docs/measurements.md is made from these lists, and tables are checked against them.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsiseg.measure.edges import CUT_SHARE, REACH_UM

# When a whole column is absent.
NO_PODOCYTES = "the outlines know no podocyte class"
NO_THICKNESS = "no `--thickness-um`, or no podocyte class"
NO_CORTEX = "no `--cortex`"

VENKATAREDDY = "Venkatareddy 2014"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: in CSV and Parquet
        unit: as text; empty for text, counts and pure numbers
        meaning: one sentence
        absent: when the column is not there at all; empty if it always is
        source: of the definition, see the end of docs/measurements.md; empty where the meaning says it all
        shown: name among the measurements of an object in QuPath; empty for what is none
        interval: whether NAME_low and NAME_high follow, a 95 % interval
        empty: when a single field is empty
    """

    name: str
    unit: str
    meaning: str
    absent: str = ""
    source: str = ""
    shown: str = ""
    interval: bool = False
    empty: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The column and, where it has one, both ends of its interval."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.interval else (self.name,)


PLACE = (
    Column("centroid_x_um", "µm", "Centre of gravity, from the left edge of the slide's level 0."),
    Column("centroid_y_um", "µm", "Centre of gravity, from its upper edge."),
    Column("score", "0 to 1", "Confidence of whoever outlined the object.", empty="no score was stated"),
)

GLOMERULI = (
    Column("slide", "", "File name of the slide."),
    Column("id", "", "UUID of the outline, the same as in GeoJSON; without one there, made from class and outline."),
    Column("class", "", "Class of the outline."),
    Column("area_um2", "µm²", "Area of the outline, holes left out.", shown="Area µm²"),
    Column(
        "perimeter_um", "µm",
        "Length of the outer outline, smoothed along itself so that pixel steps do not count.",
        shown="Perimeter µm",
    ),
    Column(
        "equivalent_diameter_um", "µm", "Diameter of the disc of the same area.", shown="Equivalent diameter µm",
    ),
    Column(
        "circularity", "0 to 1", "4π · area / perimeter² of the smoothed outer outline; 1 is a disc.",
        source="Cox 1927", shown="Circularity",
    ),
    Column("sclerotic", "true, false", "Whether the class is one of globally sclerotic glomeruli.", shown="Sclerotic"),
    Column(
        "edge_share", "0 to 1",
        f"Part of the outer outline that lies outside the tissue or less than {REACH_UM:g} µm inside it.",
        shown="Edge share",
    ),
    Column(
        "cut", "true, false",
        f"Whether more than {CUT_SHARE:.0%} of the outer outline does: part of the glomerulus is missing.",
        shown="Cut by edge",
    ),
    *PLACE,
    Column("podocytes", "", "Nuclear profiles of podocytes whose centroid it holds.", NO_PODOCYTES, shown="Podocytes"),
    Column(
        "podocyte_nuclear_area_um2", "µm²", "Sum of their areas.", NO_PODOCYTES, shown="Podocyte nuclear area µm²",
    ),
    Column(
        "podocyte_nuclear_share", "0 to 1", "That sum divided by the area of the glomerulus.", NO_PODOCYTES,
        shown="Podocyte nuclear share",
    ),
    Column(
        "uncorrected_density_per_1e6_um3", "1/10⁶ µm³", "Profiles per volume of the glomerulus in the section (area × "
        "thickness), each counted as one nucleus: too many.", NO_THICKNESS,
        shown="Podocyte density, uncorrected, per 10⁶ µm³",
    ),
    Column(
        "podocyte_density_per_1e6_um3", "1/10⁶ µm³", "The same times the slide's correction factor.", NO_THICKNESS,
        VENKATAREDDY, "Podocyte density per 10⁶ µm³",
    ),
)  # fmt: skip

PODOCYTES = (
    Column("slide", "", "File name of the slide."),
    Column("id", "", "UUID of the outline, as for glomeruli."),
    Column(
        "parent", "", "Id of the glomerulus that holds the centroid, as QuPath resolves its hierarchy.",
        source="QuPath", empty="the nucleus lies in no glomerulus",
    ),
    Column("class", "", "Class of the outline."),
    Column("area_um2", "µm²", "Area of the nuclear profile, holes left out.", shown="Area µm²"),
    Column(
        "equivalent_diameter_um", "µm", "Diameter of the disc of the same area.", shown="Equivalent diameter µm",
    ),
    *PLACE,
)  # fmt: skip

NO_USED, NO_PROFILES = "there are no such glomeruli", "there are no profiles"
_USED = "mean over the glomeruli that are neither sclerotic nor cut"

SLIDES = (
    Column("slide", "", "File name of the slide."),
    Column("mpp_x", "µm/px", "Resolution of level 0 along x, which all µm rest on."),
    Column("mpp_y", "µm/px", "The same along y."),
    Column("tissue_area_mm2", "mm²", "Area of the tissue, found in the slide or given with `--tissue`."),
    Column("cortex_area_mm2", "mm²", "Area of the outlines given as cortex, as far as they are tissue.", NO_CORTEX),
    Column("glomeruli", "", "Number of glomeruli, sclerotic and cut ones included."),
    Column("glomeruli_per_mm2", "1/mm²", "Their number per area of tissue.", empty="there is no tissue"),
    Column(
        "glomeruli_per_mm2_cortex", "1/mm²", "Number of glomeruli with their centroid in the cortex, per its area.",
        NO_CORTEX, empty="there is no cortex",
    ),
    Column("sclerotic_glomeruli", "", "Number of globally sclerotic glomeruli."),
    Column(
        "sclerotic_share", "0 to 1", "Their number divided by that of all glomeruli.", interval=True,
        empty="there are no glomeruli",
    ),
    Column("cut_glomeruli", "", "Number of glomeruli that the end of the tissue cuts."),
    Column("used_glomeruli", "", "Number of glomeruli in the means below: neither sclerotic nor cut."),
    Column("mean_area_um2", "µm²", f"Area, {_USED}.", interval=True, empty=NO_USED),
    Column("mean_equivalent_diameter_um", "µm", f"Equivalent diameter, {_USED}.", interval=True, empty=NO_USED),
    Column("mean_circularity", "0 to 1", f"Circularity, {_USED}.", interval=True, empty=NO_USED),
    Column("podocytes", "", "Number of nuclear profiles of podocytes in all glomeruli.", NO_PODOCYTES),
    Column("podocytes_outside", "", "Number of those in no glomerulus, which no other figure counts.", NO_PODOCYTES),
    Column("mean_podocytes", "", f"Podocytes, {_USED}.", NO_PODOCYTES, interval=True, empty=NO_USED),
    Column(
        "mean_podocyte_nuclear_area_um2", "µm²", f"Podocyte nuclear area, {_USED}.", NO_PODOCYTES, interval=True,
        empty=NO_USED,
    ),
    Column(
        "mean_podocyte_nuclear_share", "0 to 1", f"Podocyte nuclear share, {_USED}.", NO_PODOCYTES, interval=True,
        empty=NO_USED,
    ),
    Column(
        "profile_diameter_um", "µm", "d: mean equivalent diameter of the profiles of podocytes in all glomeruli.",
        NO_PODOCYTES, VENKATAREDDY, interval=True, empty=NO_PROFILES,
    ),
    Column("section_thickness_um", "µm", "T: as given with `--thickness-um`.", NO_THICKNESS),
    Column(
        "caliper_um", "µm", "D = (d - T + √((d - T)² + 4kdT)) / 2k, k = 0.72: mean caliper of whole nuclei.",
        NO_THICKNESS, VENKATAREDDY, interval=True, empty=NO_PROFILES,
    ),
    Column(
        "correction_factor", "0 to 1", "CF = 1 / (D / T + 1): share of the profiles that counts.", NO_THICKNESS,
        VENKATAREDDY, interval=True, empty=NO_PROFILES,
    ),
    Column(
        "mean_uncorrected_density_per_1e6_um3", "1/10⁶ µm³", f"Uncorrected density, {_USED}.", NO_THICKNESS,
        interval=True, empty=NO_USED,
    ),
    Column(
        "mean_podocyte_density_per_1e6_um3", "1/10⁶ µm³", f"Podocyte density, {_USED}.", NO_THICKNESS, VENKATAREDDY,
        interval=True, empty=NO_USED,
    ),
)  # fmt: skip

TABLES = {"slides": SLIDES, "glomeruli": GLOMERULI, "podocytes": PODOCYTES}


def names_of(table: str, *, podocytes: bool, thickness: bool, cortex: bool) -> tuple[str, ...]:
    """The columns that a table has, in order."""
    gone = {
        NO_PODOCYTES: not podocytes,
        NO_THICKNESS: not (podocytes and thickness),
        NO_CORTEX: not cortex,
    }
    return tuple(name for column in TABLES[table] if not gone.get(column.absent, False) for name in column.names)
