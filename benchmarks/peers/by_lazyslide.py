"""LazySlide's semantic segmentation over a whole slide, to outlines.

Run by `benchmarks/against.py` in an environment of its own. No tissue is looked for, so that every tile of the grid is
predicted; everything else as it is by default: no worker processes, Gaussian weights where tiles overlap, an object
where a class has more than half of the probability. It keeps no label map: its result is the outlines.
"""

from __future__ import annotations

import json
import time
import warnings
from types import SimpleNamespace

import lazyslide as zs
import numpy as np
import torch
from options import parse
from wsidata import open_wsi


class Network:
    """The given network as LazySlide wants it."""

    def __init__(self, path: str) -> None:
        self.net = torch.jit.load(path).eval()

    def to(self, device: str) -> Network:
        self.net.to(device)
        return self

    def get_transform(self):
        """(t, t, 3) uint8 -> the same as a tensor: the network begins with bytes."""
        return lambda image: torch.from_numpy(np.ascontiguousarray(image))

    def segment(self, images: torch.Tensor) -> SimpleNamespace:
        """(n, t, t, 3) uint8 -> probability_map (n, classes, t, t)."""
        return SimpleNamespace(probability_map=self.net(images))


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")  # that no tissue was looked for is meant
    torch.set_num_threads(args.threads)
    model = Network(args.network)
    start = time.perf_counter()
    slide = open_wsi(args.slide, store=None)
    zs.pp.tile_tissues(slide, args.tile, overlap=args.overlap, mpp=args.mpp, edge=True, tissue_key=None)
    tiles = len(slide.shapes["tiles"])
    zs.seg.semantic(
        slide, model, class_names=args.classes, batch_size=args.batch, num_workers=0, device="cpu", pbar=False,
        key_added="objects",
    )  # fmt: skip
    features = json.loads(slide.shapes["objects"].to_json())["features"] if "objects" in slide.shapes else []
    for feature in features:
        kind = feature["properties"]["class"]
        feature["properties"] = {"objectType": "annotation", "classification": {"name": kind}}
    (args.out / "outlines.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    print(json.dumps({"seconds": time.perf_counter() - start, "tiles": tiles, "objects": len(features)}))


if __name__ == "__main__":
    main()
