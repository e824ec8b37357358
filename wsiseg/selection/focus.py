"""Detect regions that are out of focus.

The variance of the Laplacian is the plain measure of focus (Pech-Pacheco, Cristóbal, Chamorro-Martínez and
Fernández-Valdivia, "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000). Alone it also
tells how strongly a tissue is stained and how many nuclei it has. So here it is divided by what the same place has of
coarser structure, which a defocus of a few µm leaves as it is:

    sharpness = log2( Σ (Laplacian of the optical density, steps of 1 µm)² / Σ (its band from 4 to 8 µm)² )

Both sums run over the tissue around a place, with Gaussian weights of 40 µm. On generated slides sharp tissue has 3.5
to 5.5, defocus with a standard deviation of 1.5 to 2.5 µm about 1.5, stronger defocus less than 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsiseg.geometry import Box, Frame
from wsiseg.progress import Progress, Report, silent
from wsiseg.selection.masks import Mask
from wsiseg.selection.tissue import Readable

STEP_UM = 1.0  # the pixels that sharpness is measured on
COARSEST_UM = 1.25  # on coarser pixels there is nothing to tell a defocus of 2 µm by
CELL = 8  # px along each side of a cell
BLOCK = 128  # cells along each side of what is read at once
BAND_UM = (4.0, 8.0)
AROUND_UM = 40.0
REACH = 32  # px that the filters see beyond a block: three standard deviations of the widest, and the Laplacian's one
DARKEST = 8.0  # grey level below which nothing gets darker

Numbers = NDArray[np.float32]


def sharpness(slide: Readable, tissue: Mask, frame: Frame, report: Report = silent) -> Numbers | None:
    """How sharp the tissue is, read block by block.

    Args:
        slide: where the pixels come from
        tissue: bool (h, w), the pixels of `frame`
        frame: a coarse plane, about 8 µm/px
        report: told how many blocks are done

    Returns:
        float32 (h, w), the pixels of `frame`, NaN where there is no tissue; None where the slide's own pixels are
        coarser than `COARSEST_UM`, so that its focus cannot be judged
    """
    own = max(slide.frame.mpp, slide.frame.mpp_y)
    if own > COARSEST_UM:
        return None
    fine = slide.frame.at(max(STEP_UM, own))
    cells = slide.frame.at(fine.mpp * CELL)
    inside = tissue[_nearest(cells, frame)]
    fine_sum, coarse_sum = np.zeros((2, cells.height, cells.width), np.float32)
    corners = [(x, y) for y in range(0, cells.height, BLOCK) for x in range(0, cells.width, BLOCK)]
    blocks = [Box(x, y, BLOCK, BLOCK).overlap(cells.box) for x, y in corners]
    blocks = [block for block in blocks if inside[block.slices].any()]
    for done, block in enumerate(blocks):
        report(Progress(done, len(blocks)))
        fine_sum[block.slices], coarse_sum[block.slices] = _energies(slide, block, fine)
    report(Progress(len(blocks), len(blocks)))
    weight = AROUND_UM / cells.mpp
    near, far = (ndimage.gaussian_filter(np.where(inside, s, 0), weight, truncate=3) for s in (fine_sum, coarse_sum))
    measured = np.log2((near + 1e-9) / (far + 1e-7))
    return np.where(tissue, measured[_nearest(frame, cells)], np.nan).astype(np.float32)


def _nearest(plane: Frame, other: Frame) -> tuple[NDArray[np.intp], ...]:
    """The index, (rows, 1) and (1, columns), of those pixels of the other plane that hold the centres of this one's."""
    rows = (np.arange(plane.height) + 0.5) * plane.mpp_y / other.mpp_y
    columns = (np.arange(plane.width) + 0.5) * plane.mpp / other.mpp
    return np.ix_(
        np.minimum(rows, other.height - 1).astype(np.int64), np.minimum(columns, other.width - 1).astype(np.int64)
    )


def _energies(slide: Readable, block: Box, fine: Frame) -> tuple[Numbers, Numbers]:
    """Means over the cells of a block of the squared Laplacian and of the squared band; a cut cell counts in part."""
    px = Box(block.x * CELL, block.y * CELL, block.w * CELL, block.h * CELL).overlap(fine.box)
    seen = px.grow(REACH).overlap(fine.box)
    light = slide.read(seen, fine).astype(np.float32) @ np.full(3, 1 / 3, np.float32)
    depth = -np.log10(np.maximum(light, DARKEST) / 255)
    low, high = (ndimage.gaussian_filter(depth, um / fine.mpp, mode="nearest", truncate=3) for um in BAND_UM)
    inner = px.relative_to(seen).slices
    return _cells(ndimage.laplace(depth, mode="nearest")[inner] ** 2, block), _cells((low - high)[inner] ** 2, block)


def _cells(values: Numbers, block: Box) -> Numbers:
    """Means of CELL × CELL values; at the slide's edge the last ones go on."""
    missing = (block.h * CELL - values.shape[0], block.w * CELL - values.shape[1])
    whole = np.pad(values, ((0, missing[0]), (0, missing[1])), mode="edge")
    means: Numbers = whole.reshape(block.h, CELL, block.w, CELL).mean((1, 3))
    return means
