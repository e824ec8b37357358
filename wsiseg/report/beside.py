"""Results of other commands that lie beside the outlines of a slide, for its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsiseg.errors import MismatchError, StoreError
from wsiseg.qc.files import FLAGS
from wsiseg.report.quality import read_flags
from wsiseg.report.tables import read_measurements
from wsiseg.slides.slide import Slide


@dataclass(frozen=True, slots=True)
class Beside:
    """What was found; None where there is nothing, or only what is of another slide.

    Attributes:
        measurements: folder of `wsiseg measure`
        quality: folder of `wsiseg qc`
        evaluation: what `wsiseg evaluate --json` printed
    """

    measurements: Path | None = None
    quality: Path | None = None
    evaluation: Path | None = None


def find_beside(slide: Slide, outlines: Path) -> Beside:
    """Look beside the outlines, beside the slide and in the current folder, under the names that the commands give.

    These are `STEM-measurements`, `STEM-qc` and `STEM-evaluation.json`; and beside the outlines, as in the folder of a
    slide of `wsiseg run`, also `measurements`, `qc` and `evaluation.json`.
    """
    return Beside(
        next((p for p in _places(slide, outlines, "measurements") if _measured(p, slide)), None),
        next((p for p in _places(slide, outlines, "qc") if _examined(p, slide)), None),
        next((p for p in _places(slide, outlines, "evaluation.json") if _evaluated(p, slide)), None),
    )


def _places(slide: Slide, outlines: Path, name: str) -> Iterator[Path]:
    folders = dict.fromkeys([outlines.parent.absolute(), Path(slide.path).parent.absolute(), Path.cwd()])
    yield outlines.parent / name
    yield from (folder / f"{Path(slide.path).stem}-{name}" for folder in folders)


def _measured(folder: Path, slide: Slide) -> bool:
    if not (folder / "slides.csv").is_file():
        return False
    try:
        return read_measurements(folder).slides["slide"] == [slide.name]
    except StoreError:
        return False


def _examined(folder: Path, slide: Slide) -> bool:
    if not (folder / FLAGS).is_file():
        return False
    try:
        read_flags(folder, slide)
    except (StoreError, MismatchError):
        return False
    return True


def _evaluated(path: Path, slide: Slide) -> bool:
    try:
        return path.is_file() and slide.name in read_evaluation(path)["slides"]
    except StoreError:
        return False


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `wsiseg evaluate --json` printed into a file.

    Raises:
        StoreError: it is no such file
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: name a file that `wsiseg evaluate --json` made.") from error
    pooled = value.get("pooled") if isinstance(value, dict) else None
    if not isinstance(pooled, dict) or not isinstance(value.get("slides"), dict):
        raise StoreError(f"{path} is no evaluation: name a file that `wsiseg evaluate --json` made.")
    return value
