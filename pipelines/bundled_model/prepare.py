"""The material that the bundled model of glomeruli learns from, as arrays at 1 µm/px.

    python pipelines/bundled_model/prepare.py --section hubmap-section-1.svs --other CMU-1-Small-Region.svs \
        --slides 40 --out runs/bundled-model/material

writes one folder per source into --out:

    image.npy    (h, w, 3) uint8
    label.npy    (h, w) uint8: 0 background, 1 glomerulus, 2 sclerotic glomerulus, 255 no statement
    source.json  kind, stains and white of the source

The section (HuBMAP, MIT; its annotations lie beside it under the same name) is split by place: the network learns from
what lies left of SPLIT_PX, a strip of GAP_PX is used for nothing, and what lies right of both is kept out for the
evaluation: `kept-out.geojson` has its annotations and `kept-out-roi.geojson` where to predict and to compare.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba import njit
from shapely import box as rectangle
from wild_stain import wild_bath

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.data.randomise import palette_of
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.synthetic.anatomy import GLOMERULUS, SCLEROTIC
from wsiseg.synthetic.locate import where
from wsiseg.synthetic.paint import tuft_depth
from wsiseg.synthetic.slide import SlideSpec, generate

MPP = 1.0
CLASSES = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
SPLIT_PX, GAP_PX = 12000, 400  # level-0 px of the section, along x
TUFT_UM, SPACE_UM = 4.0, 12.0  # how far around a generated tuft is a glomerulus, and from where on it is none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--section", type=Path, required=True, help="hubmap-section-1.svs")
    parser.add_argument("--other", type=Path, help="a slide without any kidney: background all over")
    parser.add_argument("--slides", type=int, default=40, help="generated slides")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--side-um", type=float, default=2600)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "section" / "source.json").exists():
        section(args.section, args.out)
    if args.other is not None and not (args.out / "other" / "source.json").exists():
        with open_slide(args.other) as slide:
            frame = slide.frame.at(MPP)
            pixels = slide.read(frame.box, frame)
        keep(args.out / "other", "other", pixels, np.zeros(pixels.shape[:2], np.uint8))
    for seed in range(args.first_seed, args.first_seed + args.slides):
        folder = args.out / f"generated-{seed}"
        if not (folder / "source.json").exists():
            generated(seed, args.side_um, folder)
            print(folder, flush=True)


def section(path: Path, out: Path) -> None:
    """The left part of the section to learn from, the annotations of the right part to judge by."""
    regions = [r for r in read_annotations(path.with_suffix(".geojson")).polygons if r.label]
    covered = read_annotations(path.with_name(f"{path.stem}.covered.geojson")).polygons
    with open_slide(path) as slide:
        level0 = slide.frame
        frame = level0.at(MPP)
        part = Box(0, 0, math.floor(SPLIT_PX * level0.mpp / MPP), frame.height)
        pixels = slide.read(part, frame)
    labels = Rasteriser(regions, CLASSES, frame, level0).read(part)
    named = [replace(r, label=CLASSES.names[1]) for r in covered]
    labels[Rasteriser(named, CLASSES, frame, level0).read(part) == 0] = IGNORE
    keep(out / "section", "section", pixels, labels)
    right = rectangle(SPLIT_PX + GAP_PX, 0, level0.width, level0.height)
    kept = [replace(r, polygon=r.polygon.intersection(right)) for r in regions if r.polygon.intersects(right)]
    write_annotations(out / "kept-out.geojson", [r for r in kept if r.polygon.geom_type == "Polygon"], classes=CLASSES)
    write_annotations(out / "kept-out-roi.geojson", [LabelledPolygon(right, "Glomerulus")], classes=CLASSES)
    print(f"{sum(r.polygon.bounds[2] < SPLIT_PX for r in regions)} glomeruli to learn from, {len(kept)} kept out")


def generated(seed: int, side_um: float, folder: Path) -> None:
    """One generated slide in colours that no laboratory has."""
    rng = np.random.default_rng(seed)
    stain = "pas" if seed % 3 == 0 else "he"
    slide = generate(SlideSpec(seed, side_um, side_um, stain, MPP, thickness_um=float(rng.uniform(1, 6))))
    slide._bath = wild_bath(rng, stain)
    pixels = slide.read(slide.frame.box, slide.frame)
    labels = np.zeros(slide.frame.box.shape, np.uint8)
    _labels(labels, slide._world, MPP)
    keep(folder, "generated", pixels, labels)


@njit(cache=True, nogil=True)
def _labels(out, w, um):  # type: ignore[no-untyped-def]
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x, y = (c + 0.5) * um, (r + 0.5) * um
            kind, _, i = where(x, y, w)
            if kind == SCLEROTIC:
                out[r, c] = 2
            elif kind == GLOMERULUS:
                depth = tuft_depth(x, y, w.profiles[i], w)
                if depth > -TUFT_UM:
                    out[r, c] = 1
                elif depth > -SPACE_UM:
                    out[r, c] = IGNORE


def keep(folder: Path, kind: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Write one source; source.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", pixels)
    np.save(folder / "label.npy", labels)
    known = pixels[labels != IGNORE]
    palette = palette_of(known[:: max(1, len(known) // 40000)])
    about = {"kind": kind, "mpp": MPP, "white": palette.white.tolist(), "stains": palette.stains.tolist()}
    (folder / "source.json").write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    main()
