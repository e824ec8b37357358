"""HuBMAP's "Hacking the Kidney" as a slide list with annotations.

    python pipelines/prepare_hubmap.py hubmap-kidney-segmentation --out runs/hubmap-kidney --mpp 0.5

reads, in the folder that the competition's archive unpacks to
(https://www.kaggle.com/competitions/hubmap-kidney-segmentation/data),

    train/ID.tiff                          slides
    train.csv                              id, encoding: the mask of all glomeruli as "start length start length …";
                                           pixels are counted from 1, down the first column, then down the second
    train/ID.json                          the same as a list of GeoJSON features, which QuPath wrote
    HuBMAP-20-dataset_information.csv      image_file, patient_number and more

and writes ID.geojson for each slide and slides.csv. Annotations come from the masks, whose pixel edges they follow; from
the features with `--from json`, and where train.csv has no mask. Every fifth patient validates. Slides without
annotations (test/) are left out. `--mpp` counts only where a file does not state its resolution.

Some of the slides hold red, green and blue as three pictures. Those are written again into the folder, as a tiled TIFF
with the same pixels (compressed without loss, some GB each); the others stay where they are.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import zarr
from numpy.typing import NDArray
from tifffile import TiffFile, TiffWriter

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.trace import trace
from wsiseg.atomic import translate_os_errors
from wsiseg.classes import ClassMap
from wsiseg.data.slides import SlideEntry, write_slides
from wsiseg.errors import AnnotationError, ResolutionError, SlideError, WsisegError
from wsiseg.geometry import Frame
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

CLASSES = ClassMap(("Background", "Glomerulus"))
BAND = 512  # columns of the slide at once
KEPT = 5  # of so many patients one validates


def polygons_of_mask(encoding: str, frame: Frame, name: str) -> Iterator[LabelledPolygon]:
    """The annotations of a run-length encoded mask, in level-0 pixels.

    Column by column is row by row for the transposed slide: that one is traced, in bands, and then turned back.

    Args:
        encoding: "start length …", counted from 1, top to bottom, then left to right
        frame: level 0
        name: for messages

    Raises:
        AnnotationError: these are no runs, or they leave the slide
    """
    try:
        numbers = np.array(encoding.split(), np.int64).reshape(-1, 2)
    except ValueError as error:
        raise AnnotationError(
            f"The mask of {name} is not a list of starts and lengths ({error}): download it again."
        ) from error
    starts, ends = numbers[:, 0] - 1, numbers[:, 0] - 1 + numbers[:, 1]
    if len(numbers) and (starts.min() < 0 or ends.max() > frame.width * frame.height or (starts[1:] < ends[:-1]).any()):
        raise AnnotationError(
            f"The mask of {name} does not fit its slide of {frame.width} × {frame.height} px: is it of another one?"
        )
    turned = Frame(frame.height, frame.width, frame.mpp_y, frame.mpp)
    for region in trace(_bands(starts, ends, turned), CLASSES, turned, turned):
        yield replace(region, polygon=shapely.transform(region.polygon, lambda xy: xy[:, ::-1]))


def _bands(starts: NDArray[np.int64], ends: NDArray[np.int64], turned: Frame) -> Iterator[NDArray[np.uint8]]:
    """(rows, turned.width) uint8, 1 in the runs."""
    for top in range(0, turned.height, BAND):
        rows = min(BAND, turned.height - top)
        first, behind = top * turned.width, (top + rows) * turned.width
        band = np.zeros(rows * turned.width, np.uint8)
        for start, end in zip(starts, ends, strict=True) if len(starts) else ():
            if start < behind and end > first:
                band[max(start, first) - first : min(end, behind) - first] = 1
        yield band.reshape(rows, turned.width)


def polygons_of_features(path: Path) -> list[LabelledPolygon]:
    """The glomeruli of a file of features."""
    found = read_annotations(path).polygons
    return [replace(r, label="Glomerulus") for r in found if (r.label or "").lower() == "glomerulus"]


def in_one_picture(path: Path, out: Path) -> Path:
    """The slide itself, or one with the same pixels in `out` where it holds its three colours as three pictures."""
    with TiffFile(path) as file:
        series = file.series[0]
        stack = series.keyframe.samplesperpixel == 1 and 3 in series.shape[:-2]
        if not stack or np.prod(series.shape[:-2]) != 3:
            return path
        target = out / path.name
        if target.exists():
            return target
        height, width = series.shape[-2:]
        tags = file.pages[0].tags
        known = ("XResolution", "YResolution", "ResolutionUnit")
        x, y, unit = (tags[name].value if name in tags else None for name in known)
        stated = {"resolution": (x, y), "resolutionunit": unit} if x and y and unit else {}
        planes = zarr.open(series.aszarr(), mode="r")  # decodes what is asked for, and no more
        with translate_os_errors(target):
            part = target.with_name(f".{target.name}.part")
            with TiffWriter(part, bigtiff=True) as made:
                made.write(
                    _tiles(planes, height, width), shape=(height, width, 3), dtype=np.uint8, tile=(BAND, BAND),
                    photometric="rgb", compression="zlib", metadata=None, **stated,
                )  # fmt: skip
            part.replace(target)
    return target


def _tiles(planes: Any, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """(rows, columns, 3) uint8, row by row, out of (…, 3, height, width)."""
    for y in range(0, height, BAND):
        band = np.asarray(planes[..., y : y + BAND, :]).reshape(3, -1, width).transpose(1, 2, 0)
        for x in range(0, width, BAND):
            yield np.ascontiguousarray(band[:, x : x + BAND])


def opened(path: Path, mpp: float | None) -> tuple[Slide, float | None]:
    """A slide, and its µm/px where the file does not state it."""
    try:
        return open_slide(path), None
    except ResolutionError:
        return open_slide(path, mpp=mpp), mpp


def table(path: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a CSV; empty where there is none."""
    if not path.exists():
        return {}
    csv.field_size_limit(2**30)  # a mask is one field of some 100 kB
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row[key]: row[value] for row in csv.DictReader(file) if row.get(key)}


