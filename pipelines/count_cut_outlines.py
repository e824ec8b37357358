"""How many outlines are cut along a straight line although the tissue goes on behind it?

    python pipelines/count_cut_outlines.py pipelines/kidney-glomeruli.csv --root SLIDES --tile 1000

The kidney slides were put together from tiles of 1000 px, and their outlines once ended where a tile did. An outline
counts as cut when it runs along the border of a tile for more than 25 px with tissue on the other side, and as halved
when no other outline goes on there. With --predictions, a folder of SLIDE.geojson, it is also said how many of the cut
outlines of these slides were found (IoU of at least 0.5), missed though touched, and missed altogether.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from shapely.geometry import box

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.data.slides import read_slides
from wsiseg.evaluation.objects import match_objects
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

ALONG, NEAR, BEYOND = 25.0, 2.5, 30  # px: length on the border, distance from it, depth looked at behind it


def strips_behind(region: LabelledPolygon, tile: int) -> Iterator[Box]:
    """Strips on the other side of the tile borders along which an outline runs."""
    xy = np.asarray(region.polygon.exterior.coords)
    middle = region.polygon.centroid.coords[0]
    for axis in (0, 1):
        for border in set((np.round(xy[:, axis] / tile) * tile).astype(int)):
            on = np.abs(xy[:, axis] - border) < NEAR
            edge = np.flatnonzero(on[:-1] & on[1:])
            if np.abs(np.diff(xy[:, 1 - axis]))[edge].sum() <= ALONG:
                continue
            ends = np.concatenate([xy[edge, 1 - axis], xy[edge + 1, 1 - axis]])
            low, high = int(ends.min()), int(np.ceil(ends.max()))
            border = int(border)
            near = border + 2 if middle[axis] < border else border - 2 - BEYOND
            yield Box(near, low, BEYOND, high - low) if axis == 0 else Box(low, near, high - low, BEYOND)


def is_tissue(slide: Slide, strip: Box) -> bool:
    """Whether a strip lies on the slide and is not the white of a missing tile."""
    if strip.overlap(slide.frame.box) != strip:
        return False
    return bool((slide.read(strip, slide.frame).min(2) > 250).mean() <= 0.5)


def fates(
    cut: Sequence[LabelledPolygon], truth: Sequence[LabelledPolygon], said: Sequence[LabelledPolygon]
) -> Iterator[str]:
    """What became of each cut outline when all outlines of its slide were matched."""
    missed = {id(truth[i]) for i in match_objects(truth, said).missed}
    for region in cut:
        touched = any(region.polygon.intersects(r.polygon) for r in said)
        yield "found" if id(region) not in missed else "missed, touched" if touched else "missed, alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slides", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--tile", type=int, default=1000, help="px of level 0")
    parser.add_argument("--predictions", type=Path, help="folder that evaluate_slides.py wrote")
    args = parser.parse_args()
    fate: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    for row in read_slides(args.slides, args.root):
        if row.annotations is None:
            continue
        regions = [r for r in read_annotations(row.annotations).polygons if r.label is not None]
        with open_slide(row.slide, mpp=row.mpp) as slide:
            for region in regions:
                strips = [s for s in strips_behind(region, args.tile) if is_tissue(slide, s)]
                others = [r.polygon for r in regions if r is not region]
                shapes = [box(s.x, s.y, s.right, s.bottom) for s in strips]
                halved = any(sum(o.intersection(s).area for o in others) < 0.3 * s.area for s in shapes)
                found[row.split, "outlines"] += 1
                found[row.split, "cut"] += bool(strips)
                found[row.split, "halved"] += halved
            cut = [r for r in regions if any(is_tissue(slide, s) for s in strips_behind(r, args.tile))]
        if args.predictions and (args.predictions / f"{row.name}.geojson").exists():
            said = read_annotations(args.predictions / f"{row.name}.geojson").polygons
            fate.update(fates(cut, regions, said))
    print("| split | outlines | cut, tissue goes on | halved: no outline goes on |\n|---|---|---|---|")
    for split in sorted({s for s, _ in found}):
        print(f"| {split} | {found[split, 'outlines']} | {found[split, 'cut']} | {found[split, 'halved']} |")
    if fate:
        print("\nOf the cut ones: " + ", ".join(f"{count} {what}" for what, count in sorted(fate.items())))


if __name__ == "__main__":
    main()
