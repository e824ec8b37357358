"""The page of all measurements, made from the columns: `python -m wsiseg.cli.document_measurements`."""

from __future__ import annotations

from collections.abc import Iterator

from wsiseg.measure.column import Column
from wsiseg.measure.edges import CUT_FRACTION, REACH_UM
from wsiseg.measure.profiles import PROFILES
from wsiseg.measure.sample import RESAMPLES
from wsiseg.measure.shapes import SMOOTH_UM

HEAD = f"""# Measurements

Turn annotations or predicted objects into tables of numbers with `wsiseg measure`. Everything is in µm and does not
depend on the µm/px at which the objects were drawn or predicted.

```
wsiseg measure slide.svs outlines.geojson
wsiseg measure slide.svs outlines.geojson --out numbers --geojson measured.geojson
wsiseg measure slide.svs glomeruli.geojson podocytes.geojson --thickness-um 3
```

The first command writes the tables into `slide-measurements/`. The second one also writes the outlines with their
measurements for QuPath. The third one measures two files together. With `--format parquet` the tables are Parquet
instead of CSV. Every table begins with the name of the slide, so you can put the tables of many slides one below the
other.

## Profiles

A profile decides what is measured.

| profile | for | tables |
|---|---|---|
| `generic` | objects of any organ | `slides` (one row), `classes` (one row for each class), `objects` (one row for each object) |
| `kidney` | glomeruli, global sclerosis, podocytes | `slides` (one row), `glomeruli`, and `podocytes` where the annotations know them |

Choose one with `--profile generic` or `--profile kidney`, and in a recipe for [many slides](many-slides.md) with the
key `measure.profile`. Without it, wsiseg takes `kidney` where a class is called `Glomerulus`, `Sclerotic glomerulus` or
`Globally sclerotic glomerulus`, or where you give an option of that profile (`--glomeruli`, `--sclerotic`,
`--podocytes`, `--thickness-um`, `--cortex`); for all other annotations it takes `generic`. The command prints which
profile it used.

## How it is measured

**Intervals.** `NAME_low` and `NAME_high` are a 95 % percentile interval from {RESAMPLES} bootstrap samples of the
slide's objects (`--seed`). They are empty where fewer than two objects are behind the number. The interval tells how
far the number would move with other objects of the same tissue, not with other patients. With fewer than about ten
objects it is too narrow.

**Perimeter and circularity** come from the outer outline smoothed along itself (Gaussian of {SMOOTH_UM:g} µm, less for
small objects). Outlines of predictions follow the edges of pixels, and without smoothing their length would be up to
27 % too long at any µm/px.

**Tissue.** wsiseg finds the tissue at 8 µm/px and fills gaps of up to 50,000 µm². On three generated slides its area
was 4 to 7 % above the exact one. `--tissue` takes annotations of the tissue instead.

**Ids** are those of the outlines. An outline without an id gets one from its class and its shape, the same in every
run.

"""

GENERIC = """## Profile generic

Every object is measured, whatever its class. An object lies in another one that has another class, is larger, and
holds its centroid; `parent` names the smallest of these. The columns with `[CLASS]` in their name exist once for each
class, for example `n[Lymphocyte]`, as soon as the annotations know two classes. A slide with glands and lymphocytes
thus has the number of lymphocytes in each gland, and in `classes` the mean over all glands.
"""

