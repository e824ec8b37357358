"""Draw labels and polygons over an image, for people."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import atomic_write
from wsiseg.classes import IGNORE, ClassMap, Colour
from wsiseg.errors import OutputError
from wsiseg.geometry import Frame


def paint(image: np.ndarray, labels: np.ndarray, classes: ClassMap, strength: float = 0.45) -> np.ndarray:
    """(h, w, 3) uint8: the image with its labels laid over it in the classes' colours, ignored pixels darkened."""
    colours = np.zeros((256, 3), np.float32)
    colours[: len(classes)] = classes.colours
    painted = (1 - strength) * image + strength * colours[labels]
    keep = (labels == 0)[..., None]
    out = np.where(keep, image, painted)
    return np.where((labels == IGNORE)[..., None], 0.6 * image, out).astype(np.uint8)


def picture_grid(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: ClassMap) -> np.ndarray:
    """(rows · h, 3 · w, 3) uint8 from (image (h, w, 3), reference (h, w), prediction (h, w)) of equal size."""
    gap = 4
    lines = []
    for image, reference, prediction in rows:
        parts = [image, paint(image, reference, classes), paint(image, prediction, classes)]
        lines.append(np.concatenate([np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in parts], 1))
    return np.concatenate(lines)


def draw_outlines(
    image: np.ndarray, frame: Frame, layers: Iterable[tuple[Iterable[LabelledPolygon], Colour]], level0: Frame, width: int = 2,
    corner: tuple[int, int] = (0, 0),
) -> np.ndarray:  # fmt: skip
    """(h, w, 3) uint8: a picture of the slide, or of a part of it, with the outlines of polygons over it.

    Args:
        image: (h, w, 3) uint8, the pixels of `frame`
        frame: plane of the picture
        layers: polygons in level-0 pixels with the colour of their outlines; later ones on top
        level0: plane of the polygons
        width: px of the line
        corner: (x, y) of the picture's first pixel in its frame
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    (sx, sy), (left, top) = level0.scale_to(frame), corner
    for polygons, colour in layers:
        for item in polygons:
            for polygon in getattr(item.polygon, "geoms", [item.polygon]):
                for ring in (polygon.exterior, *polygon.interiors):
                    draw.line(
                        [(x * sx - left, y * sy - top) for x, y in ring.coords], fill=colour, width=width, joint="curve"
                    )
    return np.asarray(picture)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (h, w, 3) or (h, w) uint8 as PNG or JPEG; the file appears whole or not at all.

    Raises:
        OutputError: the ending is unknown, or the place cannot be written
    """
    kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path} has an unknown ending: use .png or .jpg.")
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format=kind)
    with atomic_write(path) as sink:
        sink.write(encoded.getvalue())
