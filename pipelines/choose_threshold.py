"""Which `predict.foreground_threshold` and `predict.tta` suit a trained model? Tried on the validation slides of its recipe.

    python pipelines/choose_threshold.py pipelines/kidney-glomeruli.toml --model runs/kidney-glomeruli/model

Annotations that are incomplete in training lower all probabilities of objects, so 0.5 need not be the place to cut (Elkan
& Noto 2008). Printed for each setting: Dice of pixels, and recall, precision and F1 of objects at IoU 0.5, any object.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.annotations.trace import trace
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.evaluation.objects import match_objects
from wsiseg.geometry import Frame
from wsiseg.inference.blend import tile_weights, to_labels
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine, infer
from wsiseg.inference.predict import grid_for
from wsiseg.recipe import load_recipe
from wsiseg.selection.select import Selection
from wsiseg.slides.open import open_slide

ABOVE = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


@dataclass(frozen=True)
class Scored:
    """A slide with its annotations and the probabilities, (classes, h, w), of its frame."""

    truth: tuple[LabelledPolygon, ...]
    scores: np.ndarray
    frame: Frame
    level0: Frame


def score(row: SlideEntry, bundle: ModelBundle, engine: Engine, flips: bool) -> Scored:
    """Probabilities of a whole slide in memory: biopsies are small."""
    assert row.annotations is not None
    with open_slide(row.slide, mpp=row.mpp) as slide:
        grid, level0 = grid_for(slide, bundle), slide.frame
        total = np.zeros(
            (len(bundle.classes), grid.frame.height + 2 * grid.size, grid.frame.width + 2 * grid.size), np.float32
        )
        weights, weight = np.zeros(total.shape[1:], np.float32), tile_weights(grid)
        for tile in Selection().apply(slide, grid).tiles:
            images = slide.read(tile.read, grid.frame)[None]
            at = tile.read.shift(grid.size, grid.size).slices
            total[(slice(None), *at)] += infer(engine, images, tta=flips)[0] * weight
            weights[at] += weight
    inner = grid.frame.box.shift(grid.size, grid.size).slices
    scores = total[(slice(None), *inner)] / np.maximum(weights[inner], 1e-9)
    scores[0][weights[inner] == 0] = 1
    truth = tuple(r for r in read_annotations(row.annotations).polygons if r.label is not None)
    return Scored(truth, scores, grid.frame, level0)


def figures(slides: list[Scored], bundle: ModelBundle, above: float) -> tuple[float, ...]:
    """Dice, recall, precision and F1 of any object, pooled."""
    both = sizes = found = missed = unmatched = 0
    u = bundle.usage
    for s in slides:
        labels = to_labels(s.scores, above)
        bands = iter([np.minimum(labels, 1) if u.postprocessing.whole_objects else labels])
        said = list(
            trace(bands, bundle.classes, s.frame, s.level0,
                      min_area_um2=u.postprocessing.min_object_um2, min_hole_um2=u.postprocessing.min_hole_um2)
        )  # fmt: skip
        there = Rasteriser(s.truth, bundle.classes, s.frame, s.level0).read(s.frame.box) > 0
        both += 2 * int((there & (labels > 0)).sum())
        sizes += int(there.sum() + (labels > 0).sum())
        m = match_objects(s.truth, said)
        found, missed, unmatched = found + len(m.found), missed + len(m.missed), unmatched + len(m.unmatched)
    f1 = 2 * found / (2 * found + missed + unmatched)
    return both / sizes, found / (found + missed), found / (found + unmatched), f1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    recipe, bundle = load_recipe(args.recipe), load_bundle(args.model)
    engine = make_engine(bundle, device=args.device)
    rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root) if recipe.data.root else None)
    rows = tuple(r for r in rows if r.split == "validation" and r.annotations is not None)
    print("| flips | foreground_threshold | Dice | recall | precision | F1 |\n|---|---|---|---|---|---|")
    for flips in (False, True):
        slides = [score(row, bundle, engine, flips) for row in rows]
        for above in ABOVE:
            cells = " | ".join(f"{v:.3f}" for v in figures(slides, bundle, above))
            print(f"| {flips} | {above} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
