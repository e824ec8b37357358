"""How much of a prediction is the network: end to end against the bare forward passes, for each engine.

    python benchmarks/predict.py [--size 16000] [--model BUNDLE] [--engines torch,openvino] [--folder DIR] [--quick]

A generated slide is predicted from the file to GeoJSON; then the same engine runs over as many batches, read
beforehand, and does nothing else. The ratio is what opening, tissue, reading, blending, label map and outlines cost
beside the network. With two engines or more, the label maps are compared: agreeing pixels, and by how much each class's
IoU with the truth moves. Engines are loaded before the clock starts, and modules are imported. Prints the table and
writes it into docs/results/speed.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shared.results import record

from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.evaluation.pixels import confusion_matrix, pixel_metrics
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine, infer
from wsiseg.inference.predict import PredictOptions, grid_for, predict_slide
from wsiseg.models import GLOMERULI
from wsiseg.selection.select import Selection
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.open import open_slide
from wsiseg.stores.labels import LabelMap
from wsiseg.synthetic import SlideSpec, SyntheticSlide, generate, write_slide

MPP = 1.0  # of the slide: many tiles for little drawing, for the demonstration model works at 3 µm/px
GOAL = 1.15
BARE_BATCHES = 40  # over which the bare network is measured
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of an engine.

    Attributes:
        runs: s of the bare network and of the whole prediction, from the least ratio to the largest
        labels: in the map's frame
        iou: each class's, with the truth
    """

    precision: str
    tiles: int
    runs: list[tuple[float, float]]
    labels: np.ndarray
    iou: dict[str, float]

    @property
    def bare(self) -> float:
        """s of the bare network in the run of the median ratio."""
        return self.runs[len(self.runs) // 2][0]


def bare(path: Path, bundle: ModelBundle, engine: Engine, batches_measured: int) -> tuple[int, float]:
    """Tiles of a slide, and s that the network takes for them: whole batches, as prediction forms them."""
    batch = bundle.usage.batch
    with open_slide(path) as slide:
        grid = grid_for(slide, bundle)
        tiles = Selection().apply(slide, grid).tiles
        count = -(-len(tiles) // batch)
        wanted = batches_measured * batch
        some = [tiles[i * len(tiles) // wanted] for i in range(wanted)]
        images = [slide.read(tile.read, grid.frame) for tile in some]
    batches = [np.stack(images[i : i + batch]) for i in range(0, len(images), batch)]
    infer(engine, batches[0], tta=bundle.usage.tta)  # warm
    with ThreadPoolExecutor(engine.streams) as pool:  # as prediction does
        start = time.perf_counter()
        done = [pool.submit(infer, engine, one, tta=bundle.usage.tta) for one in batches]
        for one in done:
            one.result()
        return len(tiles), (time.perf_counter() - start) * count / len(batches)


def measured(
    path: Path, truth: SyntheticSlide, bundle: ModelBundle, engine: Engine, folder: Path, *, batches: int, repeats: int
) -> Row:
    """One engine. The bare network runs before, between and after the predictions: a machine's clock may change."""
    tiles, before = bare(path, bundle, engine, batches)
    runs: list[tuple[float, float]] = []  # s of the bare network and of the whole prediction
    with tempfile.TemporaryDirectory(dir=folder) as place:
        job = PredictOptions(Path(place) / "out.geojson", labels=Path(place) / "labels.zarr", overwrite=True)
        for _ in range(repeats):
            start = time.perf_counter()
            with open_slide(path) as slide:
                predict_slide(slide, bundle, engine, job)
            whole = time.perf_counter() - start
            _, after = bare(path, bundle, engine, batches)
            runs.append(((before + after) / 2, whole))
            before = after
        labels = LabelMap(Path(place) / "labels.zarr")
        there = labels.read(labels.frame.box)
        true = Rasteriser(truth.truth, bundle.classes, labels.frame, labels.level0)
        counted = confusion_matrix(true.read, labels.read, labels.frame, len(bundle.classes))
    figures = pixel_metrics(counted, bundle.classes)
    runs.sort(key=lambda run: run[1] / run[0])
    iou = {name: figures[name]["iou"] or 0.0 for name in bundle.classes.names}
    return Row(str(engine.identity["precision"]), tiles, runs, there, iou)


def run(folder: Path, side: int, model: Path, engines: list[str], *, batches: int, repeats: int) -> str:
    """The table, and how the engines' labels agree."""
    bundle = load_bundle(model)
    made = generate(SlideSpec(90210, side * MPP, side * MPP, "pas", MPP, ()))
    path = folder / f"predict-{side}-{MPP:g}.svs"
    if not path.exists():
        write_slide(made, path)
    lines = [
        f"{side} × {side} px at {MPP:g} µm/px, {bundle.name!r} at {bundle.usage.mpp:g} µm/px, batches of "
        f"{bundle.usage.batch} tiles of {bundle.usage.tile} px; runs: {repeats}, that of the median ratio is shown.\n",
        "| engine | precision | tiles | bare forward, s | end to end, s | ratio | of all runs | tiles/s, bare |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    rows: dict[str, Row] = {}
    for name in engines:
        engine = make_engine(bundle, name, "cpu")
        row = rows[name] = measured(path, made, bundle, engine, folder, batches=batches, repeats=repeats)
        ratios = [whole / bare for bare, whole in row.runs]
        times = (
            f"{row.bare:.1f} | {row.runs[repeats // 2][1]:.1f} | {ratios[repeats // 2]:.2f} | "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f} | {row.tiles / row.bare:.2f}"
        )
        lines.append(f"| {name} | {row.precision} | {row.tiles} | {times} |")
        print(lines[-1], flush=True)
    with open_slide(path) as slide:
        inside = tissue_of(slide, mpp=grid_for(slide, bundle).frame.mpp).mask
    finer = bundle.usage.upsample  # pixels of the label map for each of the network, in which tissue was looked for
    inside = inside.repeat(finer, 0).repeat(finer, 1)
    lines.append(f"\nGoal: end to end at most {GOAL} × bare.")
    first = rows[engines[0]]
    height, width = (min(a, b) for a, b in zip(inside.shape, first.labels.shape, strict=True))
    tissue = inside[:height, :width]
    for name, row in list(rows.items())[1:]:
        same = (first.labels[:height, :width] == row.labels[:height, :width])[tissue].mean()
        moved = max(abs(first.iou[c] - row.iou[c]) for c in bundle.classes.names)
        lines.append(
            f"{name} against {engines[0]}: {first.bare / row.bare:.1f} × as fast; {same:.4%} of the tissue's pixels "
            f"agree (goal 99.7 %), no IoU moves by more than {moved:.5f} (goal 0.002)."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16_000, help="px of each side of the slide")
    parser.add_argument("--model", type=Path, default=GLOMERULI)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=["torch", "openvino"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-predict")
    parser.add_argument("--quick", action="store_true", help="a slide of 3000 px, and nothing is written down")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    side, batches, repeats = (3000, 2, 1) if args.quick else (args.size, BARE_BATCHES, REPEATS)
    text = run(args.folder, side, args.model, args.engines, batches=batches, repeats=repeats)
    record("speed.md", "python benchmarks/predict.py", text, quick=args.quick)


if __name__ == "__main__":
    main()
