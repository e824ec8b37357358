"""The slides of a run: a pattern of file names, a slide list, or a QuPath project."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.errors import RecipeError


def list_slides(slides: str) -> tuple[SlideEntry, ...]:
    """The slides of a run, in the order of their names' first appearance.

    Args:
        slides: a pattern such as "slides/*.svs", a .csv (`wsiseg.data.slides`), or a QuPath project (.qpproj)

    Raises:
        RecipeError: there is no such list, it is not a list, or two slides have the same name
        SplitError: a slide is listed twice
    """
    suffix = Path(slides).suffix.lower()
    if suffix == ".csv":
        entries = [entry.absolute() for entry in read_slides(Path(slides), present=False)]
    elif suffix == ".qpproj":
        entries = _from_project(Path(slides))
    else:
        entries = [SlideEntry(Path(path).absolute()) for path in sorted(glob.glob(slides, recursive=True))]
        if not entries:
            raise RecipeError(f"No slide matches {slides!r}: put the pattern in quotes, as in --slides 'slides/*.svs'.")
    _check_names(entries)
    return tuple(entries)


def _from_project(path: Path) -> list[SlideEntry]:
    """The images of a QuPath project, as QuPath 0.2 to 0.8 writes it: JSON with `images[].serverBuilder.uri`."""
    try:
        project = json.loads(path.read_text(encoding="utf-8"))
        images, before = project["images"], project.get("uri")
        entries = [_of_image(image, path, None if before is None else _path(before)) for image in images]
    except OSError as error:
        raise RecipeError(f"The QuPath project {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{path} is not a QuPath project that wsiseg can read: save it in QuPath again, or give a CSV."
        ) from error
    if not entries:
        raise RecipeError(f"The QuPath project {path} has no images: add some in QuPath, or give a CSV.")
    return list(dict.fromkeys(entries))  # several images of one file are one slide here


def _of_image(image: Any, project: Path, before: Path | None) -> SlideEntry:
    builder, name = image["serverBuilder"], str(image.get("imageName", "?"))
    kind, uri = builder.get("builderType", "uri"), str(builder.get("uri", ""))
    fault = ""
    if kind != "uri" or not uri:
        fault = f"In QuPath it is {kind!r} and no plain file: list the file itself."
    elif urlsplit(uri).scheme != "file":
        fault = f"It is at {uri}, and slides are read from files alone: list a file."
    if fault:
        return SlideEntry(Path(name), fault=fault)
    path = _path(uri)
    if before is not None and not path.exists() and path.is_relative_to(before.parent):
        path = project.absolute().parent / path.relative_to(before.parent)  # the project was moved with its slides
    return SlideEntry(path, mpp=_mpp(builder.get("metadata", {}).get("pixelCalibration", {})))


def _path(uri: str) -> Path:
    return Path(url2pathname(unquote(urlsplit(uri).path) if "%" in uri else urlsplit(uri).path))


def _mpp(calibration: Any) -> float | None:
    """µm/px as QuPath knows it, perhaps from a person; None where pixels are not square or not calibrated."""
    sizes = [calibration.get(side, {}) for side in ("pixelWidth", "pixelHeight")]
    if all(size.get("unit") in ("µm", "um") for size in sizes) and sizes[0]["value"] == sizes[1]["value"]:
        return float(sizes[0]["value"])
    return None


def _check_names(entries: Iterable[SlideEntry]) -> None:
    seen: dict[str, Path] = {}
    for entry in entries:
        if seen.setdefault(entry.name, entry.slide) != entry.slide:
            raise RecipeError(
                f"{seen[entry.name]} and {entry.slide} would both go to the folder {entry.name!r}: "
                "rename one, or run them with different --out."
            )
