"""Open a slide: choose the backend for a file, and raise one clear sentence if none can read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wsiseg.errors import SlideError
from wsiseg.slides.backend import Backend, UnfitSlideError
from wsiseg.slides.crosscheck import disagreement
from wsiseg.slides.image import ImageBackend
from wsiseg.slides.ome_zarr import OmeZarrBackend
from wsiseg.slides.openslide import OpenSlideBackend
from wsiseg.slides.slide import Slide
from wsiseg.slides.tiff.backend import TiffBackend
from wsiseg.slides.tiff.layout import is_tiff, require_whole
from wsiseg.slides.tiffslide import TiffSlideBackend

BACKENDS: dict[str, Callable[[str, int | None], Backend]] = {
    "tiff": TiffBackend,
    "openslide": OpenSlideBackend,
    "tiffslide": TiffSlideBackend,
    "ome_zarr": OmeZarrBackend,
    "image": ImageBackend,
}

# The order in which backends are tried for whatever begins like a TIFF, for its name tells nothing about it
TIFF = ("tiff", "openslide", "tiffslide", "image")

# Suffix -> backends in the order in which they are tried. An SVS, NDPI and the like is never read as a plain image.
SUFFIXES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".tif", ".tiff", ".btf"), TIFF),
    **dict.fromkeys((".svs", ".qptiff"), TIFF[:-1]),
    **dict.fromkeys((".svslide", ".ndpi", ".scn", ".bif"), ("openslide", "tiff")),
    **dict.fromkeys((".vms", ".vmu", ".mrxs", ".czi", ".dcm"), ("openslide",)),
    "": ("openslide",),  # DICOM files often have no suffix
    ".zarr": ("ome_zarr",),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp"), ("image",)),
}

# First bytes -> what the file is, for the message
KINDS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"), (b"PK\3\4", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"), (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"), (b"\x89HDF", "an HDF5 file"), (b"<", "an XML or HTML text"),
    (b"{", "a JSON text"), (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)  # fmt: skip


def open_slide(
    path: str | os.PathLike[str],
    *,
    mpp: float | None = None,
    backend: str | None = None,
    scaled_decoding: bool = True,
    series: int | None = None,
) -> Slide:
    """Opens a slide.

    What the `tiff` backend reads is compared with OpenSlide on a few tiles, unless it was asked for by name.

    Args:
        path: a file, or the folder of an OME-Zarr image
        mpp: µm/px of level 0, both axes; wins over what the file states
        backend: a key of `BACKENDS`, to use that one and no other
        scaled_decoding: let the decoder shrink where the wanted µm/px lies between two levels, see `Slide`
        series: number of the image to read, in a file of several; the largest by default

    Returns:
        The slide; its `backend_name` says who reads it, its `notes` what a person should know about it and why earlier
        backends refused.

    Raises:
        SlideError: it is no slide, damaged, or of a kind that no backend reads.
        ResolutionError: nobody says how many µm a pixel is.
    """
    place = Path(path)
    refusals: list[str] = []
    for name in _candidates(place, backend):
        try:
            reader = BACKENDS[name](str(place), series)
        except UnfitSlideError as error:
            raise SlideError(f"{place.name} cannot be opened: {error}.") from error
        except SlideError as error:
            refusals.append(f"{name}: {error}")
            continue
        doubt = disagreement(reader) if backend is None and isinstance(reader, TiffBackend) else ""
        if doubt:
            reader.close()
            refusals.append(f"{name}: {doubt}")
            continue
        try:
            return Slide(reader, mpp, (*reader.notes, *refusals), scaled_decoding=scaled_decoding)
        except BaseException:
            reader.close()
            raise
    raise SlideError(f"{place.name} cannot be opened: {_diagnosis(place, '; '.join(refusals))}.")


def suffix_of(path: Path) -> str:
    """What a path's name ends with, in lower case: a key of `SUFFIXES` or no slide's ending."""
    return Path(path.name.lower()).suffix


def _candidates(place: Path, backend: str | None) -> tuple[str, ...]:
    if not place.exists():
        raise SlideError(f"There is no file {place}: check the path.")
    suffix, head = suffix_of(place), _head(place)
    if backend is not None:
        if backend not in BACKENDS:
            raise SlideError(f"There is no backend {backend!r}: choose one of {', '.join(BACKENDS)}.")
        names: tuple[str, ...] = (backend,)
    elif is_tiff(head) and "tiff" not in SUFFIXES.get(suffix, ()):
        names = TIFF
    elif suffix in SUFFIXES:
        names = SUFFIXES[suffix]
    else:
        known = " ".join(s for s in SUFFIXES if s)
        raise SlideError(
            f"{place.name} ends with {suffix!r}, which is not a slide format that wsiseg knows ({known}): "
            "rename it if its name is wrong, or name a backend."
        )
    if place.is_dir():
        if "ome_zarr" not in names:
            raise SlideError(f"{place} is a folder, not a slide: give the slide file itself (or an OME-Zarr folder).")
    elif names == ("ome_zarr",):
        raise SlideError(f"{place.name} is a file, but an OME-Zarr image is a folder: give that folder.")
    elif not head:
        raise SlideError(f"{place.name} is empty (0 bytes): copy it again from where it came.")
    return names


def _head(place: Path) -> bytes:
    """The first bytes of a file, nothing of a folder."""
    if place.is_dir():
        return b""
    try:
        with place.open("rb") as file:
            return file.read(132)
    except OSError as error:
        raise SlideError(f"{place} cannot be read ({error.strerror or error}): check its rights.") from error


def _diagnosis(place: Path, refusals: str) -> str:
    """Why no backend can read it, as the end of a sentence."""
    if place.is_dir():
        return refusals
    head = _head(place)
    if is_tiff(head):
        try:
            require_whole(str(place))
        except SlideError as damage:
            if str(damage).startswith("it is cut off"):
                return f"{damage}, so copy it again from where it came"
        return (
            f"it is a TIFF that cannot be read ({refusals}), so convert it to a tiled TIFF with a program that reads it"
        )
    if head[128:132] == b"DICM":
        return (
            f"it is a DICOM file, but no whole-slide image or a damaged one ({refusals}), so check where it came from"
        )
    kind = next((kind for start, kind in KINDS if head.startswith(start)), None)
    if kind and suffix_of(place) not in (".png", ".jpg", ".jpeg"):
        return f"it is {kind}, not a slide, so check the path"
    return f"it is not a slide, or a damaged one ({refusals}), so check the path or copy it again"
