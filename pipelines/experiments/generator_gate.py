"""The difficulty gate of the generated slides: a network that saw few of them must do worse than one that saw many.

    python pipelines/experiments/generator_gate.py --out runs/generator-gate

The same small network (generator_gate.toml) learns glomeruli at 4 µm/px from 1 generated slide, from 2 (one of each
stain) and from 12 (the 2 among them), with the same number of updates and the same seeds, and is judged on 6 others. If
few were as good as many, the generator would draw the same kidney again and again. Per seed others are the few; the one
is of H&E and PAS in turns.

OUT/slides/           the slides and their annotations, drawn once
OUT/COUNT-SEED/       a run of `wsiseg train`; gone on with from its last checkpoint when it was stopped
OUT/COUNT-SEED.json   what came of it; a run that has one is not done again

Writes docs/results/generator-gate.json. Nothing in it is a statement about kidneys.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.atomic import atomic_write
from wsiseg.data.slides import SlideEntry, write_slides
from wsiseg.errors import WsisegError
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide, summary
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, grid_for, predict_slide
from wsiseg.progress import silent
from wsiseg.recipe import load_recipe
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import CLASSES, SlideSpec, generate, write_slide
from wsiseg.training.run import train

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "generator_gate.toml"
RESULT = HERE.parents[1] / "docs" / "results" / "generator-gate.json"
FIRST_SEED, MANY, JUDGED = 700, 12, 6
SIZE_UM, MPP = (5000.0, 4000.0), 4.0
WELL_BELOW = 0.1  # of F1 of objects and of Dice: what the few have to lack in the mean, and with no seed be ahead


def draw(folder: Path, count: int, size_um: tuple[float, float]) -> list[SlideEntry]:
    """Generated slides with their annotations, drawn once; H&E and PAS in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        slide, outlines = folder / f"g{i:02d}.svs", folder / f"g{i:02d}.geojson"
        if not outlines.exists():
            made = generate(SlideSpec(FIRST_SEED + i, *size_um, ("he", "pas")[i % 2], MPP))
            write_slide(made, slide)
            write_annotations(outlines, made.truth, classes=CLASSES, properties={"origin": "generated"})
        rows.append(SlideEntry(slide, outlines, f"generated-{FIRST_SEED + i}"))
    return rows


def one_run(out: Path, seed: int, teach: list[SlideEntry], judged: list[SlideEntry], steps: int) -> dict[str, Any]:
    """Train and judge; from the file of results where there is one."""
    result = out / f"{len(teach)}-{seed}.json"
    if result.exists():
        there: dict[str, Any] = json.loads(result.read_text())
        if there["steps"] == steps:
            return there
        raise WsisegError(f"{result} is of {there['steps']} steps: give --steps {there['steps']} or another --out.")
    folder = result.with_suffix("")
    write_slides(folder / "slides.csv", teach)
    changes = (f"data.slides={folder / 'slides.csv'}", f"training.seed={seed}", f"training.steps={steps}")
    recipe = load_recipe(RECIPE, changes)
    bundle = train(recipe, folder, device="cpu", resume=True, overwrite=False, report=silent)
    assert bundle is not None
    engine = make_engine(bundle, "torch", "cpu", threads=1)
    found = [judge(row, folder / f"{row.name}.geojson", bundle, engine) for row in judged]
    pooled = summary(found, bundle.classes)["pooled"]
    both, wrong = overlap(found)
    facts = {
        "seed": seed, "steps": steps, "teach": [r.name for r in teach], "judged": [r.name for r in judged],
        "objects": pooled["objects"]["any"], "dice": 2 * both / max(1, 2 * both + wrong),
    }  # fmt: skip
    with atomic_write(result) as sink:
        sink.write(json.dumps(facts, indent=1).encode() + b"\n")
    return facts


def judge(row: SlideEntry, out: Path, bundle: Any, engine: Any) -> SlideEvaluation:
    """A slide predicted and compared with its truth, at the resolution of the network."""
    assert row.annotations is not None
    with open_slide(row.slide) as slide:
        predict_slide(slide, bundle, engine, PredictOptions(out, overwrite=True))
        frame = grid_for(slide, bundle).frame
        truth = [r for r in read_annotations(row.annotations).polygons if r.label is not None]
        said = list(read_annotations(out).polygons)
        return evaluate_slide(row.name, truth, said, bundle.classes, frame, slide.frame)


def overlap(found: list[SlideEvaluation]) -> tuple[int, int]:
    """Pixels of glomeruli, sclerotic or not, that both sides have, and those that one side alone has."""
    total = sum(s.confusion for s in found)
    return int(total[1:, 1:].sum()), int(total[0, 1:].sum() + total[1:, 0].sum())


def verdict(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each number of slides: the figures by seed, what they lack, and whether that is well below the many."""
    by_count = {n: sorted((r for r in runs if len(r["teach"]) == n), key=lambda r: r["seed"]) for n in counts_of(runs)}
    figures = {
        n: {"f1": [r["objects"]["f1"] or 0.0 for r in rows], "dice": [r["dice"] for r in rows]}
        for n, rows in by_count.items()
    }
    many = figures[max(figures)]
    found = []
    for n, own in figures.items():
        gaps = {name: [m - f for f, m in zip(own[name], many[name], strict=True)] for name in own}
        below = all(sum(gap) / len(gap) >= WELL_BELOW and min(gap) > 0 for gap in gaps.values())
        found.append({"slides": n, "figures": own, "gaps": gaps, "well_below": below})
    return found


def counts_of(runs: list[dict[str, Any]]) -> list[int]:
    """The numbers of slides that were learned from, ascending."""
    return sorted({len(r["teach"]) for r in runs})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="small slides, for seeing that it works; no result")
    args = parser.parse_args()
    out, size, many, judges = args.out.resolve(), SIZE_UM, MANY, JUDGED
    if args.quick:
        size, many, judges = (2000.0, 1500.0), 4, 2
    try:
        rows = draw(out / "slides", many + judges, size)
        pool, judged = rows[:many], rows[many:]
        runs = []
        for seed in range(args.seeds):
            pair = pool[2 * seed % many :][:2]
            some = (pair[seed % 2 :][:1], pair, pool)
            runs += [one_run(out, seed, teach, judged, args.steps) for teach in some]
    except WsisegError as error:
        print(f"generator_gate: {error}", file=sys.stderr)
        sys.exit(2)
    found = verdict(runs)
    if not args.quick:
        facts = {"kind": "generator gate", "steps": args.steps, "goal": WELL_BELOW, "found": found, "runs": runs}
        args.result.write_text(json.dumps(facts, indent=1) + "\n")
    print("| slides | F1 by seed | Dice by seed | well below the most |\n|--:|---|---|---|")
    for row in found:
        below = "" if row is found[-1] else "yes" if row["well_below"] else "no"
        f1, dice = (", ".join(f"{v:.2f}" for v in row["figures"][name]) for name in ("f1", "dice"))
        print(f"| {row['slides']} | {f1} | {dice} | {below} |")


if __name__ == "__main__":
    main()
