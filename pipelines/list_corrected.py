"""From the results of `wsiseg run` and a person's corrections to a slide list for training.

    python pipelines/list_corrected.py --results results --out runs/corrected/slides.csv
    python pipelines/list_corrected.py --results results --corrected exported --out runs/corrected/slides.csv

takes for each finished slide of results/ the newest of

    exported/NAME.geojson (or .geojson.gz, .json)             what QuPath exported
    results/slides/NAME/outlines.reviewed.geojson             what `wsiseg view` keeps of a review

and leaves slides without either out: what nobody has looked at is no truth. Of every five patients one is kept for
validation, chosen by the hash of its name, so that it stays on its side when more slides are corrected.
"""

from __future__ import annotations

import argparse
import json
import sys
from hashlib import sha256
from pathlib import Path

from wsiseg.annotations.formats import read_annotations
from wsiseg.data.slides import SlideEntry, write_slides
from wsiseg.errors import RecipeError, WsisegError

ENDINGS = (".geojson", ".geojson.gz", ".json")
KEPT = 5  # of so many patients one is kept


def corrections(name: str, results: Path, corrected: Path | None) -> Path | None:
    """The newest annotations of a slide that a person has corrected."""
    places = [results / "slides" / name / "outlines.reviewed.geojson"]
    places += [corrected / f"{name}{ending}" for ending in ENDINGS] if corrected is not None else []
    found = [path for path in places if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def side(patient: str) -> str:
    """The side of the split that a patient is on, now and later."""
    return "validation" if int(sha256(patient.encode()).hexdigest(), 16) % KEPT == 0 else "train"


def rows(results: Path, corrected: Path | None) -> list[SlideEntry]:
    """The lines of the slide list.

    Raises:
        RecipeError: there is no run, or nothing of it was corrected
        AnnotationError: a corrected file cannot be read
    """
    try:
        slides = json.loads((results / "run.json").read_text(encoding="utf-8"))["slides"]
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(f"{results} holds no results of `wsiseg run` ({error}): name its --out.") from error
    found = []
    for facts in slides:
        annotations = corrections(facts["name"], results, corrected)
        if facts["state"] == "failed" or annotations is None:
            continue
        read_annotations(annotations)  # now, and not in the middle of training
        patient = facts.get("patient") or facts["name"]
        found.append(SlideEntry(Path(facts["path"]), annotations.absolute(), patient, side(patient), facts.get("mpp")))
    if not found:
        raise RecipeError("No slide of this run was corrected: export from QuPath, or review with wsiseg view.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="A slide list of corrected predictions.")
    parser.add_argument("--results", type=Path, required=True, help="the --out of wsiseg run")
    parser.add_argument("--corrected", type=Path, help="folder with what QuPath exported, as NAME.geojson")
    parser.add_argument("--out", type=Path, required=True, help="the slide list to write (.csv)")
    args = parser.parse_args()
    listed = rows(args.results, args.corrected)
    write_slides(args.out, listed)
    counts = {split: sum(row.split == split for row in listed) for split in ("train", "validation")}
    print(f"{args.out}: {counts['train']} slides to learn from, {counts['validation']} to watch")


if __name__ == "__main__":
    try:
        main()
    except WsisegError as error:
        sys.exit(str(error))
