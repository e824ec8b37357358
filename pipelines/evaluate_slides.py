"""Predict and judge all slides on one side of a recipe's split, and show what went wrong.

    python pipelines/evaluate_slides.py pipelines/kidney-glomeruli.toml --model runs/kidney-glomeruli/model \
        --split test --out runs/kidney-glomeruli/test

writes into --out

    NAME.geojson         the prediction of each slide (one that is there already is used again)
    evaluation.json      all figures, pooled and per slide
    table.md             the same for people, with the spread over slides and intervals that resample slides
    unmatched-N.png      every predicted object without a partner, numbered, with all polygons around it; first those
                         that touch no annotation at all
    missed-N.png         every annotated object without a partner; first those that no prediction touches
    best.png, worst.png  the slides with the highest and the lowest Dice over all objects

Truth is drawn in black, predictions in green; the object in question has a yellow cross beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from shapely.affinity import translate

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.bundle import load_bundle
from wsiseg.classes import ClassMap
from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.errors import WsisegError
from wsiseg.evaluation.compare import compare_files
from wsiseg.evaluation.evaluate import SlideEvaluation, render, summary
from wsiseg.geometry import Box
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.pictures import draw_outlines, save_picture
from wsiseg.recipe import load_recipe
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

TRUTH, PREDICTION, MARK = (0, 0, 0), (0, 220, 60), (255, 230, 0)
VIEW_UM, VIEW_PX, PER_ROW, PER_PAGE = 480.0, 240, 8, 64
RESAMPLES = 2000
EngineFor = Callable[[Slide, Engine], Engine]


@dataclass(frozen=True)
class Judged:
    """One slide with its objects and annotations, and how they compare."""

    row: SlideEntry
    truth: tuple[LabelledPolygon, ...]
    said: tuple[LabelledPolygon, ...]
    found: SlideEvaluation


def main() -> None:
    parser = argparse.ArgumentParser(description="Predict and judge all slides on one side of a recipe's split.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    try:
        recipe = load_recipe(args.recipe)
        rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root) if recipe.data.root else None)
        rows = tuple(r for r in rows if r.split == args.split and r.annotations is not None)
        args.out.mkdir(parents=True, exist_ok=True)
        judged = list(judge(rows, args.model, args.out, args.device))
    except WsisegError as error:
        print(f"evaluate_slides: {error}", file=sys.stderr)
        sys.exit(2)
    classes = recipe.classes.class_map()
    result = summary([j.found for j in judged], classes)
    (args.out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    table = tables(result, [j.found for j in judged], classes) + apart(judged)
    (args.out / "table.md").write_text(table)
    galleries(judged, classes, args.out)
    print(table)


def judge(
    rows: Sequence[SlideEntry],
    model: Path,
    out: Path,
    device: str,
    engine_for: EngineFor = lambda slide, engine: engine,
) -> Iterator[Judged]:
    """Predict and evaluate slide after slide; `engine_for` may put something before the engine of each."""
    bundle = load_bundle(model)
    engine = make_engine(bundle, device=device)
    for row in rows:
        assert row.annotations is not None
        prediction = out / f"{row.name}.geojson"
        with open_slide(row.slide, mpp=row.mpp) as slide:
            predict_slide(slide, bundle, engine_for(slide, engine), PredictOptions(prediction))
            found, _ = compare_files(slide, row.annotations, prediction, resolution=1.0)
        any_object = found.any_object
        print(
            f"{row.name}: {len(any_object.found)} found, {len(any_object.missed)} missed, "
            f"{len(any_object.unmatched)} unmatched",
            file=sys.stderr,
        )
        named = tuple(r for r in read_annotations(row.annotations).polygons if r.label is not None)
        yield Judged(row, named, read_annotations(prediction).polygons, found)


def tables(result: dict, slides: Sequence[SlideEvaluation], classes: ClassMap) -> str:
    """Pooled figures, and their spread over slides, in Markdown."""
    lines = ["```", render(result), "```", "", "| figure | pooled | 95 % interval | median slide | quartiles |"]
    lines.append("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for name in (*classes.names[1:], "any"):
        for what, counts in (("Dice", dice_counts), ("recall of objects", recall_counts), ("F1 of objects", f1_counts)):
            pairs = np.array([counts(s, classes, name) for s in slides], float)
            lines.append(f"| {name}, {what} | {spread(pairs, rng)} |")
    return "\n".join(lines) + "\n"


def alone(region: LabelledPolygon, others: Sequence[LabelledPolygon]) -> bool:
    """Whether an object touches none of the other side's."""
    return not any(region.polygon.intersects(other.polygon) for other in others)


def apart(judged: Sequence[Judged]) -> str:
    """How many objects without a partner touch one of the other side all the same."""
    missed = [alone(j.truth[i], j.said) for j in judged for i in j.found.any_object.missed]
    unmatched = [alone(j.said[i], j.truth) for j in judged for i in j.found.any_object.unmatched]
    return (
        f"\n- Missed: {len(missed)}; a prediction touches {len(missed) - sum(missed)} of them, {sum(missed)} lie alone."
        f"\n- Unmatched: {len(unmatched)}; {len(unmatched) - sum(unmatched)} of them touch an outline, "
        f"{sum(unmatched)} touch none.\n"
    )


