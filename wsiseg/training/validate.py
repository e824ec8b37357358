"""Evaluate a network on the validation slides: metrics and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsiseg.bundle import Usage
from wsiseg.classes import ClassMap
from wsiseg.evaluation.pixels import pixel_metrics
from wsiseg.grid import Grid
from wsiseg.inference.blend import to_labels
from wsiseg.inference.engines.engine import infer
from wsiseg.inference.engines.torch import TorchEngine
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.pictures import picture_grid, save_picture
from wsiseg.stores.tiles import TileStore
from wsiseg.training.log import Log

PICTURE_ROWS = 4


def validate(
    network: SegmentationNet, stores: Sequence[TileStore], classes: ClassMap, usage: Usage, device: torch.device, out: Path,
    step: int, log: Log,
) -> dict[str, float]:  # fmt: skip
    """Pixel metrics over the stored tissue of some slides, logged and returned; a picture of the fullest tiles.

    Returns:
        "class/metric" -> value, empty where there are no slides
    """
    if not stores:
        return {}
    engine = TorchEngine(network, device)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    pictures: list[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]] = []
    for store in stores:
        grid = Grid(store.grid.frame, usage.tile, usage.overlap)
        tiles = [t for t in grid if any((k.row, k.col) in store for k in store.grid.cells(t.keep))]
        for i in range(0, len(tiles), usage.batch):
            part = tiles[i : i + usage.batch]
            images = [store.read(t.read) for t in part]
            images += [images[0]] * (usage.batch - len(images))
            said_of = infer(engine, np.stack(images), tta=usage.tta)
            for tile, image, scores in zip(part, images, said_of, strict=False):
                inner = tile.keep.relative_to(tile.read).slices
                reference, said = store.read_labels(tile.keep), to_labels(scores, usage.foreground_threshold)[inner]
                known = reference < len(classes)
                pairs = reference[known].astype(np.int64) * len(classes) + said[known]
                confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
                pictures.append(
                    (int((reference[known] > 0).sum()), _square(image[inner], reference, said, grid.stride))
                )
    pictures.sort(key=lambda pair: -pair[0])
    view = picture_grid([rows for _, rows in pictures[:PICTURE_ROWS]], classes)
    save_picture(out / "pictures" / f"step-{step:06d}.png", view)
    metrics = pixel_metrics(confusion, classes)
    flat = {f"{name}/{key}": v for name, row in metrics.items() for key, v in row.items() if v is not None}
    log.write(step, flat)
    log.picture(step, torch.from_numpy(view))
    return flat


def _square(image: np.ndarray, reference: np.ndarray, said: np.ndarray, side: int) -> Any:
    """All three padded to side × side, for tiles cut by the slide's edge."""
    pad = ((0, side - reference.shape[0]), (0, side - reference.shape[1]))
    return np.pad(image, (*pad, (0, 0)), constant_values=255), np.pad(reference, pad), np.pad(said, pad)
