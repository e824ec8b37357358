"""The difficulty gate of the generated slides: a network that saw few of them must do worse than one that saw many.

    python pipelines/experiments/generator_gate.py --out runs/generator-gate

The same small network (generator_gate.toml) learns glomeruli at 4 µm/px from 2 generated slides (one of each stain) and
from 12 (these 2 among them), with the same number of updates and the same seeds, and is judged on 6 others. If 2 were
as good as 12, the generator would draw the same kidney again and again. Per seed other 2 slides are the few.

OUT/slides/         the slides and their outlines, drawn once
OUT/ARM-SEED/       a run of `wsiseg train`; gone on with from its last checkpoint when it was stopped
OUT/ARM-SEED.json   what came of it; a run that has one is not done again

Writes docs/results/generator-gate.json. Nothing in it is a statement about kidneys.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from wsiseg.data.slides import SlideRow, write_slides
from wsiseg.engines import make_engine
from wsiseg.errors import WsisegError
from wsiseg.evaluate import SlideEvaluation, evaluate_slide, summary
from wsiseg.outputs import whole_file
from wsiseg.predict import Job, grid_for, predict_slide
from wsiseg.recipe import load_recipe
from wsiseg.regions.formats import read_outlines, write_outlines
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import CLASSES, SlideSpec, generate, write_slide
from wsiseg.training.run import Reporter, train

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "generator_gate.toml"
RESULT = HERE.parents[1] / "docs" / "results" / "generator-gate.json"
FIRST_SEED, MANY, FEW, JUDGED = 700, 12, 2, 6
SIZE_UM, MPP = (5000.0, 4000.0), 4.0
WELL_BELOW = 0.1  # of F1 of objects and of Dice: what the few have to lack in the mean, and with no seed be ahead


def draw(folder: Path, count: int, size_um: tuple[float, float]) -> list[SlideRow]:
    """Generated slides with their outlines, drawn once; H&E and PAS in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        slide, outlines = folder / f"g{i:02d}.svs", folder / f"g{i:02d}.geojson"
        if not outlines.exists():
            made = generate(SlideSpec(FIRST_SEED + i, *size_um, ("he", "pas")[i % 2], MPP))
            write_slide(made, slide)
            write_outlines(outlines, made.truth, classes=CLASSES, properties={"origin": "generated"})
        rows.append(SlideRow(slide, outlines, f"generated-{FIRST_SEED + i}"))
    return rows


def one_run(
    out: Path, arm: str, seed: int, teach: list[SlideRow], judged: list[SlideRow], steps: int
) -> dict[str, Any]:
    """Train and judge; from the file of results where there is one."""
    result = out / f"{arm}-{seed}.json"
    if result.exists():
        there: dict[str, Any] = json.loads(result.read_text())
        if there["steps"] == steps:
            return there
        raise WsisegError(f"{result} is of {there['steps']} steps: give --steps {there['steps']} or another --out.")
    folder = out / f"{arm}-{seed}"
    write_slides(folder / "slides.csv", teach)
    changes = (f"data.slides={folder / 'slides.csv'}", f"training.seed={seed}", f"training.steps={steps}")
    recipe = load_recipe(RECIPE, changes)
    quiet = Reporter(lambda line: None, lambda done, total, figures: None)
    bundle = train(recipe, folder, device="cpu", resume=True, overwrite=False, report=quiet)
    assert bundle is not None
    engine = make_engine(bundle, "torch", "cpu", threads=1)
    found = [judge(row, folder / f"{row.name}.geojson", bundle, engine) for row in judged]
    pooled = summary(found, bundle.classes)["pooled"]
    both, wrong = overlap(found)
    facts = {
        "arm": arm, "seed": seed, "steps": steps, "teach": [r.name for r in teach], "judged": [r.name for r in judged],
        "objects": pooled["objects"]["any"], "dice": 2 * both / max(1, 2 * both + wrong),
    }  # fmt: skip
    with whole_file(result) as sink:
        sink.write(json.dumps(facts, indent=1).encode() + b"\n")
    return facts


def judge(row: SlideRow, out: Path, bundle: Any, engine: Any) -> SlideEvaluation:
    """A slide predicted and compared with its truth, at the resolution of the network."""
    assert row.annotations is not None
    with open_slide(row.slide) as slide:
        predict_slide(slide, bundle, engine, Job(out, overwrite=True))
        frame = grid_for(slide, bundle).frame
        truth = [r for r in read_outlines(row.annotations).regions if r.label is not None]
        said = list(read_outlines(out).regions)
        return evaluate_slide(row.name, truth, said, bundle.classes, frame, slide.frame)


def overlap(found: list[SlideEvaluation]) -> tuple[int, int]:
    """Pixels of glomeruli, sclerotic or not, that both sides have, and those that one side alone has."""
    total = sum(s.confusion for s in found)
    return int(total[1:, 1:].sum()), int(total[0, 1:].sum() + total[1:, 0].sum())


def verdict(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of both arms, and whether the few lie well below the many in both figures."""
    sides = {arm: sorted((r for r in runs if r["arm"] == arm), key=lambda r: r["seed"]) for arm in ("few", "many")}
    figures = {
        arm: {"f1": [r["objects"]["f1"] or 0.0 for r in rows], "dice": [r["dice"] for r in rows]}
        for arm, rows in sides.items()
    }
    gaps = {
        name: [m - f for f, m in zip(figures["few"][name], figures["many"][name], strict=True)]
        for name in ("f1", "dice")
    }
    passed = all(sum(gap) / len(gap) >= WELL_BELOW and min(gap) > 0 for gap in gaps.values())
    return {"figures": figures, "gaps": gaps, "well_below": WELL_BELOW, "passed": passed}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240)
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
            few = pool[FEW * seed % many :][:FEW]
            for arm, teach in (("few", few), ("many", pool)):
                runs.append(one_run(out, arm, seed, teach, judged, args.steps))
                told = runs[-1]
                print(f"{arm} {seed}: F1 {told['objects']['f1'] or 0:.3f}, Dice {told['dice']:.3f}", flush=True)
    except WsisegError as error:
        print(f"generator_gate: {error}", file=sys.stderr)
        sys.exit(2)
    found = verdict(runs)
    if not args.quick:
        args.result.write_text(json.dumps({"kind": "generator gate", **found, "runs": runs}, indent=1) + "\n")
    for arm, figures in found["figures"].items():
        print(f"{arm}: " + ", ".join(f"{name} {sum(v) / len(v):.2f}" for name, v in figures.items()))
    print("The few lie well below the many." if found["passed"] else "The few do NOT lie well below the many.")


if __name__ == "__main__":
    main()
