"""`wsiseg predict` over a whole slide, label map and outlines.

Run by `benchmarks/against.py`. With an engine it takes the bundle; without one, the given network itself, so that the
nearly free network can be used here too.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import torch
from options import parse

from wsiseg.bundle import load_bundle
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, grid_for, predict_slide
from wsiseg.selection.select import Selection
from wsiseg.slides.open import open_slide
from wsiseg.stores.labels import LabelMap


class Script:
    """An engine that runs the given network as it is: see `wsiseg.inference.engines.engine.Engine`."""

    streams = 1

    def __init__(self, path: str) -> None:
        self.net = torch.jit.load(path).eval()
        self.identity: dict[str, Any] = {"name": "script", "threads": torch.get_num_threads()}

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.net(torch.from_numpy(images)).numpy()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    bundle = load_bundle(args.model)
    engine = make_engine(bundle, args.engine, "cpu", threads=args.threads) if args.engine else Script(args.network)
    start = time.perf_counter()
    kept = args.out / "labels.zarr"
    with open_slide(args.slide) as slide:
        tiles = len(grid_for(slide, bundle))
        job = PredictOptions(
            args.out / "outlines.geojson", labels=kept, selection=Selection(tissue=False), overwrite=True
        )
        made = predict_slide(slide, bundle, engine, job)
    seconds = time.perf_counter() - start
    labels = LabelMap(kept)
    np.save(args.out / "labels.npy", labels.read(labels.frame.box))
    print(json.dumps({"seconds": seconds, "tiles": tiles, "objects": made.objects}))


if __name__ == "__main__":
    main()
