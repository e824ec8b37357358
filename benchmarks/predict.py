"""How much of a prediction is the network: end to end against the bare forward passes, for each engine.

    python benchmarks/predict.py [--size 8000] [--model BUNDLE] [--engines torch,openvino] [--folder DIR]

A generated slide is predicted from the file to GeoJSON; then the same engine runs over the same batches, read
beforehand, and does nothing else. The ratio is what reading, tissue, blending, label map and outlines cost beside the
network. With two engines or more, the label maps are compared: agreeing pixels, and by how much each class's IoU with
the truth moves. Engines are loaded before the clock starts. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from wsiseg.bundle import load_bundle
from wsiseg.engines import make_engine
from wsiseg.engines.engine import averaged
from wsiseg.evaluate import confusion_matrix, pixel_figures
from wsiseg.models import GLOMERULI
from wsiseg.predict import Job, grid_for, predict_slide
from wsiseg.regions.rasterise import Rasteriser
from wsiseg.slides.open import open_slide
from wsiseg.stores.labels import LabelMap
from wsiseg.synthetic import SlideSpec, generate, write_slide
from wsiseg.tiling import select_tiles
from wsiseg.tissue import tissue_of

MPP = 0.5


def run(folder: Path, side: int, model: Path, engines: list[str]) -> None:
    """Print the tables."""
    bundle = load_bundle(model)
    made = generate(SlideSpec(90210, side * MPP, side * MPP, "pas", MPP, ()))
    path = folder / f"predict-{side}.svs"
    if not path.exists():
        write_slide(made, path)
    maps: dict[str, np.ndarray] = {}
    figures = {}
    print(
        "| engine | precision | tiles | bare forward, s | end to end, s | ratio | tiles/s |\n"
        "|---|---|--:|--:|--:|--:|--:|"
    )
    for name in engines:
        engine = make_engine(bundle, name, "cpu")
        with open_slide(path) as slide, tempfile.TemporaryDirectory(dir=folder) as place:
            grid = grid_for(slide, bundle)
            tiles = select_tiles(grid, tissue_of(slide))
            batch = bundle.usage.batch
            images = [slide.read(t.read, grid.frame) for t in tiles[: len(tiles) // batch * batch]]
            batches = [np.stack(images[i : i + batch]) for i in range(0, len(images), batch)]
            averaged(engine, batches[0], flips=bundle.usage.flips)  # warm
            start = time.perf_counter()
            for one in batches:
                averaged(engine, one, flips=bundle.usage.flips)
            bare = (time.perf_counter() - start) * len(tiles) / len(images)
        with open_slide(path) as slide, tempfile.TemporaryDirectory(dir=folder) as place:  # nothing in the cache
            start = time.perf_counter()
            predict_slide(slide, bundle, engine, Job(Path(place) / "out.geojson", labels=Path(place) / "labels.zarr"))
            whole = time.perf_counter() - start
            labels = LabelMap(Path(place) / "labels.zarr")
            maps[name] = labels.read(labels.frame.box)
            truth = Rasteriser(made.truth, bundle.classes, labels.frame, labels.level0)
            counted = confusion_matrix(truth.read, labels.read, labels.frame, len(bundle.classes))
            figures[name] = pixel_figures(counted, bundle.classes)
            inside = tissue_of(slide, mpp=labels.frame.mpp).mask
        print(
            f"| {name} | {engine.identity['precision']} | {len(tiles)} | {bare:.1f} | {whole:.1f} | {whole / bare:.2f} "
            f"| {len(tiles) / bare:.2f} |",
            flush=True,
        )
    first, *others = engines
    for name in others:
        rows, cols = (min(a, b) for a, b in zip(inside.shape, maps[name].shape, strict=True))
        tissue = inside[:rows, :cols]
        same = (maps[first][:rows, :cols] == maps[name][:rows, :cols])[tissue].mean()
        moved = max(abs((figures[first][c]["iou"] or 0) - (figures[name][c]["iou"] or 0)) for c in bundle.classes.names)
        print(
            f"\n{name} against {first}: {same:.5%} of the tissue's pixels agree, no IoU moves by more than {moved:.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--model", type=Path, default=GLOMERULI)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=["torch", "openvino"])
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        run(folder, args.size, args.model, args.engines)


if __name__ == "__main__":
    main()
