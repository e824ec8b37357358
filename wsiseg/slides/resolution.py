"""Find the µm per pixel of a file, and decide whether it is credible.

A stated resolution is believed from 0.05 to 20 µm/px (508,000 down to 1,270 dpi) and otherwise treated as missing,
wherever it stands. The plain resolution of a TIFF, PNG or JPEG is not written for measuring: programs put 72, 96, 300
or 600 dpi there, which would be 353, 265, 85 and 42 µm/px. A scanner's own header (Aperio MPP, OME physical size,
NDPI, …) is written for measuring, but it too is damaged now and then, or in another unit than its format says. A DICOM
file may hold a coarse level alone, so its pixel spacing is believed up to 64 µm/px.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree.ElementTree import Element

from wsiseg.errors import ResolutionError

Resolution = tuple[tuple[float, float] | None, str]  # (µm/px along x and y, or None; why a stated one is not believed)

FINEST, COARSEST = 0.05, 20.0
COARSEST_DICOM = 64.0

LEAST_OVERRIDE, MOST_OVERRIDE = 0.001, 1000.0  # µm/px that a person may state: from a microscope's to a camera's

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
    """µm/px along x and y: the person's, else the header's.

    Raises:
        ResolutionError: there is neither, or the person's is not a resolution.
    """
    if override is not None:
        if not LEAST_OVERRIDE <= override <= MOST_OVERRIDE:
            raise ResolutionError(
                f"{override} is not a resolution: --mpp takes µm/px from {LEAST_OVERRIDE} to {MOST_OVERRIDE:.0f}, such as 0.25."
            )
        return override, override
    if header is not None:
        return header
    said = f"reliably how many µm a pixel is ({doubt})" if doubt else "how many µm a pixel is"
    raise ResolutionError(f"{name} does not say {said}: give it with --mpp, for instance --mpp 0.25.")


def stated(x: Any, y: Any, coarsest: float = COARSEST) -> Resolution:
    """What a header says, if it is plausible: either number may be missing and is then taken from the other.

    Args:
        x: µm/px along x as a number or as text; None where the header has no such field
        y: the same along y
        coarsest: the largest plausible µm/px
    """
    given = [v for v in (x, y) if v is not None]
    if not given:
        return None, ""
    values = []
    for said in given:
        number = _number(said)
        if number is None:
            return None, f"its header says {str(said)[:40]!r}, which is not a number"
        values.append(number)
    if not all(FINEST <= v <= coarsest for v in values):
        size = " × ".join(dict.fromkeys(f"{v:.4g}" for v in values))
        return None, f"its header says {size} µm/px, which no microscope has"
    return (values[0], values[-1]), ""


def plain(x: Any, y: Any) -> Resolution:
    """What the resolution fields of an ordinary image come to, if it is plausible; see `stated`."""
    mpp, doubt = stated(x, y)
    said = _number(x if x is not None else y)
    if not doubt or said is None:
        return mpp, doubt
    dpi = f" ({25400 / said:.0f} dpi)" if said else ""
    return None, f"its resolution field says {said:.4g} µm/px{dpi}, which no microscope wrote"


def from_tiff(page: Any) -> Resolution:
    """Of a tifffile page: its ImageJ description if there is one, else its resolution tags."""
    description, tags = page.description or "", page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, ""
    imagej = description.startswith("ImageJ=")
    if imagej:
        fields = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
        unit = MICROMETRES.get(fields.get("unit", ""))
    else:
        number = round(_ratio(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else 2
        unit = TIFF_UNITS.get(number)
    per_unit = (_ratio(tags[name].value) for name in ("XResolution", "YResolution"))
    x, y = (unit / v if unit and v else None for v in per_unit)
    return stated(x, y) if imagej else plain(x, y)


def from_ome(pixels: Element) -> Resolution:
    """PhysicalSizeX and PhysicalSizeY of a `Pixels` element (OME 2016-06; the unit is µm when none is named)."""
    sizes: list[Any] = []
    for axis in "XY":
        text = pixels.get(f"PhysicalSize{axis}")
        unit_name = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if text is not None and unit_name not in MICROMETRES:
            return None, f"its OME-XML states its size in {unit_name[:40]!r}, a unit that is unknown"
        size = _number(text)
        sizes.append(text if size is None else size * MICROMETRES[unit_name])
    return stated(sizes[0], sizes[1])


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _ratio(value: Any) -> float:
    """A TIFF rational or whole number as a number; 0 for what is none."""
    try:
        top, bottom = value if isinstance(value, tuple) else (value, 1)
        return float(top) / float(bottom)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
