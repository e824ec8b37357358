"""How a checkpoint does on development slides, at several thresholds and border offsets, and pictures of it.

    python pipelines/bundled_model/choose.py --checkpoint runs/bundled-model/run/step-1000.pt \
        --list pipelines/kidney-glomeruli.csv --root shared/data/kidney --split train --every 3 \
        --section hubmap-section-1.svs --roi runs/bundled-model/material/kept-out-roi.geojson --out runs/bundled-model/look

Everything happens on the raster of the model (2 µm/px), which is quick; the figures that are reported come from
pipelines/evaluate_slides.py. Probabilities are kept in --out and used again.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from train import MPP, build

from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide

TILE, OVERLAP = 512, 128
NAMES = {"Glomerulus": 1, "Sclerotic glomerulus": 2}


@dataclass
class Slide:
    """A slide at the model's resolution: pixels, outlined objects one by one, probabilities of (object, sclerotic)."""

    name: str
    image: np.ndarray
    objects: list[tuple[np.ndarray, int]]  # polygon in px, class
    chance: np.ndarray
    left: int = 0

    def truth(self) -> tuple[np.ndarray, list[int]]:
        """Every object's number on the raster, and the class of each number from 1."""
        picture = Image.new("I", (self.image.shape[1], self.image.shape[0]), 0)
        draw = ImageDraw.Draw(picture)
        for number, (polygon, _) in enumerate(self.objects, 1):
            draw.polygon([tuple(p) for p in polygon], fill=number)
        return np.array(picture), [kind for _, kind in self.objects]


def load_net(checkpoint: Path) -> torch.nn.Module:
    net = build("none")
    net.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return net.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def predict(net: torch.nn.Module, image: np.ndarray, flips: bool = False) -> np.ndarray:
    """(2, h, w) uint8 probabilities of any object and of a sclerotic one."""
    h, w = image.shape[:2]
    step = TILE - OVERLAP
    ys, xs = (range(0, max(1, size - OVERLAP), step) for size in (h, w))
    padded = np.pad(image, ((0, TILE), (0, TILE), (0, 0)), constant_values=255)
    ramp = np.minimum(np.arange(TILE) + 1, np.arange(TILE)[::-1] + 1).clip(max=OVERLAP) / OVERLAP
    weight = np.outer(ramp, ramp).astype(np.float32)
    total, count = np.zeros((2, h + TILE, w + TILE), np.float32), np.full((h + TILE, w + TILE), 1e-6, np.float32)
    places = [(y, x) for y in ys for x in xs if (padded[y : y + TILE, x : x + TILE].min(2) < 205).mean() > 0.01]
    for y, x in places:
        tile = torch.from_numpy(padded[y : y + TILE, x : x + TILE]).permute(2, 0, 1)[None].float() / 255
        views = [tile, tile.flip(2), tile.flip(3), tile.flip(2, 3)] if flips else [tile]
        mean = 0
        for i, view in enumerate(views):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(view.contiguous(memory_format=torch.channels_last))
            p = logits.float().softmax(1)[0]
            mean = mean + (p.flip(1) if i & 1 else p).flip(2 if i & 2 else ()) / len(views)
        both = torch.stack([mean[1] + mean[2], mean[2]]).numpy()
        total[:, y : y + TILE, x : x + TILE] += both * weight
        count[y : y + TILE, x : x + TILE] += weight
    return (total / count * 255).round().astype(np.uint8)[:, :h, :w]


def decide(chance: np.ndarray, above: float, grow_um: float) -> tuple[np.ndarray, list[int]]:
    """Numbered objects and the class of each: above a threshold, grown or shrunk, small ones left out, holes filled."""
    found, _ = ndimage.label(chance[0] > above * 255)
    out, kinds = np.zeros(found.shape, np.int32), []
    margin = 2 + max(0, round(grow_um / MPP))
    for number, where in enumerate(ndimage.find_objects(found), 1):
        if (where[0].stop - where[0].start) * (where[1].stop - where[1].start) < 400:
            continue
        at = tuple(slice(max(0, w.start - margin), w.stop + margin) for w in where)
        mask = ndimage.binary_fill_holes(found[at] == number)
        mask = ndimage.binary_opening(np.pad(mask, 4), iterations=3)[4:-4, 4:-4]
        if grow_um and mask.any():
            far = ndimage.distance_transform_edt(~mask if grow_um > 0 else mask) * MPP
            mask = far <= grow_um if grow_um > 0 else far > -grow_um
        parts = split(mask)
        for part in range(1, parts.max() + 1):
            inside = parts == part
            if inside.sum() * MPP**2 >= 3000:
                share = chance[1][at][inside].sum() / max(chance[0][at][inside].astype(float).sum(), 1)
                kinds.append(2 if share > 0.5 else 1)
                out[at][inside] = len(kinds)
    return out, kinds


