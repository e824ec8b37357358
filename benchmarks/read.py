"""How fast slides are read, next to OpenSlide and tiffslide, as a share of what the JPEG decoder alone could do.

    python benchmarks/read.py regions [--size 20000] [--folder DIR]
    python benchmarks/read.py between [--size 20000] [--folder DIR] [--slide FILE …]

`regions` reads regions of 256, 512 and 1024 px, row by row, on the corners of the slide's tiles and off them, in one
thread. The ceiling is libjpeg-turbo on the slide's own tiles, whose bytes are in memory already: its pixels per second
are 1.00. `between` reads at a µm/px that lies between two levels, with the decoder shrinking and without, and compares
the pixels.

The slides are made here and kept in DIR: generated kidney tissue, of which a square is repeated, in the layouts of
Aperio, of a generic pyramid, of OME-TIFF and of Philips, levels 1, 4 and 16. Everything is measured in turns, and the
shortest time of the processor counts. Each prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
from imagecodecs import jpeg8_encode
from simplejpeg import decode_jpeg
from tiffslide import TiffSlide

from wsiseg.geometry import Box, Frame
from wsiseg.slides.memory import shrunk
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
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
REGIONS = (256, 512, 1024)  # px
OFF = (101, 67)  # px from the tiles' corners, for reads that are not aligned
AREA = 16384  # px along each side of what is read; the slower readers have a smaller piece of it
SLOW_AREA = 4096
FACTORS = (2.0, 3.6)

Read = Callable[[int, int, int, int], Any]  # x, y, width, height at level 0


def tissue() -> np.ndarray:
    """A square of generated kidney, uint8 (BLOCK, BLOCK, 3), at MPP."""
    slide = generate(SlideSpec(seed=3, width_um=3000, height_um=3000, mpp=MPP, artefacts=()))
    best, most = None, -1.0
    for y in range(0, slide.frame.height - BLOCK, BLOCK // 2):
        for x in range(0, slide.frame.width - BLOCK, BLOCK // 2):
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


def write(path: Path, layout: str, block: np.ndarray, size: int) -> None:
    """A slide of size × size px in one of the layouts."""
    tile = LAYOUTS[layout][0]
    ome = layout == "OME-TIFF"
    with tifffile.TiffWriter(path, bigtiff=layout == "Philips-like", ome=ome) as tiff:
        for n in LEVELS:
            side = size // n
            if layout == "Philips-like":
                side = -(-side // tile) * tile  # padded; the true size follows from the spacing
            about: dict[str, Any] = {"metadata": None, "subfiletype": int(n > 1)}
            if layout == "Aperio SVS":
                text = f"Aperio Image Library v1\r\n{size}x{size} -> {side}x{side} JPEG/RGB Q={QUALITY}|MPP = {MPP}"
                about = {"metadata": None, "description": text}
            elif layout == "Philips-like" and n == 1:
                about |= {"description": philips_xml(), "software": "Philips DP v1.0"}
            elif ome:
                about = {"subfiletype": 1} if n > 1 else {
                    "subifds": len(LEVELS) - 1,
                    "metadata": {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP},
                }  # fmt: skip
            tiff.write(
                iter(Tiles(shrunk(block, n) if n > 1 else block, side, tile)),
                shape=(side, side, 3), dtype=np.uint8, tile=(tile, tile), photometric="ycbcr", compression="jpeg",
                subsampling=(2, 2), resolution=(1e4 / MPP / n,) * 2, resolutionunit="CENTIMETER", **about,
            )  # fmt: skip


def philips_xml() -> str:
    """The part of Philips' description that gives the slide and each level its spacing in mm."""

    def spacing(n: int) -> str:
        return (
            '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
            f"&quot;{MPP * n / 1000:.6f}&quot; &quot;{MPP * n / 1000:.6f}&quot;</Attribute>"
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


def scan(read: Read, region: int, off: tuple[int, int], area: int) -> int:
    """Reads an area in regions, row by row; returns the pixels."""
    for y in range(off[1], off[1] + area, region):
        for x in range(off[0], off[0] + area, region):
            read(x, y, region, region)
    return area * area


def decode(streams: Sequence[bytes], tile: int) -> int:
    """The ceiling: decodes tiles into one buffer; returns the pixels."""
    out = np.empty((tile, tile, 3), np.uint8)
    for stream in streams:
        decode_jpeg(stream, buffer=out)
    return len(streams) * tile * tile


def stored_tiles(path: Path, pixels: int) -> list[bytes]:
    """Tiles of level 0 as stored, evenly spread, of about so many px in all. They are whole JPEG streams."""
    with tifffile.TiffFile(path) as tiff, path.open("rb") as file:
        page: Any = tiff.pages[0]
        step = max(1, len(page.dataoffsets) * page.tilewidth * page.tilelength // pixels)
        found = []
        for i in range(0, len(page.dataoffsets), step):
            file.seek(page.dataoffsets[i])
            found.append(file.read(page.databytecounts[i]))
        return found


# Opens a slide anew, with no tile in any cache; gives what reads it, and that is what is timed.
Prepare = Callable[[], Callable[[], int]]


def fastest(works: dict[str, Prepare], repeat: int) -> dict[str, float]:
    """Mpx/s of each work by the shortest time of the processor, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, prepare in works.items():
            work = prepare()
            start = time.process_time()
            pixels = work()
            rates[name].append(pixels / (time.process_time() - start) / 1e6)
    return {name: max(values) for name, values in rates.items()}


def by_wsiseg(path: Path, region: int, off: tuple[int, int], area: int) -> Callable[[], int]:
    """Through the front door, at level 0."""
    slide = open_slide(path)
    if slide.backend_name != "tiff":
        raise SystemExit(f"{path.name} is not read by tiff: {slide.notes}")
    return lambda: scan(lambda x, y, w, h: slide.read(Box(x, y, w, h), slide.frame), region, off, area)


def by_openslide(path: Path, region: int, off: tuple[int, int], area: int) -> Callable[[], int]:
    """As its documentation does it."""
    slide = openslide.OpenSlide(path)
    return lambda: scan(
        lambda x, y, w, h: np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB")), region, off, area
    )


def by_tiffslide(path: Path, region: int, off: tuple[int, int], area: int) -> Callable[[], int]:
    """Without the detour over Pillow."""
    slide = TiffSlide(path)
    return lambda: scan(lambda x, y, w, h: slide.read_region((x, y), 0, (w, h), as_array=True), region, off, area)


def regions(size: int, folder: Path, repeat: int) -> None:
    """The table of readers."""
    area, slow = (min(a, (size - 1024) // 1024 * 1024) for a in (AREA, SLOW_AREA))
    print(f"{size} × {size} px, one thread, best of {repeat}; Mpx/s and, behind it, the share of the ceiling\n")
    print("| slide | region | | decoder alone | wsiseg (tiff) | OpenSlide | tiffslide | wsiseg : OpenSlide |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for layout, path in made(folder, size).items():
        streams = stored_tiles(path, 2**25)
        for region in REGIONS:
            for name, off in (("aligned", (0, 0)), ("unaligned", OFF)):
                works: dict[str, Prepare] = {
                    "ceiling": lambda s=streams, t=LAYOUTS[layout][0]: partial(decode, s, t),
                    "wsiseg": partial(by_wsiseg, path, region, off, area),
                    "OpenSlide": partial(by_openslide, path, region, off, slow),
                    "tiffslide": partial(by_tiffslide, path, region, off, slow),
                }
                rates = fastest(works, repeat)
                cells = [f"{rate:.0f} ({rate / rates['ceiling']:.2f})" for rate in rates.values()]
                ratio = rates["wsiseg"] / rates["OpenSlide"]
                print(f"| {layout} | {region} | {name} | {' | '.join(cells)} | {ratio:.1f} |", flush=True)


def at_resolution(path: Path, factor: float, scaled_decoding: bool) -> tuple[Slide, Frame, list[Box]]:
    """A slide, a frame that is coarser by a factor, and regions of it."""
    slide = open_slide(path, scaled_decoding=scaled_decoding)
    frame = slide.frame.at(slide.frame.mpp * factor)
    return slide, frame, middle_boxes(frame.width, frame.height)


def by_resolution(path: Path, factor: float, scaled_decoding: bool) -> Callable[[], int]:
    """Reads regions at a resolution; the pixels are those of level 0."""
    slide, frame, boxes = at_resolution(path, factor, scaled_decoding)

    def work() -> int:
        for box in boxes:
            slide.read(box, frame)
        return round(sum(box.area for box in boxes) * factor * factor)

    return work


def between(size: int, folder: Path, slides: Sequence[Path], repeat: int) -> None:
    """The table of resolutions between the levels."""
    print(f"Regions of 512 px, one thread, best of {repeat}; Mpx/s count the pixels of level 0\n")
    print("| slide | µm/px : level 0 | decode, then shrink | decoder shrinks | ratio | mean difference | largest |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, path in (*made(folder, size).items(), *((path.stem, path) for path in slides)):
        for factor in FACTORS:
            works: dict[str, Prepare] = {
                kind: partial(by_resolution, path, factor, kind == "scaled") for kind in ("plain", "scaled")
            }
            rates = fastest(works, repeat)
            plain, frame, boxes = at_resolution(path, factor, False)
            scaled = at_resolution(path, factor, True)[0]
            errors = [np.abs(scaled.read(b, frame).astype(int) - plain.read(b, frame)) for b in boxes[:8]]
            mean, worst = np.mean([e.mean() for e in errors]), max(e.max() for e in errors)
            print(
                f"| {name} | {factor:g} | {rates['plain']:.0f} | {rates['scaled']:.0f} "
                f"| {rates['scaled'] / rates['plain']:.2f} | {mean:.2f} | {worst} |",
                flush=True,
            )


def middle_boxes(width: int, height: int) -> list[Box]:
    """Regions of 512 px around the middle of a frame, at most 8 × 8 of them, row by row."""
    columns, rows = (max(1, min(8, side // 512)) for side in (width, height))
    x, y = max(0, (width - columns * 512) // 2), max(0, (height - rows * 512) // 2)
    return [
        Box(x + c * 512, y + r * 512, min(512, width), min(512, height)) for r in range(rows) for c in range(columns)
    ]


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("regions", "next to the decoder and to other readers"), ("between", "between the levels")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--size", type=int, default=20_000, help="px of each side of the generated slides")
        command.add_argument(
            "--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-read", help="where they are kept"
        )
        command.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
        if name == "between":
            command.add_argument("--slide", dest="slides", type=Path, action="append", default=[], help="one more")
    options = vars(parser.parse_args())
    {"regions": regions, "between": between}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
