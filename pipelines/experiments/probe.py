"""Can a discriminator tell a true label map from a predicted one by sharpness alone, without looking at the image?

    python pipelines/experiments/probe.py --model runs/kidney-glomeruli/model --tiles runs/kidney-glomeruli/tiles/*.zarr

A logistic regression on two numbers per pixel, the highest probability and the entropy, is fitted to half of the pixels
of the two maps that a discriminator is shown, and judged on the other half: near 1.0 the discriminator of
`method.target = "source"` can win without looking at the image; near 0.5 it cannot. Prints one line for each value of
`method.map_encoding`, for crops of labelled tile stores as the model sees them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from wsiseg.bundle import load_bundle
from wsiseg.data.augment import to_float
from wsiseg.data.crops import CropDataset, Drawing
from wsiseg.losses.encoding import Encoding, encode
from wsiseg.stores.tiles import TileStore

PIXELS = 4096  # of each map
STEPS = 8  # of Newton's method
RIDGE = 1e-3


@torch.no_grad()
def sharpness_auc(true: Tensor, predicted: Tensor) -> float:
    """Area under the ROC curve, 0.5 to 1, for maps (n, classes, h, w) of probabilities.

    Pixels on which both maps are the same are drawn like any others. The draw uses torch's generator on the CPU.
    """
    features = [_features(maps) for maps in (true, predicted)]
    chosen = [f[torch.randint(len(f), (PIXELS,))] for f in features]
    x = torch.cat(chosen)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    y = torch.cat([torch.ones(PIXELS), torch.zeros(PIXELS)]).to(x)
    learn = torch.arange(2 * PIXELS) % 2 == 0
    weights = _fit(x[learn], y[learn])
    return _auc(x[~learn] @ weights, y[~learn])


def _features(maps: Tensor) -> Tensor:
    """(pixels, 2) float64 on the CPU: highest probability and entropy."""
    p = maps.detach().double().cpu().movedim(1, -1).flatten(0, -2).clamp(1e-12, 1)
    return torch.stack([p.max(1).values, -(p * p.log()).sum(1)], 1)


def _fit(x: Tensor, y: Tensor) -> Tensor:
    weights = torch.zeros(x.shape[1], dtype=x.dtype)
    for _ in range(STEPS):
        p = torch.sigmoid(x @ weights)
        slope = x.T @ (y - p) - RIDGE * len(x) * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = weights + torch.linalg.solve(curve, slope)
    return weights


def _auc(score: Tensor, y: Tensor) -> float:
    """Mann-Whitney, ties counted half."""
    _, inverse, counts = score.round(decimals=9).unique(return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).double()
    rank = (upper - (counts - 1) / 2)[inverse]
    positive = y > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    auc = (rank[positive].sum().item() - n * (n + 1) / 2) / (n * m)
    return max(auc, 1 - auc)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tiles", type=Path, required=True, nargs="+", help="labelled tile stores")
    parser.add_argument("--crop", type=int, default=256, help="px, a multiple of 16")
    parser.add_argument("--crops", type=int, default=16)
    args = parser.parse_args()
    net = load_bundle(args.model).network()
    crops = CropDataset("labelled", [TileStore(path) for path in args.tiles], Drawing(args.crops, args.crop, 0))[0]
    with torch.inference_mode():
        logits = net(to_float(crops.images))
    for encoding in get_args(Encoding):
        torch.manual_seed(0)
        print(f"{encoding}: AUC {sharpness_auc(*encode(logits, crops.labels.long(), encoding)):.3f}")


if __name__ == "__main__":
    main()