KIDNEY = f"""## Profile kidney

Glomeruli have the class `Glomerulus`, globally sclerotic ones `Sclerotic glomerulus` or `Globally sclerotic
glomerulus`, podocyte nuclei `Podocyte` or `Podocyte nucleus`. Use `--glomeruli`, `--sclerotic` and `--podocytes` for
other names. If the annotations know no podocyte class (no outline has it, and neither had the model that made them),
nobody looked for podocytes: then the columns about them are absent, instead of 0.

**Cut glomeruli.** The tissue ends at glass, at a hole, at the edge of the slide and at the edge of what was scanned. A
glomerulus counts as cut when more than {CUT_FRACTION:.0%} of its outer outline lies outside the tissue or less than
{REACH_UM:g} µm inside it. Its area and its counts are those of a part. On generated slides this rule found 19 of 26 cut
glomeruli, and took one of 113 whole ones for cut.

**Means** leave out sclerotic and cut glomeruli.

**Podocyte density** needs the thickness of the section, which no file states. Without `--thickness-um` the density is
absent. The correction turns profiles in a section into nuclei in a volume. It has one factor for the slide, from the
mean diameter of its profiles: that of discs of the same area, which does not depend on the pixels. (The mean caliper of
pixel edges is 3 % too long at 0.25 µm/px; that of an oval of 4 : 3 is 1.5 % above the diameter used here.) The volume
is that of the outlined glomerulus. Where outlines follow Bowman's capsule and not the tuft, densities are lower than
those in the literature, which are per tuft volume.

**Parents.** A podocyte belongs to the glomerulus that holds its centroid, border included. Of glomeruli within each
other the innermost one has it; of two that overlap in part the larger one; of equal ones the first in the file. This is
what QuPath's "Resolve hierarchy" does. In the GeoJSON of `--geojson` glomeruli are annotations and podocytes are
detections, because QuPath goes by the centroid for detections alone. All other outlines are in it too, unchanged.
"""

SOURCES = """
## Sources

- Venkatareddy 2014: M. Venkatareddy, S. Wang, Y. Yang et al., "Estimating podocyte number and density using a single
  histologic section", J Am Soc Nephrol 25:1118-1129, https://pmc.ncbi.nlm.nih.gov/articles/PMC4005315
- Cox 1927: E. P. Cox, "A method of assigning numerical and percentage values to the degree of roundness of sand
  grains", Journal of Paleontology 1:179-183
- QuPath: the behaviour of `PathObjectHierarchy`, read from QuPath's source; no QuPath runs in our tests
- Intervals: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13

## How good they are

```
wsiseg evaluate a.svs --reference a.geojson --prediction a.pred.geojson --measurements --csv agreement.csv
```

compares the measurements of predicted outlines with those of reference outlines: over matched objects (IoU of at least
0.5) and over slides (repeat `--slide`, `--reference` and `--prediction`, in the same order). The columns marked as
compared above take part. For each of them the result has bias and limits of agreement with their 95 % intervals (Bland and
Altman, Lancet 327:307-310, 1986; the bias is prediction minus reference), and the concordance correlation coefficient
(Lin, Biometrics 45:255-268, 1989, corrected in 56:324-325, 2000). With the profile `generic` every class is compared by
itself.

## How to add a measurement

A measurement is one `Column` in `wsiseg/measure/generic.py` or `wsiseg/measure/kidney/columns.py`. The declaration has
its name, unit, meaning and how it is computed, whether it is compared, and whether its mean is taken. The tables, the
names in QuPath, the comparison, the means and this page come from it.
"""


def page() -> str:
    """Markdown for all tables of all profiles."""
    parts = [HEAD]
    for profile, text in (("generic", GENERIC), ("kidney", KIDNEY)):
        parts.append(text)
        for name, columns in PROFILES[profile].items():
            parts.append(f"\n### Table `{name}` of `{profile}`\n\n")
            parts.append("| column | unit | meaning | absent or empty | compared | source | in QuPath |\n")
            parts.append("|---|---|---|---|---|---|---|\n")
            parts += map(_row, columns)
        parts.append("\n" if profile == "generic" else "")
    return "".join([*parts, SOURCES])


def _row(column: Column) -> str:
    cells = (
        ", ".join(f"`{name}`" for name in column.names), column.unit, column.meaning, "; ".join(_missing(column)),
        "yes" if column.compared else "", column.source, f"`{column.shown}`" if column.shown else "",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _missing(column: Column) -> Iterator[str]:
    if column.absent:
        yield f"absent: {column.absent}"
    if column.empty:
        yield f"empty: {column.empty}"


if __name__ == "__main__":
    print(page(), end="")
