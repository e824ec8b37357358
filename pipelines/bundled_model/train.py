"""Trains the bundled model of glomeruli on what prepare.py has laid out.

    python pipelines/bundled_model/train.py --material runs/bundled-model/material --out runs/bundled-model/run

An interrupted run goes on where its last checkpoint stands. Checkpoints hold the averaged network; export.py makes a
bundle of one. A step takes a second of one core of 2024, the loading process a third of another.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator as Chance
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wsiseg.classes import IGNORE
from wsiseg.data.randomise import Palette, Warp, isolate, mosaic, needle, paste, refocus, restain, warp
from wsiseg.losses.segmentation import cross_entropy, soft_dice
from wsiseg.nets.depthwise import speed_up_depthwise
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.nets.weights import load_imagenet, normalisation

ENCODER = "tu-tf_efficientnet_lite0"
MPP, CROP, BATCH, CLASSES = 2.0, 256, 8, 3
KINDS = ("section",) * 4 + ("generated",) * 3 + ("any",)  # of the crops of a batch
LEARNING_RATE, WARM_UP, WEIGHT_DECAY, DECAY = 1.5e-3, 100, 0.02, 0.995
CHECKPOINT_EVERY, LOG_EVERY = 100, 10


@dataclass(frozen=True)
class Mix:
    """What the crops of a stage are like; chances are of one crop each.

    Attributes:
        warp: size, stretch and bend
        centred: crops around an object; the others lie anywhere in the tissue
        paste: with objects of another kind of source
        needle: a strip with glass around it, of the section and of generated slides
        graze, isolate, soften: see `wsiseg.data.randomise`
        mosaic: the scanned area ends in it
        corners: and not only along a straight line
    """

    warp: Warp
    centred: float = 0.7
    paste: float = 0.2
    needle: tuple[float, float] = (0.35, 0.1)
    graze: float = 0.0
    isolate: float = 0.0
    soften: float = 0.0
    mosaic: float = 0.12
    corners: bool = False


# The second stage mends what a look at the first one's mistakes on development slides showed: tufts alone on glass and
# at the edge of a core missed, scarred ones missed, empty lumens and corners of the scanned area taken for sclerotic ones.
STAGES = {
    1: Mix(Warp(CROP)),
    2: Mix(
        Warp(CROP, smallest=0.78, largest=1.45), centred=0.62, needle=(0.4, 0.2), graze=0.5, isolate=0.05, soften=0.1,
        mosaic=0.2, corners=True,
    ),
}  # fmt: skip


class Source:
    """One folder of prepare.py: pixels and labels on disk, and where its objects are."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "source.json").read_text())
        self.kind = about["kind"]
        self.palette = Palette(np.array(about["white"]), np.array(about["stains"]))
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.label = np.load(folder / "label.npy", mmap_mode="r")
        coarse = np.asarray(self.label[::4, ::4])
        self.objects: dict[int, np.ndarray] = {}
        for label in (1, 2):
            parts, count = ndimage.label(coarse == label)
            if count:
                centres = ndimage.center_of_mass(parts > 0, parts, range(1, count + 1))
                self.objects[label] = (np.array(centres) * 4).astype(int)
        light = np.asarray(self.image[::32, ::32]).min(2) / 255
        tissue = light < 0.85 * self.palette.white.min()
        self.tissue = np.argwhere((coarse[::8, ::8] != IGNORE) & tissue) * 32

    def read(self, y: int, x: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        """A square around a place; beyond the picture lies its own edge, and no statement."""
        top, left = y - side // 2, x - side // 2
        rows = np.arange(top, top + side).clip(0, self.label.shape[0] - 1)
        y0, y1 = rows[0], rows[-1] + 1
        cols = np.arange(left, left + side).clip(0, self.label.shape[1] - 1)
        x0, x1 = cols[0], cols[-1] + 1
        pad = (
            (max(0, -top), max(0, top + side - self.label.shape[0])),
            (max(0, -left), max(0, left + side - self.label.shape[1])),
        )
        image, label = np.asarray(self.image[y0:y1, x0:x1]), np.asarray(self.label[y0:y1, x0:x1])
        if any(map(any, pad)):
            pad = tuple((min(a, side), min(b, side)) for a, b in pad)
            image = np.pad(image, (*pad, (0, 0)), mode="edge")[:side, :side]
            label = np.pad(label, pad, constant_values=IGNORE)[:side, :side]
        return image, label


class Crops(Dataset):
    """Item `step` is a batch; all chance comes from (seed, step, place in the batch)."""

    def __init__(self, material: Path, seed: int, mix: Mix) -> None:
        self.material, self.seed, self.mix = material, seed, mix
        self.sources: list[Source] = []

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if not self.sources:
            self.sources = [Source(path.parent) for path in sorted(self.material.glob("*/source.json"))]
        made = [self.crop(kind, np.random.default_rng((self.seed, step, i))) for i, kind in enumerate(KINDS)]
        return torch.stack([m[0] for m in made]), torch.from_numpy(np.stack([m[1] for m in made]))

    def crop(self, kind: str, rng: Chance) -> tuple[Tensor, np.ndarray]:
        """One crop as the network sees it."""
        if kind == "any":
            kind = str(rng.choice(["other", "section", "generated"], p=[0.4, 0.3, 0.3]))
        mix = self.mix
        source, image, label = self.warped(kind, rng)
        if kind != "other" and rng.random() < mix.paste:
            _, *theirs = self.warped("generated" if kind == "section" else "section", rng)
            image, label = paste((image, label), (theirs[0], theirs[1]), rng)
        if rng.random() < mix.needle[kind != "section"]:
            image, label = needle(image, label, source.palette.white, MPP, rng, graze=mix.graze)
        elif mix.isolate and rng.random() < mix.isolate:
            image, label = isolate(image, label, source.palette.white, MPP, rng)
        image = restain(image, label, source.palette, rng, soften=mix.soften)
        if rng.random() < mix.mosaic:
            image, label = mosaic(image, label, rng, corners=mix.corners)
        return refocus(image, rng), label

    def warped(self, kind: str, rng: Chance) -> tuple[Source, Tensor, np.ndarray]:
        """A source of a kind, and a place of it after `warp`."""
        pool = [s for s in self.sources if s.kind == kind]
        source = pool[rng.integers(len(pool))]
        side = self.mix.warp.side
        if source.objects and rng.random() < self.mix.centred:
            centres = source.objects[int(rng.choice(list(source.objects)))]
            y, x = centres[rng.integers(len(centres))] + rng.integers(-190, 191, 2)
        else:
            y, x = source.tissue[rng.integers(len(source.tissue))]
        return source, *warp(*source.read(int(y), int(x), side), self.mix.warp, rng)


def build(weights: str = "imagenet") -> SegmentationNet:
    """The network, its encoder with ImageNet weights."""
    mean, std = normalisation(ENCODER)
    net = SegmentationNet(Architecture(ENCODER, CLASSES, mean, std, decoder_channels=128, atrous_rates=(2, 4, 7)))
    if weights == "imagenet":
        load_imagenet(net.net.encoder, ENCODER)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--stop", type=int, help="stop here; the schedule stays that of --steps")
    parser.add_argument("--stage", type=int, default=1, choices=tuple(STAGES))
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="checkpoint whose averaged network to start from")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    net = build()
    if args.start is not None:
        net.load_state_dict(torch.load(args.start, weights_only=True)["average"])
    speed_up_depthwise(net)
    net = net.to(memory_format=torch.channels_last).train()
    average = deepcopy(net).eval()
    thick = [p for p in net.parameters() if p.ndim > 1]
    thin = [p for p in net.parameters() if p.ndim <= 1]  # norms and biases are not pulled towards 0
    groups = [{"params": thick, "weight_decay": WEIGHT_DECAY}, {"params": thin, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    begin, last = 0, args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        begin = state["step"]
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    stop = args.stop or args.steps
    loader = DataLoader(
        Crops(args.material, args.seed, STAGES[args.stage]), batch_size=None, sampler=range(begin, stop), num_workers=1, prefetch_factor=6,
        multiprocessing_context="spawn",
    )  # fmt: skip
    log = csv.writer((args.out / "log.csv").open("a", newline="", buffering=1))
    seen: list[list[float]] = []
    asked = time.perf_counter()
    for step, (images, labels) in zip(range(begin, stop), loader, strict=True):
        waited = time.perf_counter() - asked
        torch.manual_seed((args.seed << 32) + step)  # dropout
        t = step / args.steps
        factor = step / WARM_UP if step < WARM_UP else 0.5 * (1 + math.cos(math.pi * t))
        for group in optimiser.param_groups:
            group["lr"] = args.rate * factor
        images, labels = images.contiguous(memory_format=torch.channels_last), labels.long()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        ce, dice = cross_entropy(logits, labels), soft_dice(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        (ce + 0.7 * dice).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        blend(average, net, min(DECAY, (1 + step) / (10 + step)))
        seen.append([ce.item(), dice.item(), waited, time.perf_counter() - asked])
        done = step + 1
        if done % LOG_EVERY == 0:
            log.writerow([done, *np.mean(seen, 0).round(4), round(time.time())])
            seen = []
        if done % CHECKPOINT_EVERY == 0 or done == stop:
            state = {"step": done, "net": net.state_dict(), "average": average.state_dict()}
            state["optimiser"] = optimiser.state_dict()
            torch.save(state, last.with_suffix(".part"))
            os.replace(last.with_suffix(".part"), last)
            if done % 500 == 0 or done == stop:
                torch.save({"step": done, "average": average.state_dict()}, args.out / f"step-{done}.pt")
        asked = time.perf_counter()


@torch.no_grad()
def blend(average: nn.Module, net: nn.Module, decay: float) -> None:
    """One step of the exponential moving average; batch statistics are averaged like weights."""
    mine, theirs = average.state_dict(), net.state_dict()
    floats = [name for name, value in mine.items() if value.is_floating_point()]
    torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - decay)
    for name in mine.keys() - set(floats):
        mine[name].copy_(theirs[name])


if __name__ == "__main__":
    main()
