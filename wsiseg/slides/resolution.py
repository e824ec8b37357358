"""µm per pixel, from the places where files state it, and whether to believe it.

A scanner's own header (Aperio MPP, DICOM pixel spacing, OME physical size, NDPI, …) is believed whatever it says. The
plain resolution of a TIFF, PNG or JPEG is not written for measuring: programs put 72, 96, 300 or 600 dpi there, which
would be 353, 265, 85 and 42 µm/px. It is believed from 0.05 to 20 µm/px (508,000 down to 1,270 dpi) and otherwise
treated as missing.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

from wsiseg.errors import ResolutionError

Resolution = tuple[tuple[float, float] | None, str]  # (µm/px along x and y, or None; why a stated one is not believed)

FINEST, COARSEST = 0.05, 20.0

# OME-XML and OME-Zarr unit names -> µm
MICROMETRES = {
    "µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4,
    "m": 1e6, "meter": 1e6, "pm": 1e-6, "picometer": 1e-6, "angstrom": 1e-4, "Å": 1e-4,
    "inch": 25400.0, "in": 25400.0, "\\u00B5m": 1.0,
}  # fmt: skip

# TIFF 6.0 ResolutionUnit (2 inch, 3 centimetre; 4 and 5 are extensions) -> µm
TIFF_UNITS = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}


def chosen(header: tuple[float, float] | None, doubt: str, override: float | None, name: str) -> tuple[float, float]:
    """What counts: the person's word, else the header's.

    Raises:
        ResolutionError: there is neither, or the person's word is no resolution.
    """
    if override is not None:
        if not (math.isfinite(override) and override > 0):
            raise ResolutionError(f"{override} is no resolution: --mpp takes a number of µm/px above 0, such as 0.25.")
        return override, override
    if header is None:
        why = f" ({doubt})" if doubt else ""
        raise ResolutionError(
            f"{name} does not say how many µm a pixel is{why}: give it with --mpp, for instance --mpp 0.25."
        )
    return header


def stated(x: Any, y: Any) -> Resolution:
    """What a scanner's header says: either number may be missing and is then taken from the other."""
    values = [_positive(v) for v in (x, y)]
    along_x, along_y = values[0] or values[1], values[1] or values[0]
    return (None if along_x is None or along_y is None else (along_x, along_y)), ""


def plain(x: float | None, y: float | None) -> Resolution:
    """The µm/px that the resolution fields of an ordinary image come to, if they are plausible."""
    mpp, _ = stated(x, y)
    if mpp is None or all(FINEST <= v <= COARSEST for v in mpp):
        return mpp, ""
    dpi = 25400 / mpp[0]
    return None, f"its resolution field says {mpp[0]:.4g} µm/px ({dpi:.0f} dpi), which no microscope wrote"


def from_tiff(page: Any) -> Resolution:
    """Of a tifffile page: the OME-XML or ImageJ description if there is one, else the resolution tags."""
    description = page.description or ""
    if "<OME" in description:
        return from_ome_xml(description)
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, ""
    per_unit = [_ratio(tags[name].value) for name in ("XResolution", "YResolution")]
    if description.startswith("ImageJ="):
        fields = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
        unit = MICROMETRES.get(fields.get("unit", ""))
        return stated(*(unit / v if unit and v else None for v in per_unit))
    unit = TIFF_UNITS.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2)
    return plain(*(unit / v if unit and v else None for v in per_unit))


def from_ome_xml(text: str) -> Resolution:
    """PhysicalSizeX and PhysicalSizeY of the first image (OME 2016-06; the unit is µm when none is named)."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return None, f"its OME-XML cannot be parsed: {error}"
    pixels = next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None, ""
    sizes = []
    for axis in "XY":
        size = _positive(pixels.get(f"PhysicalSize{axis}"))
        unit = MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(size * unit if size and unit else None)
    return stated(*sizes)


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _ratio(value: Any) -> float:
    """A TIFF rational as a number; 0 for what is none."""
    top, bottom = value if isinstance(value, tuple) else (value, 1)
    return float(top) / float(bottom) if bottom else 0.0
