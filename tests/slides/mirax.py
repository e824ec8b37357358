"""A MIRAX slide: a file, and a folder with an index and JPEG images, as OpenSlide reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from simplejpeg import encode_jpeg

from tests.slides.make import Pixels

ID = "0123456789abcdef0123456789abcdef"


def write_mirax(
    path: Path, levels: Sequence[Pixels], tile: int, *, kept: Sequence[tuple[int, int]] | None = None, mpp: float = 0.5
) -> Path:
    """Write it.

    Args:
        path: NAME.mrxs; the folder NAME lies beside it
        levels: uint8 (h, w, 3), each half as large as the one before; sides of the coarsest are multiples of `tile`
        tile: px of a square image
        kept: (column, row) of the images of the coarsest level that were scanned; all by default
        mpp: µm/px of the finest level
    """
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(encode_jpeg(np.ascontiguousarray(levels[-1])))  # a small picture, which nobody reads
    across, down = levels[0].shape[1] // tile, levels[0].shape[0] // tile
    coarse = 2 ** (len(levels) - 1)  # images of the finest level along the side of one of the coarsest
    data, pages = bytearray(), []
    for level, pixels in enumerate(levels):
        step, entries = 2**level, []
        for row in range(down // step):
            for column in range(across // step):
                if kept is not None and (column * step // coarse, row * step // coarse) not in kept:
                    continue
                part = pixels[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
                image = encode_jpeg(np.ascontiguousarray(part), 95, colorsubsampling="444")
                entries.append((row * step * across + column * step, len(data), len(image), 0))
                data += image
        pages.append(entries)
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(pages))
    (folder / "Slidedat.ini").write_text(_about(len(levels), across, down, tile, mpp), encoding="utf-8-sig")
    return path


def _index(pages: Sequence[Sequence[tuple[int, int, int, int]]]) -> bytes:
    """Version and name, two roots, a pointer for each level to its list, and one page of images in each list."""
    head = b"01.02" + ID.encode()
    root = len(head) + 8
    place, pointers, lists = root + 4 * len(pages), [], bytearray()
    for entries in pages:
        pointers.append(place + len(lists))
        lists += struct.pack("<4i", 0, place + len(lists) + 8, len(entries), 0)
        for entry in entries:
            lists += struct.pack("<4i", *entry)
    return head + struct.pack(f"<{2 + len(pages)}i", root, root, *pointers) + lists


def _about(levels: int, across: int, down: int, tile: int, mpp: float) -> str:
    zooms = "".join(f"HIER_0_VAL_{i} = Z{i}\nHIER_0_VAL_{i}_SECTION = ZOOM_{i}\n" for i in range(levels))
    sections = "".join(
        f"[ZOOM_{i}]\nOVERLAP_X = 0\nOVERLAP_Y = 0\nMICROMETER_PER_PIXEL_X = {mpp * 2**i}\n"
        f"MICROMETER_PER_PIXEL_Y = {mpp * 2**i}\nIMAGE_FORMAT = JPEG\nIMAGE_FILL_COLOR_BGR = 16777215\n"
        f"DIGITIZER_WIDTH = {tile}\nDIGITIZER_HEIGHT = {tile}\nIMAGE_CONCAT_FACTOR = {int(i > 0)}\n"
        for i in range(levels)
    )
    return (
        f"[GENERAL]\nSLIDE_ID = {ID}\nSLIDE_VERSION = 01.02\nIMAGENUMBER_X = {across}\nIMAGENUMBER_Y = {down}\n"
        "OBJECTIVE_MAGNIFICATION = 20\nCameraImageDivisionsPerSide = 1\n"
        f"[HIERARCHICAL]\nHIER_COUNT = 1\nNONHIER_COUNT = 0\nINDEXFILE = Index.dat\nHIER_0_NAME = Slide zoom level\n"
        f"HIER_0_COUNT = {levels}\n{zooms}{sections}[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n"
    )
