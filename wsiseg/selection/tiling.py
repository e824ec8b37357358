"""Store the tiles of a slide in a TileStore."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.classes import ClassMap
from wsiseg.errors import StoreError
from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile
from wsiseg.progress import Progress, Report, silent
from wsiseg.slides.slide import Slide
from wsiseg.stores.reference import refer
from wsiseg.stores.reservation import Manifest, reserve
from wsiseg.stores.shard import compress
from wsiseg.stores.tiles import FORMAT, REFERENCE, SLIDE, ZSTD, TileStore, TileWriter


def tile_manifest(
    slide: Slide, grid: Grid, tiles: Sequence[Tile], classes: ClassMap | None, sources: dict[str, Any]
) -> Manifest:
    """What a TileStore is made from. `sources` names the annotations, the selection of tiles and the like."""
    return {
        "kind": "tiles",
        "format": FORMAT,
        "version": __version__,
        "slide": dict(slide.identity),
        "backend": slide.backend_name,
        "scaled_decoding": slide.scaled_decoding,
        "level0": slide.frame.to_json(),
        "grid": grid.to_json(),
        "tiles": len(tiles),
        "classes": classes.to_json() if classes is not None else None,
        **sources,
    }


def tile_slide(
    slide: Slide,
    grid: Grid,
    tiles: Sequence[Tile],
    out: Path,
    *,
    classes: ClassMap | None = None,
    regions: Sequence[LabelledPolygon] = (),
    sources: dict[str, Any] | None = None,
    pixels: str = ZSTD,
    workers: int = 1,
    overwrite: bool = False,
    report: Report = silent,
) -> TileStore:
    """Read tiles of a slide into a TileStore; an interrupted store is continued.

    Args:
        slide: where the pixels come from
        grid: at the µm/px to store
        tiles: which tiles, in grid order (see `wsiseg.selection.select`)
        out: the store's folder
        classes: store label rasters of these classes too
        regions: annotations in level-0 pixels, for the label rasters
        sources: what else the result depends on (the selection, the hash of the annotations' file, …), kept in the
            manifest
        pixels: how the pixels are kept, one of `wsiseg.stores.tiles.PIXELS`
        workers: threads that read
        overwrite: replace a store that was made from something else
        report: told how many tiles are done

    Raises:
        MismatchError, BusyError, OutputError, SlideError
        StoreError: the slide's own JPEG is wanted and the grid is not that of its tiles
    """
    kept = {} if pixels == ZSTD else {"pixels": pixels}
    manifest = tile_manifest(slide, grid, tiles, classes, {**(sources or {}), **kept})
    if pixels == SLIDE and any(slide.jpeg(tile.read, grid.frame) is None for tile in (tiles[0], tiles[-1])):
        finest = ", ".join(f"{slide.frame.mpp * scale:g}" for scale, _ in slide.downsamples)
        raise StoreError(
            f"The own JPEG of {slide.name} cannot be kept: that takes JPEG tiles, no overlap, the width of the slide's "
            f"tiles as --size and the µm/px of one of its levels as --tile-mpp ({finest})."
        )
    raster = Rasteriser(regions, classes, grid.frame, slide.frame) if classes is not None else None
    with reserve(out, manifest, overwrite=overwrite) as folder:
        if folder is not None:
            writer = TileWriter(folder, manifest, tiles)
            if pixels == REFERENCE:
                refer(folder, slide)
            load = partial(_load, slide, grid, pixels)
            with ThreadPoolExecutor(workers) as pool:
                done = 0
                for shard in writer.shards():
                    if not writer.done(shard):
                        boxes = [tiles[i].read for i in shard]
                        images = None if pixels == REFERENCE else list(pool.map(load, boxes))
                        labels = np.stack([raster.read(box) for box in boxes]) if raster is not None else None
                        writer.write(shard, images, labels)
                    done += len(shard)
                    report(Progress(done, len(tiles)))
            slide.check_unchanged()
            writer.finish()
    return TileStore(out)


def _load(slide: Slide, grid: Grid, pixels: str, box: Box) -> np.ndarray | bytes:
    """The stored form of a tile: its pixels, or its JPEG file."""
    if pixels == SLIDE and (own := slide.jpeg(box, grid.frame)):
        return own
    image = slide.read(box, grid.frame)
    return image if pixels == ZSTD else compress(image)  # here, in the threads that read