def main() -> None:
    parser = argparse.ArgumentParser(description='HuBMAP\'s "Hacking the Kidney" as a slide list with annotations.')
    parser.add_argument("data", type=Path, help="the unpacked folder of the competition")
    parser.add_argument("--out", type=Path, required=True, help="where annotations and slides.csv go")
    parser.add_argument("--mpp", type=float, help="µm/px of slides that do not state it")
    parser.add_argument(
        "--from", dest="source", choices=("mask", "json"), default="mask", help="where the annotations come from"
    )
    args = parser.parse_args()
    slides = sorted((args.data / "train").glob("*.tif*"))
    if not slides:
        raise SlideError(f"There is no slide in {args.data / 'train'}: name the folder that the archive unpacks to.")
    masks = table(args.data / "train.csv", "id", "encoding")
    patients = table(args.data / "HuBMAP-20-dataset_information.csv", "image_file", "patient_number")
    order = sorted({patients.get(path.name, path.stem) for path in slides})
    with translate_os_errors(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in slides:
        features = path.with_suffix(".json")
        if path.stem not in masks and not features.exists():
            print(f"{path.name}: it has no annotations and is left out")
            continue
        whole = in_one_picture(path, args.out)
        slide, mpp = opened(whole, args.mpp)
        with slide:
            frame = slide.frame
        from_mask = path.stem in masks and not (args.source == "json" and features.exists())
        regions = polygons_of_mask(masks[path.stem], frame, path.name) if from_mask else polygons_of_features(features)
        annotations = args.out / f"{path.stem}.geojson"
        written = write_annotations(annotations, regions, classes=CLASSES, properties={"slide": path.name}, frame=frame)
        patient = patients.get(path.name, path.stem)
        split = "validation" if order.index(patient) % KEPT == KEPT - 1 else "train"
        rows.append(SlideEntry(whole.absolute(), annotations.absolute(), patient, split, mpp))
        print(f"{path.name}: {written}", flush=True)
    write_slides(args.out / "slides.csv", rows)


if __name__ == "__main__":
    try:
        main()
    except WsisegError as error:
        sys.exit(str(error))
