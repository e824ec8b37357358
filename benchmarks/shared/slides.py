"""Slides of any size that cost little to make: a square of generated kidney tissue, repeated.

The JPEG bytes of a tile are made once and written again and again, so that a slide of 100,000 × 100,000 px is a minute
of work, while a reader has as much to read and to decode as on a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from imagecodecs import jpeg8_encode

from wsiseg.geometry import Box
from wsiseg.slides.memory import shrunk
from wsiseg.synthetic.slide import SlideSpec, generate

BLOCK = 2048  # px of the square of tissue that is repeated
LEVELS = (1, 4, 16)
MPP = 0.25
QUALITY = 80
# Layout -> px of a tile, the file's name
LAYOUTS = {
    "Aperio SVS": (256, "aperio.svs"),
    "generic pyramid": (512, "generic.tif"),
    "OME-TIFF": (512, "slide.ome.tif"),
    "Philips-like": (512, "philips.tiff"),
}


def tissue(mpp: float = MPP) -> np.ndarray:
    """A square of generated kidney, uint8 (BLOCK, BLOCK, 3): of all squares, the one with most to see."""
    slide = generate(SlideSpec(3, max(3000, 2 * BLOCK * mpp), max(3000, 2 * BLOCK * mpp), "pas", mpp, ()))
    best, most = None, -1.0
    for y in range(0, slide.frame.height - BLOCK + 1, BLOCK):
        for x in range(0, slide.frame.width - BLOCK + 1, BLOCK):
            small = slide.frame.at(8.0)
            look = slide.read(slide.frame.map(Box(x, y, BLOCK, BLOCK), to=small), small)
            if look.std() > most:
                best, most = Box(x, y, BLOCK, BLOCK), float(look.std())
    assert best is not None
    return slide.read(best, slide.frame)


class Tiles:
    """The encoded tiles of one level: a block repeated over the plane."""

    def __init__(self, block: np.ndarray, size: int, tile: int) -> None:
        self.block, self.size, self.tile = block, size, tile

    def __iter__(self) -> Iterator[bytes]:
        count = -(-self.size // self.tile)
        return (self.encoded(r * self.tile, c * self.tile) for r in range(count) for c in range(count))

    def encoded(self, y: int, x: int) -> bytes:
        """The tile whose corner is at (x, y)."""
        return self._encode(y % len(self.block), x % len(self.block))

    @cache  # noqa: B019 — as many as fit into the block
    def _encode(self, y: int, x: int) -> bytes:
        rows, columns = ((np.arange(at, at + self.tile) % len(self.block)) for at in (y, x))
        pixels = np.ascontiguousarray(self.block[rows[:, None], columns])
        return bytes(jpeg8_encode(pixels, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"))


def write(path: Path, layout: str, block: np.ndarray, size: int, mpp: float = MPP) -> None:
    """A slide of size × size px in one of the layouts, levels 1, 4 and 16."""
    tile = LAYOUTS[layout][0]
    ome = layout == "OME-TIFF"
    with tifffile.TiffWriter(path, bigtiff=layout == "Philips-like" or size > 60_000, ome=ome) as tiff:
        for n in LEVELS:
            side = size // n
            if layout == "Philips-like":
                side = -(-side // tile) * tile  # padded; the true size follows from the spacing
            about: dict[str, Any] = {"metadata": None, "subfiletype": int(n > 1)}
            if layout == "Aperio SVS":
                text = f"Aperio Image Library v1\r\n{size}x{size} -> {side}x{side} JPEG/RGB Q={QUALITY}"
                text += f"|AppMag = {10 / mpp:g}|MPP = {mpp:g}"
                about = {"metadata": None, "description": text}
            elif layout == "Philips-like" and n == 1:
                about |= {"description": philips_xml(mpp), "software": "Philips DP v1.0"}
            elif ome:
                about = {"subfiletype": 1} if n > 1 else {
                    "subifds": len(LEVELS) - 1,
                    "metadata": {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp},
                }  # fmt: skip
            tiff.write(
                iter(Tiles(shrunk(block, n) if n > 1 else block, side, tile)),
                shape=(side, side, 3), dtype=np.uint8, tile=(tile, tile), photometric="ycbcr", compression="jpeg",
                subsampling=(2, 2), resolution=(1e4 / mpp / n,) * 2, resolutionunit="CENTIMETER", **about,
            )  # fmt: skip


def philips_xml(mpp: float) -> str:
    """The part of Philips' description that gives the slide and each level its spacing in mm."""

    def spacing(n: int) -> str:
        return (
            '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
            f"&quot;{mpp * n / 1000:.6f}&quot; &quot;{mpp * n / 1000:.6f}&quot;</Attribute>"
        )

    levels = "".join(f'<DataObject ObjectType="PixelDataRepresentation">{spacing(n)}</DataObject>' for n in LEVELS)
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">PHILIPS</Attribute>'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
        f'<DataObject ObjectType="DPScannedImage">{spacing(1)}'
        '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" '
        f'PMSVR="IDataObjectArray"><Array>{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>'
    )


def aperio(folder: Path, size: int, mpp: float = MPP) -> Path:
    """A slide of size × size px in Aperio's layout; one that is there already is kept."""
    path = folder / f"aperio-{size}-{mpp:g}.svs"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        write(partial, "Aperio SVS", tissue(mpp), size, mpp)
        partial.replace(path)
    return path


def made(folder: Path, size: int) -> dict[str, Path]:
    """The slides of all layouts; those that are there already are kept."""
    folder = folder / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {layout: folder / name for layout, (_, name) in LAYOUTS.items()}
    if not all(path.exists() for path in paths.values()):
        block = tissue()
        for layout, path in paths.items():
            write(path, layout, block, size)
    return paths
