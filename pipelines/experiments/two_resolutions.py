"""Two resolutions against one pass over all tissue, on generated slides: accuracy, time and pixels.

    python pipelines/experiments/two_resolutions.py --slides runs/podocyte-slides/slides.csv \
        --pair runs/kidney-podocytes/model --single runs/kidney-single-pass/model --out runs/two-resolutions

Predicts the slides of the split `test` in both ways and compares them with the truth, which is exact: pixels of four
classes at 0.25 µm/px over the whole slide and inside the true glomeruli, nuclei there by their centroids. Writes into
docs/results/two-resolutions/: result.json, tables.md and, for every slide, the largest glomerulus as both ways see it.
What is predicted already is kept. Generated slides: no figure speaks of kidneys.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely import STRtree, box, centroid

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.annotations.surround import buffer
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.data.slides import read_slides
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide, summary
from wsiseg.geometry import Box
from wsiseg.inference.cascade import parent_file, predict_cascade
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, grid_for, predict_slide
from wsiseg.pictures import draw_outlines, save_picture
from wsiseg.selection.select import Roi, Selection
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

CLASSES = ClassMap(("Background", "Glomerulus", "Podocyte", "Non-podocyte nucleus"))
NUCLEI = ("Podocyte", "Non-podocyte nucleus")
MATCH_UM = 3.0
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "two-resolutions"
WAYS = {"pair": "two resolutions", "single": "one pass at 0.25 µm/px"}
# Lalwani, the paper this project follows: its fully convolutional discriminator. Other slides, other tissue, real
# outlines: these figures stand beside ours for their shape, not for comparison.
PUBLISHED = {
    "Background": (0.989, 0.992, 0.996, 0.994), "Glomerulus": (0.966, 0.986, 0.979, 0.983),
    "Podocyte": (0.835, 0.952, 0.871, 0.910), "Non-podocyte nucleus": (0.856, 0.912, 0.932, 0.922),
    "mean": (0.911, 0.961, 0.944, 0.953),
}  # fmt: skip
COLOURS = {"Glomerulus": (0, 114, 178), "Podocyte": (0, 158, 115), "Non-podocyte nucleus": (204, 121, 167)}


def one_name(regions: Sequence[LabelledPolygon]) -> list[LabelledPolygon]:
    """Both kinds of glomeruli under one name, as in the source paper."""
    return [replace(r, label="Glomerulus") if r.label == "Sclerotic glomerulus" else r for r in regions]


def inside(regions: Sequence[LabelledPolygon], glomeruli: Sequence[LabelledPolygon]) -> list[LabelledPolygon]:
    """The nuclei whose centroid lies in a true glomerulus."""
    nuclei = [r for r in regions if r.label in NUCLEI]
    hit, _ = STRtree([g.polygon for g in glomeruli]).query(
        centroid(np.array([r.polygon for r in nuclei], object)), predicate="within"
    )
    return [nuclei[i] for i in sorted(set(hit.tolist()))]


def compare(slide: Slide, truth: list[LabelledPolygon], said: list[LabelledPolygon]) -> dict[str, SlideEvaluation]:
    """Pixels of all four classes over the slide, and nuclei and pixels inside the true glomeruli."""
    whole = evaluate_slide(slide.name, truth, said, CLASSES, slide.frame, slide.frame, match_um=MATCH_UM)
    glomeruli = [r for r in truth if r.label == "Glomerulus"]
    there = Rasteriser(glomeruli, CLASSES, slide.frame, slide.frame)
    painted = Rasteriser(said, CLASSES, slide.frame, slide.frame)

    def labels(box: Any) -> np.ndarray:
        return np.where(there.read(box) > 0, painted.read(box), IGNORE).astype(np.uint8)

    within = evaluate_slide(
        slide.name, [*glomeruli, *inside(truth, glomeruli)], inside(said, glomeruli), CLASSES, slide.frame, slide.frame,
        labels=labels, match_um=MATCH_UM,
    )  # fmt: skip
    return {"whole": whole, "within": within}


def inferred(slide: Slide, bundle: ModelBundle, within: Sequence[LabelledPolygon] | None) -> int:
    """Pixels that the network sees."""
    grid = grid_for(slide, bundle)
    roi = None if within is None else Roi(tuple(within), {})
    return len(Selection(tissue=roi is None, roi=roi).apply(slide, grid).tiles) * grid.size**2


def timed(file: Path, work: Callable[[], object]) -> float:
    """Seconds of a prediction, remembered beside it."""
    note = file.with_suffix(".seconds")
    if not note.exists():
        start = time.perf_counter()
        work()
        note.write_text(f"{time.perf_counter() - start:.1f}")
    return float(note.read_text())


def picture(slide: Slide, truth: Sequence[LabelledPolygon], said: Sequence[Sequence[LabelledPolygon]]) -> np.ndarray:
    """(h, 3 · w, 3) uint8: truth, then each prediction, over the slide's largest true glomerulus at 0.5 µm/px."""
    largest = max((r for r in truth if r.label == "Glomerulus"), key=lambda r: r.polygon.area)
    frame = slide.frame.at(0.5)
    (sx, sy), (left, top, right, bottom) = slide.frame.scale_to(frame), largest.polygon.buffer(60).bounds
    part = Box(round(left * sx), round(top * sy), round((right - left) * sx), round((bottom - top) * sy))
    here, pixels = box(left, top, right, bottom), slide.read(part, frame)
    sides = []
    for regions in (truth, *said):
        near = [r for r in regions if r.polygon.intersects(here)]
        layers = [([r for r in near if r.label == name], colour) for name, colour in COLOURS.items()]
        sides.append(draw_outlines(pixels, frame, layers, slide.frame, width=1, corner=(part.x, part.y)))
    return np.concatenate(sides, axis=1)


