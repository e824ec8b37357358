"""Generated kidney slides with exact annotations, to train, test and show with.

    python pipelines/make_demo_slides.py --out demo --slides 16 --first-seed 100

writes, for every slide,

    slide-000.svs       pyramidal JPEG TIFF, 5 × 4 mm at 1 µm/px unless told otherwise
    slide-000.geojson   polygons of "Glomerulus" and "Sclerotic glomerulus", as QuPath reads them; with --nuclei also
                        of "Podocyte" and "Non-podocyte nucleus"
    slides.csv          slide, annotations, patient, split; the split is train, validation or test. With --labelled N
                        the training slides after the first N are listed without their annotations

Seeds run from `--first-seed` on, one per slide, and every slide is its own patient. Stains alternate between H&E and
PAS unless `--stain` names one; strength and colour, folds, pen marks and defocus follow from the seed. A slide that
is already there is drawn again. About a sixth of the slides is kept for validation and a sixth for testing, at least
one of each from three slides on.

The same seed gives the same slide at every `--mpp`: take other seeds for slides on which a trained model is shown.
Figures from generated slides say nothing about real kidneys.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from itertools import chain
from pathlib import Path

from wsiseg.annotations.formats import write_annotations
from wsiseg.errors import WsisegError
from wsiseg.synthetic import CLASSES, SlideSpec, generate, write_slide


def split_of(index: int, slides: int) -> str:
    """The side of the split of a slide: the last sixth tests, the sixth before validates."""
    held = max(1, round(slides / 6)) if slides >= 3 else 0
    if index >= slides - held:
        return "test"
    return "validation" if index >= slides - 2 * held else "train"


def main() -> None:
    parser = argparse.ArgumentParser(description="Generated kidney slides with exact annotations.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the slides; made when absent")
    parser.add_argument("--slides", type=int, default=16, help="how many (default 16)")
    parser.add_argument("--first-seed", type=int, default=100, help="seed of the first slide (default 100)")
    parser.add_argument("--mpp", type=float, default=1.0, help="µm per pixel (default 1.0)")
    parser.add_argument("--size-mm", default="5x4", help="width x height in mm (default 5x4)")
    parser.add_argument("--stain", choices=("he", "pas"), help="one stain for all (default: alternating)")
    parser.add_argument("--nuclei", action="store_true", help="annotate the nuclei too")
    parser.add_argument("--labelled", type=int, help="list annotations of so many training slides only (default: all)")
    parser.add_argument("--quality", type=int, default=80, help="JPEG quality (default 80)")
    args = parser.parse_args()
    try:
        width_mm, height_mm = (float(side) for side in args.size_mm.lower().split("x"))
    except ValueError:
        parser.error(f"--size-mm {args.size_mm!r} is not a size: write width x height in mm, for example 5x4.")
    if args.slides < 1:
        parser.error(f"--slides {args.slides} makes nothing: give 1 or more.")

    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(args.slides):
        seed, start = args.first_seed + index, time.perf_counter()
        stain = args.stain or ("he", "pas")[index % 2]
        slide = generate(SlideSpec(seed, 1000 * width_mm, 1000 * height_mm, stain, args.mpp))
        name = f"slide-{index:03d}"
        write_slide(slide, args.out / f"{name}.svs", quality=args.quality)
        write_annotations(
            args.out / f"{name}.geojson",
            chain(slide.truth, slide.nuclei()) if args.nuclei else slide.truth,
            classes=CLASSES,
            properties={"slide": f"{name}.svs", "origin": "generated", "seed": seed, "stain": stain},
        )
        split = split_of(index, args.slides)
        hidden = args.labelled is not None and split == "train" and index >= args.labelled
        rows.append((f"{name}.svs", "" if hidden else f"{name}.geojson", f"generated-{seed}", split))
        counts = [sum(region.label == label for region in slide.truth) for label in CLASSES.names[1:3]]
        seconds = time.perf_counter() - start
        print(f"{name}.svs: {stain}, {counts[0]} glomeruli, {counts[1]} sclerotic, {seconds:.1f} s", flush=True)

    with open(args.out / "slides.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("slide", "annotations", "patient", "split"))
        writer.writerows(rows)


if __name__ == "__main__":
    try:
        main()
    except WsisegError as error:
        sys.exit(str(error))
