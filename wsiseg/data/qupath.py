"""The images of a QuPath project (.qpproj), the JSON file of QuPath 0.2 to 0.8.

What was drawn lies in `data/*/data.qpdata`, in a format of Java's own that other programs cannot read: people export it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsiseg.errors import RecipeError
from wsiseg.json_text import read_json


@dataclass(frozen=True, slots=True)
class ProjectSlide:
    """An image of a project.

    Attributes:
        name: as QuPath shows it
        slide: its file, which may be missing; None where the image does not come from a file
        uri: where the project says that it is
        changed: what QuPath does to the file, such as "rotated"; its coordinates are then not those of the file
        mpp: µm/px that the project has for it, perhaps from a person; None where it has none or pixels are not square
        drawn: whether QuPath has saved anything about it, annotations among that
    """

    name: str
    slide: Path | None
    uri: str
    changed: str
    mpp: float | None
    drawn: bool


def read_project(path: Path) -> list[ProjectSlide]:
    """The images of a project.

    Where the project has been moved together with its slides, they are found relative to it, as QuPath does.

    Raises:
        RecipeError: it cannot be read, or is no project of QuPath
    """
    try:
        project = read_json(path)
        images, made_at = project["images"], _path_of(project.get("uri"))
        return [_image(image, path, made_at) for image in images]
    except OSError as error:
        raise RecipeError(f"The QuPath project {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{path} is not a QuPath project that wsiseg can read: save it in QuPath again, or give the slides themselves."
        ) from error


def _image(image: dict[str, Any], project: Path, made_at: Path | None) -> ProjectSlide:
    server: Any = image["serverBuilder"]
    kind = str(server.get("builderType", "uri"))
    metadata = server.get("metadata") or {}
    while "uri" not in server and isinstance(server.get("builder"), dict):
        server = server["builder"]
        metadata = metadata or server.get("metadata") or {}
    uri = str(server.get("uri", ""))
    place = _path_of(uri)
    if place is not None and not place.exists():
        tries = [project.parent / place.name, project.parent.parent / place.name]
        if made_at is not None:
            tries.insert(0, project.absolute().parent / os.path.relpath(place, made_at.parent))
        place = next((path.resolve() for path in tries if path.exists()), place)
    data = project.parent / "data" / str(image.get("entryID")) / "data.qpdata"
    name = str(image.get("imageName") or (place.name if place is not None else "?"))
    return ProjectSlide(name, place, uri, "" if kind == "uri" else kind, _mpp(metadata), data.exists())


def _mpp(metadata: dict[str, Any]) -> float | None:
    calibration = metadata.get("pixelCalibration") or {}
    width = calibration.get("pixelWidth") or {}
    value, is_um = width.get("value"), width.get("unit") in ("µm", "um", "micron", "microns")
    square = (calibration.get("pixelHeight") or width) == width
    return float(value) if square and is_um and isinstance(value, (int, float)) and value > 0 else None


def _path_of(uri: Any) -> Path | None:
    """The file that a URI names; None for anything else."""
    parts = urlsplit(uri) if isinstance(uri, str) else None
    return Path(unquote(parts.path)) if parts is not None and parts.scheme == "file" else None
