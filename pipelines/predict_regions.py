"""Gives every slide of a list outlines to learn within: its own, or those that a model predicts.

    python pipelines/predict_regions.py --slides slides.csv --model RUN/model --out slides-within.csv

For each slide without outlines the model's are written beside the new list as NAME.regions.geojson, and named in its
column `roi`, where a recipe with `data.roi` looks for them. Slides on which the model finds nothing are left out.
What is there already is kept: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from wsiseg.bundle import load_bundle
from wsiseg.data.slides import read_slides
from wsiseg.errors import WsisegError
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.slides.open import open_slide


def run(slides: Path, root: Path | None, model: Path, out: Path) -> None:
    """Write the list `out`, and the outlines that it names."""
    bundle = load_bundle(model)
    engine = make_engine(bundle)
    rows = []
    for row in read_slides(slides, root):
        roi = ""
        if row.annotations is None:
            file = out.parent / f"{row.name}.regions.geojson"
            with open_slide(row.slide, mpp=row.mpp, scaled_decoding=bundle.usage.scaled_decoding) as slide:
                found = predict_slide(slide, bundle, engine, PredictOptions(file))
            print(f"{row.name}: {found.objects} outlines", flush=True)
            if not found.objects:
                continue
            roi = file.name
        places = [os.path.relpath(p, out.parent) if p else "" for p in (row.slide, row.annotations)]
        rows.append((*places, row.patient, row.split, "" if row.mpp is None else row.mpp, roi))
    with out.open("w", newline="", encoding="utf-8") as file_:
        writer = csv.writer(file_, lineterminator="\n")
        writer.writerow(("slide", "annotations", "patient", "split", "mpp", "roi"))
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=Path, required=True, help="the list of slides")
    parser.add_argument("--root", type=Path, help="folder that the list's paths start from (default: the list's)")
    parser.add_argument("--model", type=Path, required=True, help="the bundle")
    parser.add_argument("--out", type=Path, required=True, help="the new list")
    args = parser.parse_args()
    run(args.slides, args.root, args.model, args.out)


if __name__ == "__main__":
    try:
        main()
    except WsisegError as error:
        print(f"predict_regions: {error}", file=sys.stderr)
        sys.exit(2)
