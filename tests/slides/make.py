"""Slides written to disk for the tests: the same pixels in every format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image

from wsiseg.slides.backend import Pixels
from wsiseg.slides.memory import coordinate_pixels, shrunk


def texture(width: int, height: int) -> Pixels:
    """Something like tissue: smooth, coloured, no two places alike; the same on every run."""
    rng = np.random.default_rng(7)
    small = rng.integers(40, 250, (height // 9 + 2, width // 9 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pyramid(array: Pixels, downsamples: Sequence[int]) -> list[Pixels]:
    """Level 0 and its means over n × n px."""
    return [array, *(shrunk(array, n) for n in downsamples)]


def coordinates(width: int, height: int, downsamples: Sequence[int]) -> list[Pixels]:
    """Levels whose pixels encode their own indices."""
    return [coordinate_pixels(width // n, height // n) for n in (1, *downsamples)]


def write_tiff(path: Path, levels: Sequence[Pixels], mpp: float = 0.5, compression: str = "zlib") -> Path:
    """A tiled pyramid without loss, as OpenSlide's generic-tiff reads it."""
    per_cm = 10_000 / mpp
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            tiff.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression=compression,
                subfiletype=int(i > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def write_ome_tiff(path: Path, levels: Sequence[Pixels], mpp: float = 0.5) -> Path:
    """An OME-TIFF with its levels in sub-directories."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        about = {"axes": "YXS", "PhysicalSizeX": mpp * 1000, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": mpp}
        tiff.write(
            levels[0],
            tile=(256, 256),
            photometric="rgb",
            compression="zlib",
            metadata=about,
            subifds=len(levels) - 1,
        )
        for level in levels[1:]:
            tiff.write(level, tile=(256, 256), photometric="rgb", compression="zlib", subfiletype=1)
    return path


def write_ome_zarr(
    path: Path,
    levels: Sequence[np.ndarray],
    mpp: tuple[float, float] = (0.5, 0.5),
    version: str = "0.5",
    axes: str = "cyx",
    unit: str | None = "micrometer",
) -> Path:
    """An OME-Zarr image; `levels` are (h, w, 3) for axes with c, else (h, w)."""
    root = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for i, level in enumerate(levels):
        data = np.moveaxis(level, -1, 0) if "c" in axes else level
        data = data.reshape((1,) * (len(axes) - data.ndim) + data.shape) if "c" in axes else data
        if axes == "czyx":
            data = data.reshape(-1, 1, *level.shape[:2])
        elif axes == "tczyx":
            data = data.reshape(1, -1, 1, *level.shape[:2])
        keys = {} if version == "0.5" else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        array = root.create_array(
            str(i), shape=data.shape, chunks=(1,) * (data.ndim - 2) + (128, 128), dtype=data.dtype, **keys
        )
        array[...] = data
        n = levels[0].shape[0] / level.shape[0]
        scale = [1.0] * (len(axes) - 2) + [mpp[1] * n, mpp[0] * n]
        datasets.append({"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if a in "zyx" and unit else {}) for a in axes
    ]
    scales = {"name": "test", "axes": described, "datasets": datasets}
    if version == "0.5":
        root.attrs["ome"] = {"version": version, "multiscales": [scales]}
    else:
        root.attrs["multiscales"] = [scales | {"version": version}]
    return path
