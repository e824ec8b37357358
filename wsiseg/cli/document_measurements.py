"""The page of all measurements, made from the columns: `python -m wsiseg.cli.document_measurements`."""

from __future__ import annotations

from wsiseg.measure.bootstrap import RESAMPLES
from wsiseg.measure.columns import TABLES, Column
from wsiseg.measure.edges import CUT_SHARE, REACH_UM
from wsiseg.measure.shapes import SMOOTH_UM

HEAD = f"""# Measurements

```
wsiseg measure slide.svs outlines.geojson --out numbers --geojson measured.geojson
wsiseg measure slide.svs glomeruli.geojson podocytes.geojson --thickness-um 3
```

writes `slides.csv` (one row), `glomeruli.csv` and, where the outlines know podocytes, `podocytes.csv`; with
`--format parquet` as Parquet. Every table begins with the slide's name, so that tables of many slides can be put one
below the other. Everything is in µm and does not depend on the µm/px at which it was outlined. This page is made from
the code by `python -m wsiseg.cli.document_measurements > docs/measurements.md`; a test keeps it so, and compares it
with what is written.

## What is what

Glomeruli have the class `Glomerulus`, globally sclerotic ones `Sclerotic glomerulus` or `Globally sclerotic
glomerulus`, podocyte nuclei `Podocyte` or `Podocyte nucleus`; `--glomeruli`, `--sclerotic` and `--podocytes` say
otherwise. Annotations that know no podocyte class (no outline has it, nor did the model that made them) say nothing of
podocytes, and the columns are absent: not looked for is not none.

**Cut.** The tissue ends at glass, at a hole, at the slide's edge and at the edge of what was scanned. A glomerulus
counts as cut when more than {CUT_SHARE:.0%} of its outer outline lies outside the tissue or less than {REACH_UM:g} µm
inside it; its area and its counts are those of a part. On generated slides 19 of 26 cut glomeruli were found so, and
one of 113 whole ones was taken for cut. The tissue is looked for at 8 µm/px, gaps of up to 50,000 µm² filled; on three
generated slides its area came out 4 to 7 % above the exact one. `--tissue` takes outlines drawn by hand instead.

**Means** leave out sclerotic and cut glomeruli. `NAME_low` and `NAME_high` are a 95 % percentile interval of
{RESAMPLES} bootstrap draws of the slide's glomeruli (`--seed`), empty with fewer than two of them behind the figure.
It tells how far the figure would move with other glomeruli of the same tissue, not with other patients, and with fewer
than about ten glomeruli it is too narrow.

**Perimeter and circularity** come from the outer outline smoothed along itself (Gaussian of {SMOOTH_UM:g} µm). Annotations
of predictions are pixel edges, and their bare length would be up to 27 % too long at any µm/px.

**Podocyte density** needs the thickness of the section, which no file states; without `--thickness-um` it is absent,
not guessed. The correction turns profiles in a section into nuclei in a volume, with one factor for the slide from the
mean diameter of its profiles: that of discs of the same area, which pixels do not change. (The mean caliper of pixel
edges is 3 % too long at 0.25 µm/px; that of an oval of 4 : 3 is 1.5 % above the diameter used here.) The volume is that
of the outlined glomerulus: where outlines follow Bowman's capsule and not the tuft, densities are lower than those in
the literature, which are per tuft volume.

**Parents.** A podocyte belongs to the glomerulus that holds its centroid, border included. Of glomeruli within each
other the innermost has it, of two that overlap in part the larger, of equals the first in the file: what QuPath's
"Resolve hierarchy" does. In the GeoJSON of `--geojson` glomeruli are annotations and podocytes detections, because
QuPath goes by the centroid for detections alone; all other outlines are in it too, unchanged. Ids are those of the
outlines, or made from class and outline, the same in every run.
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
wsiseg evaluate --slide a.svs --truth a.geojson --prediction a.pred.geojson --measurements --csv agreement.csv
```

compares all measurements with those of true outlines, over matched glomeruli (IoU of at least 0.5) and over slides
(`--slide`, `--truth` and `--prediction` repeated, in the same order): bias and limits of agreement with their 95 %
intervals (Bland and Altman, Lancet 327:307-310, 1986; bias is prediction minus truth), and the concordance correlation
coefficient (Lin, Biometrics 45:255-268, 1989, corrected in 56:324-325, 2000).
"""


def page() -> str:
    """Markdown for all tables."""
    parts = [HEAD]
    for name, columns in TABLES.items():
        parts.append(
            f"\n## {name.capitalize()}\n\n| column | unit | meaning | absent or empty | source | in QuPath |\n"
        )
        parts.append("|---|---|---|---|---|---|\n")
        parts += map(_row, columns)
    return "".join([*parts, SOURCES])


def _row(column: Column) -> str:
    names = ", ".join(f"`{name}`" for name in column.names)
    missing = [f"absent: {column.absent}"] if column.absent else []
    missing += [f"empty: {column.empty}"] if column.empty else []
    shown = f"`{column.shown}`" if column.shown else ""
    cells = (names, column.unit, column.meaning, "; ".join(missing), column.source, shown)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(page(), end="")