def spread(pairs: np.ndarray, rng: np.random.Generator) -> str:
    """Cells of one line from (slides, 2) part and whole."""
    drawn = pairs[rng.integers(len(pairs), size=(RESAMPLES, len(pairs)))].sum(1)
    low, high = np.percentile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [2.5, 97.5])
    single = pairs[pairs[:, 1] > 0]
    values = single[:, 0] / single[:, 1]
    quarter = np.percentile(values, [25, 50, 75])
    pooled = pairs[:, 0].sum() / pairs[:, 1].sum()
    return f"{pooled:.3f} | {low:.3f} to {high:.3f} | {quarter[1]:.3f} | {quarter[0]:.3f} to {quarter[2]:.3f}"


def dice_counts(s: SlideEvaluation, classes: ClassMap, name: str) -> tuple[float, float]:
    """(twice the common pixels, pixels of truth and prediction together)."""
    c = s.confusion
    if name == "any":
        return 2 * c[1:, 1:].sum(), c[1:].sum() + c[:, 1:].sum()
    i = classes.index(name)
    return 2 * c[i, i], c[i].sum() + c[:, i].sum()


def recall_counts(s: SlideEvaluation, classes: ClassMap, name: str) -> tuple[float, float]:
    """(objects found, objects annotated)."""
    m = s.any_object if name == "any" else s.objects[name]
    return len(m.found), len(m.found) + len(m.missed)


def f1_counts(s: SlideEvaluation, classes: ClassMap, name: str) -> tuple[float, float]:
    """(twice the objects found, objects annotated and predicted together)."""
    m = s.any_object if name == "any" else s.objects[name]
    return 2 * len(m.found), 2 * len(m.found) + len(m.missed) + len(m.unmatched)


def galleries(judged: Sequence[Judged], classes: ClassMap, out: Path) -> None:
    """All pictures."""
    unmatched, missed = [], []
    for j in judged:
        with open_slide(j.row.slide, mpp=j.row.mpp) as slide:
            matches = j.found.any_object
            unmatched += [(alone(j.said[i], j.truth), view(slide, j, j.said[i])) for i in matches.unmatched]
            missed += [(alone(j.truth[i], j.said), view(slide, j, j.truth[i])) for i in matches.missed]
    for name, found in (("unmatched", unmatched), ("missed", missed)):
        ordered = [picture for _, picture in sorted(found, key=lambda pair: not pair[0])]
        views = [numbered(picture, number) for number, picture in enumerate(ordered, 1)]
        for page in range(0, len(views), PER_PAGE):
            save_picture(out / f"{name}-{page // PER_PAGE + 1}.png", sheet(views[page : page + PER_PAGE]))
    score = [np.divide(*dice_counts(j.found, classes, "any")) for j in judged]
    for name, pick in (("best", int(np.argmax(score))), ("worst", int(np.argmin(score)))):
        j = judged[pick]
        with open_slide(j.row.slide, mpp=j.row.mpp) as slide:
            picture, frame = slide.thumbnail(1600)
            drawn = draw_outlines(picture, frame, [(j.truth, TRUTH), (j.said, PREDICTION)], slide.frame, 2)
            save_picture(out / f"{name}.png", drawn)


def view(slide: Slide, judged: Judged, region: LabelledPolygon) -> np.ndarray:
    """(VIEW_PX, VIEW_PX, 3): the surroundings of an object with all polygons, its slide and its class."""
    frame = slide.frame.at(VIEW_UM / VIEW_PX)
    scale = frame.scale_to(slide.frame)[0]
    x, y = (round(v / scale) for v in region.polygon.centroid.coords[0])
    box = Box(x - VIEW_PX // 2, y - VIEW_PX // 2, VIEW_PX, VIEW_PX)

    def moved(regions: Sequence[LabelledPolygon]) -> list[LabelledPolygon]:
        return [LabelledPolygon(translate(r.polygon, -box.x * scale, -box.y * scale), r.label) for r in regions]

    image = slide.read(box, frame)
    layers = [(moved(judged.truth), TRUTH), (moved(judged.said), PREDICTION)]
    picture = Image.fromarray(draw_outlines(image, frame, layers, slide.frame, 2))
    draw = ImageDraw.Draw(picture)
    left, top, *_ = (v / scale for v in region.polygon.bounds)
    cx, cy = left - box.x - 6, top - box.y - 6
    draw.line([(cx - 5, cy), (cx + 5, cy)], fill=MARK, width=3)
    draw.line([(cx, cy - 5), (cx, cy + 5)], fill=MARK, width=3)
    score = "" if region.score is None else f" {region.score:.2f}"
    draw.text((28, 2), f"{judged.row.name} {(region.label or '')[:5]}{score}", fill=(200, 0, 0))
    return np.pad(np.asarray(picture), ((0, 4), (0, 4), (0, 0)), constant_values=255)


def numbered(picture: np.ndarray, number: int) -> np.ndarray:
    """The same with its number."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((4, 2), str(number), fill=(200, 0, 0))
    return np.asarray(image)


def sheet(views: Sequence[np.ndarray]) -> np.ndarray:
    """Views in rows of `PER_ROW`."""
    blank = np.full_like(views[0], 255)
    filled = list(views) + [blank] * (-len(views) % PER_ROW)
    return np.concatenate([np.concatenate(filled[i : i + PER_ROW], 1) for i in range(0, len(filled), PER_ROW)])


if __name__ == "__main__":
    main()