def split(mask: np.ndarray, apart_um: float = 80.0) -> np.ndarray:
    """The parts of a mask whose middles are farther apart than `apart_um`, numbered."""
    parts, count = ndimage.label(mask)
    far = ndimage.distance_transform_edt(np.pad(parts > 0, 1))[1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(far, 3)
    size = 2 * round(apart_um / 2 / MPP / 1.2) + 1
    peak = (smooth == ndimage.maximum_filter(smooth, size)) & (far > 8)
    seeds, seeded = ndimage.label(peak, np.ones((3, 3)))
    if seeded <= count:
        return parts
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return np.where(mask, seeds[tuple(nearest)], 0)


def compare(slide: Slide, parts: np.ndarray, kinds: list[int]) -> dict:
    """Counts of pixels and of objects at IoU 0.5."""
    truth, true_kinds = slide.truth()
    n, m = len(true_kinds), len(kinds)
    table = np.bincount((truth * (m + 1) + parts).ravel(), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    t, p = table.sum(1), table.sum(0)
    iou = table[1:, 1:] / np.maximum(t[1:, None] + p[None, 1:] - table[1:, 1:], 1)
    rows, cols = linear_sum_assignment(-iou)
    pairs = [(i, j) for i, j in zip(rows, cols, strict=True) if iou[i, j] >= 0.5]
    both = table[1:, 1:].sum()
    same = [(np.array([k == c for k in true_kinds]), np.array([k == c for k in kinds])) for c in (1, 2)]
    dice = {
        c: (2 * table[1:, 1:][np.ix_(*s)].sum() if n and m else 0, t[1:][s[0]].sum() + p[1:][s[1]].sum() if m else 0)
        for c, s in zip((1, 2), same, strict=True)
    }
    return {"both": 2 * both, "sizes": t[1:].sum() + p[1:].sum(), "found": len(pairs), "truth": n, "said": m,
            "pairs": pairs, "dice": dice, "area": (t[1:].sum(), p[1:].sum())}  # fmt: skip


def pooled(results: list[dict]) -> str:
    total = {k: sum(r[k] for r in results) for k in ("both", "sizes", "found", "truth", "said")}
    scl = [sum(r["dice"][2][i] for r in results) for i in (0, 1)]
    area = [sum(r["area"][i] for r in results) for i in (0, 1)]
    f1 = 2 * total["found"] / max(1, total["truth"] + total["said"])
    return (
        f"Dice {total['both'] / max(total['sizes'], 1):.3f} recall {total['found'] / max(total['truth'], 1):.3f} "
        f"precision {total['found'] / max(total['said'], 1):.3f} F1 {f1:.3f} sclerotic Dice {scl[0] / max(scl[1], 1):.3f} "
        f"area {area[1] / max(area[0], 1):.2f}"
    )


def read(path: Path, outlines: Path, name: str, roi: Path | None = None) -> Slide:
    """A slide without its probabilities; with a region, what lies left of it is cut away."""
    with open_slide(path) as slide:
        frame = slide.frame.at(MPP)
        scale = frame.scale_to(slide.frame)[0]
        left = 0
        if roi is not None:
            corners = json.loads(roi.read_text())["features"][0]["geometry"]["coordinates"][0]
            left = round(min(x for x, _ in corners) / scale)
        image = slide.read(Box(left, 0, frame.width - left, frame.height), frame)
    objects = []
    for feature in json.loads(outlines.read_text())["features"]:
        kind = NAMES.get(feature["properties"].get("classification", {}).get("name", ""))
        shape = feature["geometry"]
        rings = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
        objects += [(np.array(r[0]) / scale - (left, 0), kind) for r in rings if kind]
    return Slide(name, image, objects, np.zeros((2, 1, 1), np.uint8), left)


def picture(slide: Slide, parts: np.ndarray, result: dict, out: Path) -> None:
    """Outlines in green, predictions in blue (sclerotic: red), on the slide."""
    image = slide.image.copy()
    for row, col, colour in ((1, 0, (0, 80, 255)), (0, 1, (0, 80, 255))):
        edge = np.zeros(parts.shape, bool)
        edge[row:, col:] = parts[row:, col:] != parts[: parts.shape[0] - row, : parts.shape[1] - col]
        image[ndimage.binary_dilation(edge)] = colour
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    hit = {i for i, _ in result["pairs"]}
    for i, (polygon, kind) in enumerate(slide.objects):
        colour = (0, 200, 0) if kind == 1 else (255, 140, 0)
        draw.line([tuple(p) for p in polygon], fill=colour, width=3)
        if i not in hit:
            draw.text(tuple(polygon.mean(0)), "MISSED", fill=(255, 0, 0))
    drawn.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--split", default="train", choices=("train", "validation"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--section", type=Path)
    parser.add_argument("--roi", type=Path)
    parser.add_argument("--above", type=float, nargs="+", default=[0.3, 0.4, 0.5, 0.6, 0.7])
    parser.add_argument("--grow", type=float, nargs="+", default=[0.0], help="µm")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    net = load_net(args.checkpoint)
    sets: dict[str, list[Slide]] = {}
    if args.list is not None:
        rows = [r for r in csv.DictReader(args.list.open()) if r["split"] == args.split][args.offset :: args.every]
        sets["biopsies"] = [read(args.root / r["slide"], args.root / r["annotations"], r["patient"]) for r in rows]
    if args.section is not None:
        outlines = args.roi.with_name("kept-out.geojson")
        sets["kept-out section"] = [read(args.section, outlines, "section", args.roi)]
    for slides in sets.values():
        for slide in slides:
            kept = args.out / f"{slide.name}.npy"
            if not kept.exists():
                np.save(kept, predict(net, slide.image, args.flips))
            slide.chance = np.load(kept)
    for title, slides in sets.items():
        best = (-1.0, 0.5, 0.0)
        for above in args.above:
            for grow in args.grow:
                results = [compare(s, *decide(s.chance, above, grow)) for s in slides]
                line = pooled(results)
                print(f"{title} ({len(slides)}): above {above} grow {grow:+.0f} µm: {line}", flush=True)
                best = max(best, (float(line.split()[1]), above, grow))
        for slide in slides:
            parts, kinds = decide(slide.chance, *best[1:])
            result = compare(slide, parts, kinds)
            print(f"  {slide.name}: {result['found']} of {result['truth']}, said {result['said']}, "
                  f"Dice {result['both'] / max(result['sizes'], 1):.3f}")  # fmt: skip
            picture(slide, parts, result, args.out / f"{slide.name}.png")


if __name__ == "__main__":
    main()