def tables(result: dict[str, Any]) -> str:
    """Cost and accuracy of both ways in Markdown."""
    pair, single = result["pair"], result["single"]
    lines = ["# Two resolutions against one pass: tables", ""]
    lines += ["| | two resolutions | one pass | one pass / two |", "|---|---|---|---|"]
    for key, name, unit in (("seconds", "time, s", 1), ("px", "pixels inferred, millions", 1e6)):
        a, b = pair[key] / unit, single[key] / unit
        lines.append(f"| {name} | {a:,.0f} | {b:,.0f} | {b / a:.1f} |")
    for where, title in (("within", "inside the true glomeruli"), ("whole", "over the whole slides")):
        for way, name in WAYS.items():
            lines += [
                "",
                f"**Pixels {title}, {name}**",
                "",
                "| class | IoU | precision | recall | F1 |",
                "|---|---|---|---|---|",
            ]
            pixels = result[way][where]["pixels"]
            names = CLASSES.names[1:] if where == "within" else CLASSES.names  # no true background within glomeruli
            rows = [[pixels[c][k] or 0.0 for k in ("iou", "precision", "recall", "f1")] for c in names]
            for c, row in zip(("mean", *names), [list(np.mean(rows, 0)), *rows], strict=True):
                lines.append(f"| {c} | {' | '.join(f'{v:.3f}' for v in row)} |")
    lines += [
        "",
        "**The source paper, on its own slides**",
        "",
        "| class | IoU | precision | recall | F1 |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {c} | {' | '.join(f'{v:.3f}' for v in row)} |" for c, row in PUBLISHED.items()]
    lines += ["", f"**Nuclei inside the true glomeruli, centroids within {MATCH_UM:g} µm**", ""]
    lines += ["| | class | truth | found | missed | unmatched | F1 |", "|---|---|---|---|---|---|---|"]
    for way, name in WAYS.items():
        for c in NUCLEI:
            o = result[way]["within"]["objects"][c]
            lines.append(
                f"| {name} | {c} | {o['reference']} | {o['found']} | {o['missed']} | {o['unmatched']} | {o['f1']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=Path, required=True)
    parser.add_argument("--pair", type=Path, required=True)
    parser.add_argument("--single", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    fine, single = load_bundle(args.pair), load_bundle(args.single)
    coarse = fine.parent
    assert coarse is not None, "the pair has no model within"
    engines = {b.name: make_engine(b) for b in (fine, single, coarse)}
    found: dict[str, dict[str, list[SlideEvaluation]]] = {}
    cost: dict[str, dict[str, float]] = {"pair": {"seconds": 0, "px": 0}, "single": {"seconds": 0, "px": 0}}
    for row in read_slides(args.slides):
        if row.split != "test" or row.annotations is None:
            continue
        truth = one_name(read_annotations(row.annotations).polygons)
        with open_slide(row.slide) as slide:
            said = {}
            for way in WAYS:
                job = PredictOptions(args.out / f"{row.name}.{way}.geojson")
                if way == "pair":
                    pair = (coarse, engines[coarse.name]), (fine, engines[fine.name])
                    seconds = timed(job.out, lambda: predict_cascade(slide, *pair, job))  # noqa: B023
                    regions = buffer(
                        read_annotations(parent_file(job.out)).polygons, fine.usage.parent_margin_um, slide.frame
                    )
                    px = inferred(slide, coarse, None) + inferred(slide, fine, regions)
                else:
                    seconds = timed(job.out, lambda: predict_slide(slide, single, engines[single.name], job))  # noqa: B023
                    px = inferred(slide, single, None)
                cost[way]["seconds"] += seconds
                cost[way]["px"] += px
                said[way] = one_name(read_annotations(job.out).polygons)
                for where, one in compare(slide, truth, said[way]).items():
                    found.setdefault(way, {}).setdefault(where, []).append(one)
            save_picture(RESULTS / f"{row.name}.png", picture(slide, truth, [said[way] for way in WAYS]))
            print(f"{row.name}: done", flush=True)
    result = {
        way: cost[way] | {where: summary(slides, CLASSES, MATCH_UM)["pooled"] for where, slides in parts.items()}
        for way, parts in found.items()
    }
    (RESULTS / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "tables.md").write_text(tables(result))
    print(tables(result))


if __name__ == "__main__":
    main()
