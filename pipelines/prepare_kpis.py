"""The whole slides of the KPIs challenge 2024 as a slide list with annotations.

    python pipelines/prepare_kpis.py KPIs24 --out runs/kpis-kidney --mpp 0.25 --mpp NEP25=0.5

looks below the given folder for

    …/train…/GROUP/NAME_wsi.tiff      slides of mouse kidneys, PAS; GROUP is 56Nx, DN, NEP25 or normal
    …/train…/GROUP/NAME_mask.tiff     their masks: 0 is nothing, anything else a glomerulus

or the same in folders GROUP/img and GROUP/mask (https://sites.google.com/view/kpis2024, KPIs task 2). It writes
NAME.geojson for each slide, whose annotations follow the pixel edges of the mask, and slides.csv. A folder above the
group whose name starts with train, val or test says on which side of the split a slide is; without one it is `train`.

`--mpp` is the µm/px of slides that do not state it, `--mpp GROUP=…` that of one group: not all were scanned at the
same magnification.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError

from wsiseg.annotations.formats import write_annotations
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
BAND = 512  # rows of the mask at once
SLIDE, MASK = "_wsi.tiff", "_mask.tiff"
SIDES = {"train": "train", "val": "validation", "test": "test"}


def polygons_of_mask(path: Path, level0: Frame) -> Iterator[LabelledPolygon]:
    """The annotations of a mask of the whole slide, at its own resolution or a coarser one, in level-0 pixels.

    Raises:
        AnnotationError: it is no mask, or has another shape than the slide
    """
    try:
        file = TiffFile(path)
    except (OSError, TiffFileError) as error:
        raise AnnotationError(f"{path} cannot be read ({error}): download it again.") from error
    with file:
        pixels = zarr.open(file.pages[0].aszarr(), mode="r")  # decodes what is asked for, and no more
        height, width = pixels.shape[:2]
        if abs(width / level0.width - height / level0.height) > 2 / min(level0.width, level0.height):
            raise AnnotationError(
                f"{path.name} has {width} × {height} px and its slide {level0.width} × {level0.height}: "
                "they are not of the same shape, so leave the slide out."
            )
        frame = Frame(width, height, level0.width * level0.mpp / width, level0.height * level0.mpp_y / height)
        yield from trace((_labels(pixels[y : y + BAND]) for y in range(0, height, BAND)), CLASSES, frame, level0)


def _labels(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, width) uint8, 1 where a mask of one or more channels is not 0."""
    return (rows.reshape(*rows.shape[:2], -1) != 0).any(-1).astype(np.uint8)


def mask_of(slide: Path) -> Path | None:
    """Where a slide's mask is."""
    name = slide.name.removesuffix(SLIDE) + MASK
    places = (slide.with_name(name), slide.parent.parent / "mask" / name)
    return next((place for place in places if place.exists()), None)


def group_of(slide: Path) -> str:
    """56Nx, DN, NEP25 or normal."""
    return slide.parent.parent.name if slide.parent.name == "img" else slide.parent.name


def side_of(slide: Path, data: Path) -> str:
    """The side of the split that the challenge put a slide on."""
    for part in reversed(slide.relative_to(data).parts[:-1]):
        for start, side in SIDES.items():
            if part.lower().startswith(start):
                return side
    return "train"


def opened(path: Path, mpp: dict[str, float]) -> tuple[Slide, float | None]:
    """A slide, and its µm/px where the file does not state it."""
    try:
        return open_slide(path), None
    except ResolutionError:
        said = mpp.get(group_of(path), mpp.get(""))
        return open_slide(path, mpp=said), said


def resolutions(words: list[str]) -> dict[str, float]:
    """Group, or nothing for all others -> µm/px."""
    pairs = [word.rpartition("=") for word in words]
    try:
        return {group: float(number) for group, _, number in pairs}
    except ValueError as error:
        raise ResolutionError(f"--mpp takes µm/px, as 0.25 or NEP25=0.5 ({error}).") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole slides of the KPIs challenge as a slide list.")
    parser.add_argument("data", type=Path, help="the folder of the challenge's whole slides")
    parser.add_argument("--out", type=Path, required=True, help="where annotations and slides.csv go")
    parser.add_argument("--mpp", action="append", default=[], help="µm/px, or GROUP=µm/px; may be repeated")
    args = parser.parse_args()
    mpp = resolutions(args.mpp)
    slides = sorted(args.data.rglob(f"*{SLIDE}"))
    if not slides:
        raise SlideError(f"There is no NAME{SLIDE} below {args.data}: name the folder of the challenge's whole slides.")
    with translate_os_errors(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in slides:
        name, mask = path.name.removesuffix(SLIDE), mask_of(path)
        slide, said = opened(path, mpp)
        with slide:
            frame = slide.frame
        annotations = None if mask is None else args.out / f"{name}.geojson"
        told = "no mask"
        if mask is not None and annotations is not None:
            about = {"slide": path.name, "group": group_of(path)}
            regions = polygons_of_mask(mask, frame)
            told = str(write_annotations(annotations, regions, classes=CLASSES, properties=about, frame=frame))
        listed = None if annotations is None else annotations.absolute()
        rows.append(SlideEntry(path.absolute(), listed, name, side_of(path, args.data), said))
        print(f"{group_of(path)}/{path.name}: {told}", flush=True)
    write_slides(args.out / "slides.csv", rows)


if __name__ == "__main__":
    try:
        main()
    except WsisegError as error:
        sys.exit(str(error))
