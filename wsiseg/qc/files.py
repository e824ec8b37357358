"""Write the results of quality control: `flags.json`, `artefacts.geojson` and `picture.png` in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg import __version__
from wsiseg.annotations.formats import write_annotations
from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import OutputError
from wsiseg.pictures import paint, save_picture
from wsiseg.qc.examine import Quality
from wsiseg.selection.artefacts import CLASSES, RULES, Artefacts
from wsiseg.slides.slide import Slide

FLAGS, ARTEFACTS, PICTURE = "flags.json", "artefacts.geojson", "picture.png"
LONGEST_PX = 2000  # of the picture


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check, before the slide is read, that results can be written into a folder; OutputError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: choose a folder for the results.")
    there = [name for name in (FLAGS, ARTEFACTS, PICTURE) if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} holds {', '.join(there)} already: choose another folder, or use --overwrite.")


def as_json(slide: Slide, quality: Quality) -> dict[str, Any]:
    """The content of `flags.json`."""
    return {
        "kind": "quality",
        "version": __version__,
        "slide": dict(slide.identity),
        "level0": slide.frame.to_json(),
        "rules": RULES,
        "flags": [flag.to_json() for flag in quality.flags],
    }


def write_quality(folder: Path, slide: Slide, quality: Quality) -> None:
    """Write all three files; each appears whole or not at all, and the flags last.

    Raises:
        OutputError: the place cannot be written
    """
    about = as_json(slide, quality)
    origin = {"wsiseg": {**about, "classes": CLASSES.to_json()}}
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_picture(folder / PICTURE, picture_of(quality.artefacts))
    write_annotations(folder / ARTEFACTS, quality.artefacts.polygons(), classes=CLASSES, properties=origin)
    with atomic_write(folder / FLAGS) as sink:
        sink.write(json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")


def picture_of(artefacts: Artefacts) -> NDArray[np.uint8]:
    """uint8 (h, w, 3): the slide with its artefacts in the classes' colours; pixels are skipped where it is large."""
    picture, labels = artefacts.picture, artefacts.labels
    step = -(-max(labels.shape) // LONGEST_PX)
    return paint(picture[::step, ::step], labels[::step, ::step], CLASSES)
