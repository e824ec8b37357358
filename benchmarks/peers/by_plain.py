"""What anybody writes first with OpenSlide and PyTorch: read, shrink, predict, add up, take the highest, trace.

Run by `benchmarks/against.py` in an environment of its own. The whole slide is predicted, tile by tile; sums of
probabilities are kept for the whole slide, float32.
"""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import openslide
import torch
from options import parse
from PIL import Image


def outlines(labels: np.ndarray, names: list[str], scale: float) -> dict:
    """GeoJSON of the outer outlines of each class, in level-0 pixels."""
    features = []
    for index, name in enumerate(names):
        if index == 0:
            continue
        found, _ = cv2.findContours((labels == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for contour in found:
            if len(contour) < 3:
                continue
            ring = ((contour[:, 0] + 0.5) * scale).tolist()
            geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
            about = {"objectType": "annotation", "classification": {"name": name}}
            features.append({"type": "Feature", "geometry": geometry, "properties": about})
    return {"type": "FeatureCollection", "features": features}


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    network = torch.jit.load(args.network).eval()
    start = time.perf_counter()
    slide = openslide.OpenSlide(args.slide)
    scale = args.mpp / float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
    width, height = (round(side / scale) for side in slide.dimensions)
    stride, whole = args.tile - args.overlap, round(args.tile * scale)
    sums = np.zeros((len(args.classes), height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    first_at = -args.overlap // 2  # as wsiseg's grid begins
    places = [(x, y) for y in range(first_at, height, stride) for x in range(first_at, width, stride)]
    for first in range(0, len(places), args.batch):
        some = places[first : first + args.batch]
        images = []
        for x, y in some:
            region = slide.read_region((round(x * scale), round(y * scale)), 0, (whole, whole))
            white = Image.new("RGB", region.size, "white")
            white.paste(region, mask=region)  # outside the slide it is transparent
            images.append(np.asarray(white.resize((args.tile, args.tile), Image.Resampling.BOX)))
        with torch.inference_mode():
            said = network(torch.from_numpy(np.stack(images))).numpy()
        for (x, y), one in zip(some, said, strict=True):
            top, left, bottom, right = max(y, 0), max(x, 0), min(y + args.tile, height), min(x + args.tile, width)
            sums[:, top:bottom, left:right] += one[:, top - y : bottom - y, left - x : right - x]
            weights[top:bottom, left:right] += 1
    labels = (sums / weights).argmax(0).astype(np.uint8)
    found = outlines(labels, args.classes, scale)
    (args.out / "outlines.geojson").write_text(json.dumps(found))
    np.save(args.out / "labels.npy", labels)
    print(json.dumps({"seconds": time.perf_counter() - start, "tiles": len(places), "objects": len(found["features"])}))


if __name__ == "__main__":
    main()
