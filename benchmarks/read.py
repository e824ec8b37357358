"""How fast slides are read, next to OpenSlide and tiffslide, as a share of what the JPEG decoder alone could do.

    python benchmarks/read.py [regions] [--size 20000] [--folder DIR] [--quick]
    python benchmarks/read.py between [--size 20000] [--folder DIR] [--slide FILE …] [--quick]

`regions` reads regions of 256, 512 and 1024 px, row by row, on the corners of the slide's tiles and off them, in one
thread. The ceiling is libjpeg-turbo on the slide's own tiles, whose bytes are in memory already: its pixels per second
are 1.00. `between` reads at a µm/px that lies between two levels, with the decoder shrinking and without, and compares
the pixels.

The slides are made here and kept in DIR: generated kidney tissue, of which a square is repeated, in the layouts of
Aperio, of a generic pyramid, of OME-TIFF and of Philips, levels 1, 4 and 16. Everything is measured in turns, and the
shortest time of the processor counts. Each prints its table and writes it into docs/results/reading.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
from shared.results import record
from shared.slides import LAYOUTS, made
from simplejpeg import decode_jpeg
from tiffslide import TiffSlide

from wsiseg.geometry import Box, Frame
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

REGIONS = (256, 512, 1024)  # px
OFF = (101, 67)  # px from the tiles' corners, for reads that are not aligned
AREA = 16384  # px along each side of what is read; the slower readers have a smaller piece of it
SLOW_AREA = 4096
FACTORS = (2.0, 3.6)

Read = Callable[[int, int, int, int], Any]  # x, y, width, height at level 0


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


def regions(size: int, folder: Path, repeat: int, quick: bool) -> None:
    """The table of readers."""
    area, slow = (min(a, (size - 1024) // 1024 * 1024) for a in (AREA, SLOW_AREA))
    lines = [
        f"{size} × {size} px, one thread, best of {repeat}; Mpx/s and, behind it, the share of the ceiling.\n",
        "| slide | region | | decoder alone | wsiseg (tiff) | OpenSlide | tiffslide | wsiseg : OpenSlide |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    shares, ratios = [], []
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
                shares.append(rates["wsiseg"] / rates["ceiling"])
                ratios.append(rates["wsiseg"] / rates["OpenSlide"])
                lines.append(f"| {layout} | {region} | {name} | {' | '.join(cells)} | {ratios[-1]:.1f} |")
                print(lines[-1], flush=True)
    lines.append(
        f"\nLeast share of the ceiling: {min(shares):.2f} (goal 0.75, reached in {sum(s >= 0.75 for s in shares)} of "
        f"{len(shares)} rows). Least ratio to OpenSlide: {min(ratios):.1f} (goal 5, reached in "
        f"{sum(r >= 5 for r in ratios)})."
    )
    record("reading.md", "python benchmarks/read.py regions", "\n".join(lines), quick=quick)


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


def between(size: int, folder: Path, slides: Sequence[Path], repeat: int, quick: bool) -> None:
    """The table of resolutions between the levels."""
    lines = [
        f"Regions of 512 px, one thread, best of {repeat}; Mpx/s count the pixels of level 0. Differences are in grey "
        "levels, against decoding and shrinking (goals: ratio 1.8, mean difference 1.5).\n",
        "| slide | µm/px : level 0 | decode, then shrink | decoder shrinks | ratio | mean difference | largest |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
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
            lines.append(
                f"| {name} | {factor:g} | {rates['plain']:.0f} | {rates['scaled']:.0f} "
                f"| {rates['scaled'] / rates['plain']:.2f} | {mean:.2f} | {worst} |"
            )
            print(lines[-1], flush=True)
    record("reading.md", "python benchmarks/read.py between", "\n".join(lines), quick=quick)


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
    parser.add_argument("what", nargs="?", choices=("regions", "between"), default="regions")
    parser.add_argument("--size", type=int, default=20_000, help="px of each side of the generated slides")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-read", help="where they are kept"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    parser.add_argument("--slide", dest="slides", type=Path, action="append", default=[], help="one more for between")
    parser.add_argument("--quick", action="store_true", help="a slide of 4096 px, once, and nothing is written down")
    args = parser.parse_args()
    if args.quick:
        args.size, args.repeat = 4096, 1
    if args.what == "regions":
        regions(args.size, args.folder, args.repeat, args.quick)
    else:
        between(args.size, args.folder, args.slides, args.repeat, args.quick)


if __name__ == "__main__":
    main()
