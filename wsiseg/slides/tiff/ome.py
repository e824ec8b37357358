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
from wsiseg.slides.tiff.images import AXES, Pages, TiffImage, not_one_picture, pyramid, size_of, sub_pages

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
    found = [(image.get("Name", ""), _children(image, "Pixels")[:1]) for image in _children(root, "Image")]
    return tuple(_image(pixels, pages, name, root.get("UUID", "")) for name, own in found for pixels in own) or None


def _image(pixels: Element, pages: list[Any], name: str, uuid: str) -> TiffImage:
    size, stated = (_whole(pixels, "SizeX"), _whole(pixels, "SizeY")), from_ome(pixels)
    channels = _children(pixels, "Channel")
    planes = max(len(channels), 1)
    counts = [(_whole(pixels, f"Size{axis}", 1), AXES[axis]) for axis in "ZT"]
    colours = _whole(pixels, "SizeC", 1)
    if len(channels) < colours and not any(_whole(c, "SamplesPerPixel", 1) > 1 for c in channels):
        planes = colours
    if any(n > 1 for n, _ in counts):
        unfit = not_one_picture([(planes, AXES["C"]), *counts])
    elif said := _not_rgb(channels, planes):
        unfit = (
            f"{said}, not the red, green and blue of a picture, so export the channels that you need as one RGB picture"
        )
    elif (own := _directories(pixels, planes, uuid, pages)) is None:
        unfit = "parts of its image are missing or in other files, so copy all of them into one file"
    elif len({size_of(page) for page in own}) > 1 or (planes == 3 and any(int(p.samplesperpixel) != 1 for p in own)):
        unfit = "its directories are not the planes that its OME-XML describes, so it is damaged"
    else:
        below = [sub_pages(page) for page in own]
        alike = len({len(pages) for pages in below}) == 1
        levels, notes = pyramid(own, zip(*below, strict=True) if alike else ())
        if planes == 3 and not any(_named(channels)):
            notes += ("its three channels are taken as red, green and blue, though nothing says so",)
        real = size_of(own[0])
        if size != real:
            notes += (f"its OME-XML says {size[0]} × {size[1]} px, but it has {real[0]} × {real[1]} px",)
        return TiffImage(real, levels, name, stated=stated, notes=notes)
    return TiffImage(size, (), name, unfit, stated)


def _directories(pixels: Element, planes: int, uuid: str, pages: list[Any]) -> Pages | None:
    """The directory of each channel; None where one is missing or in another file."""
    found: dict[int, int] = {}
    for entry in _children(pixels, "TiffData") or [Element("TiffData")]:
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
    if not all(0 <= n < len(pages) for n in numbers) or len(set(numbers)) < planes:
        return None
    return tuple(pages[n] for n in numbers)


def _not_rgb(channels: list[Element], planes: int) -> str:
    """Why channels are not those of a picture in that many planes; empty where nothing speaks against it."""
    if planes not in (1, 3):
        return f"it has {planes} channels"
    for channel in channels:
        modes = {channel.get(key, "").lower() for key in ("ContrastMethod", "AcquisitionMode", "IlluminationType")}
        name = channel.get("Name") or channel.get("Fluor") or "without a name"
        dyed = channel.get("Fluor") or channel.get("EmissionWavelength") or DYES.search(name.lower())
        if dyed or modes & FLUORESCENT:
            return f"its channel {name[:40]!r} is fluorescence"
    if planes == 1:
        return ""
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
