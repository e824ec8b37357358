"""Gives every slide of a list regions of interest: its annotations, or the objects that a model predicts.

    python pipelines/predict_regions.py --slides slides.csv --model RUN/model --out slides-roi.csv

The objects of a slide without annotations are written beside the new list as NAME.roi.geojson, and named in its column
`roi`, where a recipe with `data.roi` looks for them. Slides on which the model finds nothing are left out. Files that
exist are kept, so the same command continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from wsiseg.bundle import load_bundle
from wsiseg.data.slides import read_slides, write_slides
from wsiseg.errors import WsisegError
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.slides.open import open_slide


def run(slides: Path, root: Path | None, model: Path, out: Path) -> None:
    """Write the list `out`, and the files that its column `roi` names."""
    bundle = load_bundle(model)
    engine = make_engine(bundle)
    entries = []
    for entry in read_slides(slides, root):
        if entry.annotations is None:
            roi = out.parent / f"{entry.name}.roi.geojson"
            scaled = bundle.usage.scaled_decoding
            with open_slide(entry.slide, mpp=entry.mpp, scaled_decoding=scaled, series=entry.series) as slide:
                found = predict_slide(slide, bundle, engine, PredictOptions(roi))
            print(f"{entry.name}: {found.objects} objects", flush=True)
            if not found.objects:
                continue
            entry = replace(entry, roi=roi)
        entries.append(entry)
    write_slides(out, entries)


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
