"""The identity of a slide: name, size and a hash that is cheap even for many gigabytes.

The hash is SHA-256 over the size and over samples: the first and last 64 KiB and 64 pieces of 16 KiB, evenly spaced.
It tells slides apart and notices a file that was cut off or written again. It does not see a change of a few bytes
between two samples, nor of companion files other than those named here: a `.mrxs` counts the names and sizes of the
files in its folder; a folder (OME-Zarr) counts its JSON metadata in full, and the names and sizes of all chunks.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from wsiseg.errors import SlideError

END_BYTES = 64 * 1024
SAMPLE_BYTES = 16 * 1024
SAMPLES = 64


def identity_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a manifest keeps of a slide.

    Returns:
        {"name": file name, "size": bytes (of all files for a folder), "hash": "sha256:…"}

    Raises:
        SlideError: the file cannot be read.
    """
    place = Path(path)
    digest = hashlib.sha256()
    try:
        if place.is_dir():
            size = _add_folder(digest, place)
        else:
            size = place.stat().st_size
            _add_samples(digest, place, size)
            if place.suffix.lower() == ".mrxs" and place.with_suffix("").is_dir():
                size += _add_folder(digest, place.with_suffix(""))
    except OSError as error:
        raise SlideError(
            f"{place} cannot be read ({error.strerror or error}): check the file and its rights."
        ) from error
    return {"name": place.name, "size": size, "hash": f"sha256:{digest.hexdigest()}"}


def _add_samples(digest: Any, place: Path, size: int) -> None:
    digest.update(f"{size}:".encode())
    with place.open("rb") as file:
        if size <= 2 * END_BYTES + SAMPLES * SAMPLE_BYTES:
            digest.update(file.read())
            return
        digest.update(file.read(END_BYTES))
        for i in range(1, SAMPLES + 1):
            file.seek(i * size // (SAMPLES + 1))
            digest.update(file.read(SAMPLE_BYTES))
        file.seek(size - END_BYTES)
        digest.update(file.read(END_BYTES))


def _add_folder(digest: Any, folder: Path) -> int:
    """Names and sizes of all files, and what the JSON files say; returns the sum of the sizes."""
    total = 0
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        total += size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size};".encode())
        if file.suffix == ".json" or file.name in (".zattrs", ".zgroup", ".zarray"):
            digest.update(file.read_bytes())
    return total
