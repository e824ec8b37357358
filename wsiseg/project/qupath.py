"""The slides of a QuPath project (.qpproj), as a JSON file of QuPath 0.2 to 0.7 lists them.

What was drawn lies in `data/*/data.qpdata`, in a format of Java's own that other programs cannot read: people export it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsiseg.errors import AnnotationError
from wsiseg.json_text import read_json


@dataclass(frozen=True, slots=True)
class ProjectSlide:
    """A slide of a project.

    Attributes:
        name: as QuPath shows it
        slide: its file, which may be missing
        mpp: µm/px that the project has for it; None where it has none
        drawn: whether QuPath has saved anything about it, annotations among that
    """

    name: str
    slide: Path
    mpp: float | None
    drawn: bool


def read_project(path: Path) -> list[ProjectSlide]:
    """The slides of a project.

    Where the project has been moved together with its slides, they are found relative to it, as QuPath does.

    Raises:
        AnnotationError: it is no project of QuPath
    """
    try:
        value = read_json(path)
        images, made_at = value["images"], _path_of(value.get("uri"))
        found = [_slide(image, path, made_at) for image in images]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AnnotationError(f"{path} is no project of QuPath that can be read: give a folder of slides.") from error
    return [slide for slide in found if slide is not None]


def _slide(image: dict[str, Any], project: Path, made_at: Path | None) -> ProjectSlide | None:
    server: Any = image["serverBuilder"]
    metadata = server.get("metadata") or {}
    while "uri" not in server and isinstance(server.get("builder"), dict):  # rotated, cropped and the like
        server = server["builder"]
        metadata = metadata or server.get("metadata") or {}
    place = _path_of(server.get("uri"))
    if place is None:
        return None
    if not place.exists():
        tries = [project.parent / place.name, project.parent.parent / place.name]
        if made_at is not None:
            tries.insert(0, project.parent / os.path.relpath(place, made_at.parent))
        place = next((path.resolve() for path in tries if path.exists()), place)
    data = project.parent / "data" / str(image.get("entryID")) / "data.qpdata"
    return ProjectSlide(str(image.get("imageName") or place.name), place, _mpp(metadata), data.exists())


def _mpp(metadata: dict[str, Any]) -> float | None:
    width = (metadata.get("pixelCalibration") or {}).get("pixelWidth") or {}
    value = width.get("value")
    is_um = width.get("unit") in ("µm", "um", "micron", "microns")
    return float(value) if is_um and isinstance(value, (int, float)) and value > 0 else None


def _path_of(uri: Any) -> Path | None:
    """The file that a URI names; None for anything else."""
    parts = urlsplit(uri) if isinstance(uri, str) else None
    return Path(unquote(parts.path)) if parts is not None and parts.scheme == "file" else None
