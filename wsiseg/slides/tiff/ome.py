"""The images of an OME-TIFF, as its XML has them (OME 2016-06, https://docs.openmicroscopy.org/ome-model/).

A plane of an image is a directory, and `TiffData` says which one. Only images of one plane are pictures: RGB in one
directory, or red, green and blue in one directory each. tifffile reads this XML too, but it follows names to other
files and fills planes that are missing with black.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from wsiseg.slides.resolution import from_ome
from wsiseg.slides.tiff.images import AXES, TiffImage, is_mask, not_one_picture, pyramid, size_of, sub_pages

# Names that say nothing, or that say red, green and blue
NUMBERED = re.compile(r"(channel|ch|c)?[\s:_#-]*\d*(:\d+)?")
RGB_NAMES = (("red", "r"), ("green", "g"), ("blue", "b"))
RGB_COLOURS = (0xFF0000, 0x00FF00, 0x0000FF)
MOST_DIGITS = 12
UNSAID = 0xFFFFFF  # the colour of a channel that states none
FLUORESCENT = {"fluorescence", "epifluorescence", "laserscanningconfocalmicroscopy", "spinningdiskconfocal"}
DYES = re.compile(
    r"dapi|hoechst|draq|fitc|tritc|texas|rhodamine|alexa|atto|opal|cy\s?[2357]|af\s?\d{3}|[gryc]fp|m?cherry|autofluor|sybr"
)


def ome_images(tiff: Any) -> tuple[TiffImage, ...] | None:
    """The images of an open tifffile.TiffFile; None where it is not an OME-TIFF, or its XML is damaged."""
    text = tiff.pages[0].description or ""
    if "<OME" not in text[:100_000]:
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    pages = list(tiff.pages)
    uuid = root.get("UUID", "")
    images = _children(root, "Image")
    found = [
        _image(pixels, pages, image.get("Name", ""), uuid)
        for image in images
        for pixels in _children(image, "Pixels")[:1]
    ]
    return tuple(found) or None


def _image(pixels: Element, pages: list[Any], name: str, uuid: str) -> TiffImage:
    size, stated = (_whole(pixels, "SizeX"), _whole(pixels, "SizeY")), from_ome(pixels)
    channels = _children(pixels, "Channel")
    planes = max(len(channels), 1)
    counts = [(_whole(pixels, f"Size{axis}", 1), AXES[axis]) for axis in "ZT"]
    colours = _whole(pixels, "SizeC", 1)
    if len(channels) < colours and not any(_whole(c, "SamplesPerPixel", 1) > 1 for c in channels):
        planes = colours

    def unfit(why: str) -> TiffImage:
        return TiffImage(size, (), name, why, stated)

    if any(n > 1 for n, _ in counts):
        return unfit(not_one_picture([(planes, AXES["C"]), *counts]))
    if planes not in (1, 3):
        return unfit(_fluorescence(f"it has {planes} channels"))
    if said := _not_rgb(channels) if planes == 3 else _fluorescent(channels):
        return unfit(_fluorescence(said))
    numbers = _directories(pixels, planes, uuid, len(pages))
    if numbers is None:
        return unfit("parts of its image are missing or in other files, so copy all of them into one file")
    own = tuple(pages[n] for n in numbers)
    if len({size_of(page) for page in own}) > 1 or (planes == 3 and any(int(p.samplesperpixel) != 1 for p in own)):
        return unfit("its directories are not the planes that its OME-XML describes, so it is damaged")
    below = [[page for page in sub_pages(page) if not is_mask(page)] for page in own]
    if len({len(pages) for pages in below}) > 1:
        below = [[] for _ in own]
    levels, notes = pyramid(own, zip(*below, strict=True))
    if planes == 3 and not any(_named(channels)):
        notes += ("its three channels are taken as red, green and blue, though nothing says so",)
    if size != size_of(own[0]):
        notes += (
            f"its OME-XML says {size[0]} × {size[1]} px, but it has {size_of(own[0])[0]} × {size_of(own[0])[1]} px",
        )
    return TiffImage(size_of(own[0]), levels, name, stated=stated, notes=notes)


def _directories(pixels: Element, planes: int, uuid: str, count: int) -> list[int] | None:
    """The number of the directory of each channel; None where one is missing or in another file."""
    found: dict[int, int] = {}
    entries = _children(pixels, "TiffData") or [Element("TiffData")]
    for entry in entries:
        for other in _children(entry, "UUID"):
            if other.text and uuid and other.text.strip() != uuid:
                return None
        first, start = _whole(entry, "FirstC"), _whole(entry, "IFD")
        if _whole(entry, "FirstZ") or _whole(entry, "FirstT"):
            continue
        length = _whole(entry, "PlaneCount", 1 if entry.get("IFD") is not None else planes)
        for i in range(min(length, planes)):
            found.setdefault(first + i, start + i)
    numbers = [found.get(channel, -1) for channel in range(planes)]
    return numbers if all(0 <= n < count for n in numbers) and len(set(numbers)) == planes else None


def _not_rgb(channels: list[Element]) -> str:
    """Why three channels are not red, green and blue; empty where nothing speaks against it."""
    if said := _fluorescent(channels):
        return said
    names = [(c.get("Name") or "").strip().lower() for c in channels]
    right = all(name in rgb for name, rgb in zip(names, RGB_NAMES, strict=False))
    if not right and not all(NUMBERED.fullmatch(name) for name in names):
        return f"its channels are {', '.join(c.get('Name') or 'one without a name' for c in channels)[:120]}"
    colours = [_colour(c) for c in channels]
    if any(colour != UNSAID for colour in colours) and colours != list(RGB_COLOURS):
        return "it has 3 channels, whose colours are not red, green and blue"
    return ""


def _named(channels: list[Element]) -> list[bool]:
    """Of each channel, whether a name or a colour says which one it is."""
    return [
        (c.get("Name") or "").strip().lower() in rgb or _colour(c) == colour
        for c, rgb, colour in zip(channels, RGB_NAMES, RGB_COLOURS, strict=False)
    ]


def _fluorescent(channels: list[Element]) -> str:
    """Why channels are those of a fluorescence microscope; empty where nothing says so."""
    for channel in channels:
        modes = {channel.get(key, "").lower() for key in ("ContrastMethod", "AcquisitionMode", "IlluminationType")}
        name = channel.get("Name") or channel.get("Fluor") or "without a name"
        if (
            channel.get("Fluor")
            or channel.get("EmissionWavelength")
            or modes & FLUORESCENT
            or DYES.search(name.lower())
        ):
            return f"its channel {name[:40]!r} is fluorescence"
    return ""


def _fluorescence(said: str) -> str:
    return f"{said}, not the red, green and blue of a picture, so export the channels that you need as one RGB picture"


def _colour(channel: Element) -> int:
    """RGB of a channel: OME keeps RGBA as one signed number."""
    try:
        return int(channel.get("Color", "-1")) >> 8 & 0xFFFFFF
    except ValueError:
        return UNSAID


def _whole(element: Element, key: str, default: int = 0) -> int:
    """A whole number, of so many digits at most; the default where there is none."""
    text = element.get(key, "").strip()
    return int(text[:MOST_DIGITS]) if text.isascii() and text.isdigit() else default


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if child.tag.rpartition("}")[2] == name]
