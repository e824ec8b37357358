"""Stores whose pixels stay in the slide: where the slide is, and whether it is unchanged."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wsiseg.errors import ResolutionError, StoreError
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.reservation import Manifest

NOTE = "slide.json"


def refer(folder: Path, slide: Slide) -> None:
    """Keeps the slide's path beside the arrays, relative to the store and absolute."""
    place = Path(slide.path).resolve()
    paths = {"relative": os.path.relpath(place, folder.parent.resolve()), "absolute": str(place)}
    (folder / NOTE).write_text(json.dumps(paths, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def referred(store: Path, manifest: Manifest) -> Slide:
    """The slide of a store, opened as the store was made.

    Raises:
        StoreError: it is not there any more, or another slide is in its place
        SlideError: it cannot be opened
    """
    try:
        note = json.loads((store / NOTE).read_text(encoding="utf-8"))
        places = [store.parent / note["relative"], Path(note["absolute"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{store / NOTE} is damaged ({error}): tile the slide again.") from error
    found = next((p for p in places if p.exists()), None)
    if found is None:
        raise StoreError(
            f"{store} takes its pixels from {places[1]}, which is gone: put the slide back or tile the slide again."
        )
    level0 = manifest["level0"]
    how = {
        "backend": manifest["backend"],
        "scaled_decoding": manifest["scaled_decoding"],
        "series": manifest["slide"].get("series"),
    }
    try:
        slide = open_slide(found, **how)
    except ResolutionError:
        slide = open_slide(found, mpp=level0["mpp"], **how)
    if slide.frame.to_json() != level0:  # its own µm/px was overruled
        slide.close()
        slide = open_slide(found, mpp=level0["mpp"], **how)
    if dict(slide.identity) != manifest["slide"] or slide.frame.to_json() != level0:
        slide.close()
        raise StoreError(
            f"{found} is not the slide that {store} was made from: put that one back, or tile the slide again."
        )
    return slide
