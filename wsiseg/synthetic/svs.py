"""Write generated slides: a pyramid of JPEG tiles in a TIFF, in Aperio's layout or as OME-TIFF.

Aperio ("Digital slides and third-party data interchange", 2008): the first page is level 0, the second a thumbnail in
one strip, then one tiled page per coarser level. OME-TIFF (OME-TIFF specification 6): the coarser levels hang on the
first page as sub-images, the resolution is in its XML. Tiles are drawn, encoded and written one after another; of the
coarser levels one row of tiles is held, and their encoded tiles until their page is written, about a sixteenth of the
file.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import jpeg8_encode
from numpy.typing import NDArray
from tifffile import TiffWriter

from wsiseg.atomic import translate_os_errors
from wsiseg.errors import OutputError
from wsiseg.geometry import Box
from wsiseg.progress import Progress, Report, silent
from wsiseg.synthetic.slide import SyntheticSlide

TILE = 512  # px
SHRINK = 4  # from one level to the next
THUMBNAIL = 1024  # px along the longer side at most
JPEG: dict[str, Any] = {  # what all pages have in common, for tifffile
    "dtype": np.uint8, "photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2), "software": False,
}  # fmt: skip

Pixels = NDArray[np.uint8]


def write_slide(
    slide: SyntheticSlide,
    path: Path,
    quality: int = 80,
    workers: int | None = None,
    report: Report = silent,
) -> None:
    """Writes a slide as a pyramidal TIFF with levels 1, 4 and 16.

    Args:
        slide: what to draw
        path: the file, OME-TIFF where it ends with `.ome.tif` or `.ome.tiff`, else Aperio's layout and usually named
            `.svs`; it appears when it is complete, and replaces one that is there
        quality: of the JPEG tiles, 1 to 100
        workers: threads that draw and encode; None takes all cores
        report: told how many tiles of level 0 are done

    Raises:
        OutputError: the place cannot be written, or the quality is impossible
    """
    if not 1 <= quality <= 100:
        raise OutputError(f"A JPEG quality of {quality} does not exist: give 1 to 100.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist: create it or choose another.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    top = _Level(slide.frame.width // SHRINK**2, slide.frame.height // SHRINK**2, quality)
    coarse = [_Level(slide.frame.width // SHRINK, slide.frame.height // SHRINK, quality, above=top), top]
    write = _write_ome if path.name.lower().endswith((".ome.tif", ".ome.tiff")) else _write_aperio
    with translate_os_errors(path):
        try:
            write(partial, slide, coarse, _tiles(slide, coarse[0], quality, workers or os.cpu_count() or 1, report))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _big(slide: SyntheticSlide) -> bool:
    return slide.frame.width * slide.frame.height > 4e9


def _write_aperio(path: Path, slide: SyntheticSlide, coarse: list[_Level], tiles: Iterator[bytes]) -> None:
    width, height, mpp, quality = slide.frame.width, slide.frame.height, slide.frame.mpp, coarse[0].quality
    name = f"Aperio Image Library (written by wsiseg, generated image, seed {slide.spec.seed})\r\n{width}x{height}"
    kind = f"({TILE}x{TILE}) JPEG/RGB Q={quality}"
    tail = f"|AppMag = {10 / mpp:g}|MPP = {mpp:.6g}|Stain = {slide.spec.stain}"

    def page(w: int, h: int, tiles: Iterator[bytes], about: str) -> None:
        file.write(
            tiles, shape=(h, w, 3), tile=(TILE, TILE), description=f"{name} [0,0 {width}x{height}] {about}{kind}{tail}",
            metadata=None, contiguous=False, resolution=(1e4 / mpp * w / width,) * 2, resolutionunit="CENTIMETER",
            **JPEG,
        )  # fmt: skip

    with TiffWriter(path, bigtiff=_big(slide)) as file:
        page(width, height, tiles, "")
        coarse[0].finish()  # here, because the writer takes no more than the last tile
        small = coarse[1].picture()
        small = small[:: 1 + max(small.shape) // THUMBNAIL, :: 1 + max(small.shape) // THUMBNAIL]
        h, w = small.shape[:2]
        strip = _encode(np.ascontiguousarray(small), quality)
        about = f"{name} -> {w}x{h} - {tail}"
        file.write(iter([strip]), shape=(h, w, 3), rowsperstrip=h, description=about, metadata=None, **JPEG)
        for level in coarse:
            page(level.width, level.height, iter(level.tiles), f"-> {level.width}x{level.height} ")


def _write_ome(path: Path, slide: SyntheticSlide, coarse: list[_Level], tiles: Iterator[bytes]) -> None:
    mpp = slide.frame.mpp
    about = {
        "axes": "YXS", "Name": f"generated, seed {slide.spec.seed}, {slide.spec.stain}",
        "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    with TiffWriter(path, bigtiff=_big(slide), ome=True) as file:
        shape = (slide.frame.height, slide.frame.width, 3)
        file.write(tiles, shape=shape, tile=(TILE, TILE), subifds=len(coarse), metadata=about, **JPEG)
        coarse[0].finish()
        for level in coarse:
            shape = (level.height, level.width, 3)
            file.write(iter(level.tiles), shape=shape, tile=(TILE, TILE), subfiletype=1, metadata=None, **JPEG)


def _tiles(slide: SyntheticSlide, above: _Level, quality: int, workers: int, report: Report) -> Iterator[bytes]:
    """The encoded tiles of level 0 in file order; shrunken copies go to the level above on the way."""
    rows, cols = -(-slide.frame.height // TILE), -(-slide.frame.width // TILE)

    def draw(row: int, col: int) -> tuple[int, int, bytes, Pixels]:
        cell = Box(col * TILE, row * TILE, TILE, TILE)
        part = slide.read(cell.overlap(slide.frame.box), slide.frame)
        pixels = np.pad(part, ((0, TILE - part.shape[0]), (0, TILE - part.shape[1]), (0, 0)), mode="edge")
        return row, col, _encode(pixels, quality), _shrink(pixels)

    with ThreadPoolExecutor(workers) as pool:
        cells = itertools.product(range(rows), range(cols))
        waiting = deque(pool.submit(draw, *cell) for cell in itertools.islice(cells, 2 * workers))
        while waiting:
            row, col, code, small = waiting.popleft().result()
            waiting.extend(pool.submit(draw, *cell) for cell in itertools.islice(cells, 1))
            above.put(row, col, small)
            yield code
            report(Progress(row * cols + col + 1, rows * cols))


class _Level:
    """A coarser level that grows tile by tile: one row of tiles as pixels, the rows before as encoded tiles.

    The coarsest level, which has none above it, keeps its pixels for the thumbnail.
    """

    def __init__(self, width: int, height: int, quality: int, above: _Level | None = None) -> None:
        self.width, self.height, self.quality, self.above = width, height, quality, above
        self.tiles: list[bytes] = []
        self._kept: list[Pixels] = []
        self._rows, self._row = -(-height // TILE), 0
        self._band = self._blank()

    def _blank(self) -> Pixels:
        return np.full((TILE, -(-self.width // TILE) * TILE, 3), 255, np.uint8)

    def put(self, row: int, col: int, small: Pixels) -> None:
        """A shrunken tile (TILE / SHRINK wide) of the level below, given row by row."""
        while row // SHRINK > self._row:
            self._flush()
        side = TILE // SHRINK
        y, x = row % SHRINK * side, col * side
        place = self._band[y : y + side, x : x + side]  # empty where the level's last pixels were dropped
        place[:] = small[:, : place.shape[1]]

    def _flush(self) -> None:
        for col in range(self._band.shape[1] // TILE):
            pixels = np.ascontiguousarray(self._band[:, col * TILE : (col + 1) * TILE])
            self.tiles.append(_encode(pixels, self.quality))
            if self.above is not None:
                self.above.put(self._row, col, _shrink(pixels))
        if self.above is None:
            self._kept.append(self._band)
        self._band = self._blank()
        self._row += 1

    def finish(self) -> None:
        """Closes the last row of tiles, here and above."""
        while self._row < self._rows:
            self._flush()
        if self.above is not None:
            self.above.finish()

    def picture(self) -> Pixels:
        """The whole coarsest level."""
        return np.concatenate(self._kept)[: self.height, : self.width]


def _encode(pixels: Pixels, quality: int) -> bytes:
    return bytes(jpeg8_encode(pixels, level=quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"))


def _shrink(pixels: Pixels) -> Pixels:
    """Means of SHRINK × SHRINK pixels, rounded."""
    h, w = pixels.shape[0] // SHRINK, pixels.shape[1] // SHRINK
    total = pixels.reshape(h, SHRINK, w, SHRINK, 3).sum(axis=(1, 3), dtype=np.uint16)
    return ((total + SHRINK * SHRINK // 2) // (SHRINK * SHRINK)).astype(np.uint8)
