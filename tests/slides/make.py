"""Slides written to disk for the tests: the same pixels in every format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from imagecodecs import (
    delta_encode,
    jpeg2k_encode,
    jpeg8_encode,
    lzw_encode,
    webp_encode,
    zlib_encode,
    zstd_encode,
)
from PIL import Image

from tests.slides.coordinates import coordinate_pixels
from wsiseg.slides.backend import Pixels
from wsiseg.slides.memory import shrunk


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


def encode_jpeg(rgb: Pixels) -> bytes:
    """As scanners store it: YCbCr, colours at half the resolution."""
    return bytes(jpeg8_encode(rgb, level=95, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"))


# How a tile is encoded, and TIFF's numbers for its codec and its colours (and its predictor)
CODECS: dict[str, tuple[Callable[[Pixels], bytes], int, str]] = {
    "jpeg": (encode_jpeg, 7, "ycbcr"),
    "jpeg-rgb": (
        lambda a: jpeg8_encode(a, level=95, colorspace="RGB", outcolorspace="RGB", subsampling="444"), 7, "rgb",
    ),
    "jpeg-grey": (lambda a: jpeg8_encode(np.ascontiguousarray(a[..., 1]), level=95), 7, "minisblack"),
    "jpeg2000": (lambda a: jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k"), 33005, "rgb"),
    "jpeg2000-ycbcr": (
        lambda a: jpeg2k_encode(to_ycbcr(a), level=0, reversible=True, codecformat="j2k", mct=False), 33003, "rgb",
    ),
    "deflate": (zlib_encode, 8, "rgb"),
    "lzw": (lambda a: lzw_encode(a.tobytes()), 5, "rgb"),
    "lzw-predictor": (lambda a: lzw_encode(delta_encode(a, axis=1).tobytes()), 5, "rgb"),
    "zstd": (zstd_encode, 50000, "rgb"),
    "webp": (lambda a: webp_encode(a, lossless=True), 50001, "rgb"),
    "none": (lambda a: a.tobytes(), 1, "rgb"),
}  # fmt: skip


def to_ycbcr(rgb: Pixels) -> Pixels:
    """Full-range YCbCr (ITU-T T.871)."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.clip(np.rint(np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], -1)), 0, 255).astype(np.uint8)


def tiles_of(level: Pixels, tile: int, codec: str) -> list[bytes]:
    """A level's encoded tiles, row by row; beyond the edge its outermost pixels go on."""
    height, width = level.shape[:2]
    padded = np.pad(level, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    corners = itertools.product(range(0, height, tile), range(0, width, tile))
    encode = CODECS[codec][0]
    return [bytes(encode(np.ascontiguousarray(padded[y : y + tile, x : x + tile]))) for y, x in corners]


def write_tiles(
    path: Path,
    levels: Sequence[Pixels],
    codec: str,
    *,
    tile: int = 256,
    tiles: Sequence[Sequence[bytes]] | None = None,
    bigtiff: bool = False,
    about: Sequence[dict[str, Any]] | None = None,
    mpp: float = 0.5,
) -> Path:
    """A tiled pyramid in any codec.

    Args:
        path: the file
        levels: uint8 (h, w, 3)
        codec: a key of CODECS
        tile: px
        tiles: what to store instead of the levels' own encoded tiles; nothing (b"") for a tile that is missing
        bigtiff: 64-bit offsets
        about: more arguments of tifffile for each level, such as a description
        mpp: µm/px of level 0
    """
    _, number, photometric = CODECS[codec]
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for i, level in enumerate(levels):
            stored = tiles_of(level, tile, codec) if tiles is None else tiles[i]
            more: dict[str, Any] = {"metadata": None, "subfiletype": int(i > 0)} | (about[i] if about else {})
            if codec.endswith("predictor"):
                more["predictor"] = 2
            if codec == "jpeg":
                more["subsampling"] = (2, 2)
            if codec == "jpeg-rgb":  # else tifffile says YCbCr
                more["compressionargs"] = {"outcolorspace": "rgb"}
            tiff.write(
                iter(stored), shape=level.shape if codec != "jpeg-grey" else level.shape[:2], dtype=np.uint8,
                tile=(tile, tile), photometric=photometric, compression=number,
                resolution=(10_000 / mpp,) * 2, resolutionunit="CENTIMETER", **more,
            )  # fmt: skip
    return path


def aperio(levels: Sequence[Pixels], mpp: float = 0.5) -> list[dict[str, Any]]:
    """What makes the levels of `write_tiles` an Aperio slide."""
    height, width = levels[0].shape[:2]
    text = f"Aperio Image Library v1\r\n{width}x{height} JPEG/RGB Q=95|AppMag = 20|MPP = {mpp}"
    return [{"description": text, "subfiletype": 0} for _ in levels]


def philips(downsamples: Sequence[int], mpp: float = 0.5) -> list[dict[str, Any]]:
    """What makes the levels of `write_tiles` a Philips slide: a description with the spacing of each level in mm."""

    def spacing(n: int) -> str:
        text = f"&quot;{mpp * n / 1000:.6f}&quot; " * 2
        return f'<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030">{text.strip()}</Attribute>'

    levels = "".join(f'<DataObject ObjectType="PixelDataRepresentation">{spacing(n)}</DataObject>' for n in downsamples)
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003"><Array>'
        f'<DataObject ObjectType="DPScannedImage">{spacing(1)}'
        '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004">WSI</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01">'
        f"<Array>{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )
    return [{"description": text, "software": "Philips DP v1.0"}, *({} for _ in downsamples[1:])]


def write_leica(path: Path, picture: Pixels, at: tuple[int, int], plane: tuple[int, int], mpp: float = 0.5) -> Path:
    """A Leica SCN: one scanned area in a larger plane, as OpenSlide reads it.

    Args:
        path: the file
        picture: uint8 (h, w, 3), the scanned area
        at: (x, y) of its corner in px of level 0
        plane: (width, height) of the whole plane in px of level 0
        mpp: µm/px
    """
    height, width = picture.shape[:2]
    macro = texture(plane[0] // 16, plane[1] // 16)
    nm = round(mpp * 1000)

    def image(ifd: int, size: tuple[int, int], x: int, y: int, area: tuple[int, int]) -> str:
        return (
            f'<image name="{ifd}" uuid="{ifd}"><creationDate>2012-01-01T00:00:00Z</creationDate>'
            '<device model="Leica SCN400" version="1.0"/>'
            f'<pixels sizeX="{size[0]}" sizeY="{size[1]}"><dimension sizeX="{size[0]}" sizeY="{size[1]}" r="0" '
            f'ifd="{ifd}"/></pixels><view sizeX="{area[0] * nm}" sizeY="{area[1] * nm}" offsetX="{x * nm}" '
            f'offsetY="{y * nm}" spacingZ="0"/><scanSettings><objectiveSettings><objective>20</objective>'
            "</objectiveSettings><illuminationSettings><numericalAperture>0.4</numericalAperture>"
            "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
        )

    images = image(0, (macro.shape[1], macro.shape[0]), 0, 0, plane) + image(1, (width, height), *at, (width, height))
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="a">'
        f'<collection name="c" uuid="b" sizeX="{plane[0] * nm}" sizeY="{plane[1] * nm}"><barcode>c</barcode>{images}'
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, array in enumerate((macro, picture)):
            tiff.write(
                array, tile=(256, 256), photometric="rgb", compression="jpeg", compressionargs={"level": 95},
                metadata=None, description=text if i == 0 else None, resolutionunit="CENTIMETER",
                resolution=(10_000 / mpp / (1 if i else 16),) * 2,
            )  # fmt: skip
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
