"""Look at a folder of slides and annotations, or at a QuPath project; nothing is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wsiseg.annotations.formats import FORMATS
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import counted
from wsiseg.classes import Colour, states_nothing
from wsiseg.data.qupath import read_project
from wsiseg.errors import ResolutionError, SlideError, WsisegError
from wsiseg.slides.open import SUFFIXES, open_slide, suffix_of
from wsiseg.slides.slide import Slide

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # slides only where annotations of the same name lie beside them
ENDINGS = sorted({s for form in FORMATS.values() if form.read for s in (*form.suffixes, *form.read_only)}, key=len)
FOUND = ".wsiseg.geojson"  # what the script in QuPath's menu finds, which nobody has drawn
LOOK_PX = 400  # longer side of the picture in which the stain is guessed


@dataclass(frozen=True, slots=True)
class SurveyedSlide:
    """A slide and what lies beside it.

    Attributes:
        path: the slide
        annotations: file of its annotations; None where there is none
        mpp: µm/px of level 0; None where nobody states it
        stated: whether `mpp` stands in the slide itself
        size: (width, height) in px of level 0
        stain: a guess from the colours, for people
        diameters: class -> diameter in µm of the circle of equal area, of each object; "" stands for no class
        areas: class -> area of each object in µm²
        problems: what a person should know or mend, half a sentence each
    """

    path: Path
    annotations: Path | None = None
    mpp: float | None = None
    stated: bool = True
    size: tuple[int, int] = (0, 0)
    stain: str = ""
    diameters: dict[str, tuple[float, ...]] = field(default_factory=dict)
    areas: dict[str, tuple[float, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the slide can be read and its resolution is known."""
        return self.mpp is not None

    @property
    def objects(self) -> Counter[str]:
        """How many annotated objects of each class it has."""
        return Counter({name: len(all_of) for name, all_of in self.diameters.items()})


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        place: the folder, or the project
        slides: in the order of their paths
        orphans: annotation files that belong to no slide
        colours: class -> the colour that the annotations give it
    """

    place: Path
    slides: tuple[SurveyedSlide, ...]
    orphans: tuple[Path, ...] = ()
    colours: dict[str, Colour] = field(default_factory=dict)

    @property
    def objects(self) -> Counter[str]:
        """How many annotated objects of each class there are on usable slides."""
        return sum((slide.objects for slide in self.slides if slide.usable), Counter())


def survey(place: Path, *, mpp: float | None = None) -> Survey:
    """Look at a folder, with all folders in it, or at a QuPath project.

    Annotations belong to the slide whose name theirs begins with: `a.svs` has `a.geojson`, `a.svs.geojson` or
    `a-outlines.geojson`.

    Args:
        place: a folder, or a file that ends in .qpproj
        mpp: µm/px of the slides that do not state it

    Raises:
        SlideError: there is no slide
    """
    if suffix_of(place) == ".qpproj":
        found = [(image.slide, image.mpp, image.drawn) for image in read_project(place) if image.slide is not None]
        files = list(_files(place.parent))
    else:
        if not place.is_dir():
            raise SlideError(f"{place} is no folder and no project of QuPath (.qpproj): check the path.")
        files = list(_files(place))
        found = [(path, None, False) for path in files if _is_slide(path, files)]
    if not found:
        raise SlideError(f"There is no slide in {place}: give the folder in which your slides and annotations lie.")
    owned, orphans = _owners([path for path, _, _ in found], [path for path in files if _is_annotation(path)])
    colours: dict[str, Colour] = {}
    slides = []
    for path, known_mpp, drawn in found:
        beside = owned.get(path, [])
        slide = _look(path, beside[0] if beside else None, known_mpp or mpp, colours)
        problems = list(slide.problems)
        if len(beside) > 1:
            problems.append(f"it has several files of annotations, of which {beside[0].name} is taken")
        if drawn and not beside:
            problems.append("QuPath has data of it that is not exported")
        slides.append(replace(slide, problems=tuple(problems)))
    names = Counter(slide.path.stem for slide in slides)
    slides = [
        replace(slide, problems=(*slide.problems, "another slide has the same file name"))
        if names[slide.path.stem] > 1 else slide
        for slide in slides
    ]  # fmt: skip
    return Survey(place, tuple(slides), tuple(orphans), colours)


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and the folders in it, sorted; OME-Zarr images count as files."""
    for here, folders, names in os.walk(folder):
        base = Path(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if name not in images]
        yield from (base / name for name in sorted([*images, *names]) if not name.startswith("."))


def _is_annotation(path: Path) -> bool:
    return path.name.lower().endswith(tuple(ENDINGS)) and not path.name.endswith(FOUND) and not path.is_dir()


def _is_slide(path: Path, files: Iterable[Path]) -> bool:
    suffix = suffix_of(path)
    if suffix not in SUFFIXES or not suffix:
        return False
    if path.is_dir():  # an OME-Zarr image has a description of it at the top; label maps and tiles have none
        return "multiscales" in _text(path / ".zattrs") + _text(path / "zarr.json")
    if suffix in PICTURES:
        return any(_is_annotation(other) and _belongs(other, path) for other in files)
    if suffix == ".dcm":  # a DICOM slide has many files in one folder
        return path == min(other for other in files if other.parent == path.parent and suffix_of(other) == suffix)
    return True


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _belongs(annotations: Path, slide: Path) -> bool:
    name, stem = annotations.name.casefold(), slide.stem.casefold()
    return name.startswith(stem) and (len(name) == len(stem) or not name[len(stem)].isalnum())


def _owners(slides: list[Path], files: list[Path]) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Slide -> its annotation files, that of the shortest name first; and the files of no slide."""
    owned: dict[Path, list[Path]] = {}
    orphans = []
    for file in files:
        fitting = [slide for slide in slides if _belongs(file, slide)]
        if not fitting:
            orphans.append(file)
            continue
        # a-1.svs and a.svs: a-1.geojson belongs to the longer name. Of two slides of a name, that of the nearer folder.
        best = max(fitting, key=lambda slide: (len(slide.stem), len(os.path.commonpath([slide.parent, file.parent]))))
        owned.setdefault(best, []).append(file)
    return {slide: sorted(own, key=lambda f: (len(f.name), f)) for slide, own in owned.items()}, orphans


def _look(path: Path, annotations: Path | None, mpp: float | None, colours: dict[str, Colour]) -> SurveyedSlide:
    """Open a slide and its annotations; what is wrong becomes a problem."""
    entry = SurveyedSlide(path, annotations)
    try:
        try:
            slide, stated = open_slide(path), True
        except ResolutionError:
            if mpp is None:
                raise
            slide, stated = open_slide(path, mpp=mpp), False
    except WsisegError as error:
        return replace(entry, problems=(str(error).rstrip("."),))
    with slide:
        frame = slide.frame
        entry = replace(
            entry, mpp=max(frame.mpp, frame.mpp_y), stated=stated, size=(frame.width, frame.height),
            problems=slide.cautions,
        )  # fmt: skip
        try:
            entry = replace(entry, stain=guess_stain(slide))
            return entry if annotations is None else _with_objects(entry, slide, annotations, colours)
        except WsisegError as error:
            return replace(entry, annotations=None, problems=(*entry.problems, str(error).rstrip(".")))


def _with_objects(entry: SurveyedSlide, slide: Slide, file: Path, colours: dict[str, Colour]) -> SurveyedSlide:
    intake = take_in(file, slide)
    um2 = slide.frame.mpp * slide.frame.mpp_y
    areas: dict[str, list[float]] = {}
    for item in intake.polygons:
        if item.label is None or not states_nothing(item.label):
            areas.setdefault(item.label or "", []).append(item.polygon.area * um2)
    for name, colour in intake.annotations.colours.items():
        colours.setdefault(name, colour)
    summary, problems = intake.summary, list(entry.problems)
    if "model" in intake.annotations.about:
        problems.append(f"{file.name} was predicted by wsiseg: use it once somebody has corrected it")
    if not areas:
        problems.append(f"{file.name} has no object that can be learnt")
    told = (
        (summary.without_class, "without a class"), (summary.duplicates, "given twice"),
        (summary.outside, "outside the slide"), (summary.repaired, "repaired"),
    )  # fmt: skip
    problems += [f"{counted(number, 'outline')} {what}" for number, what in told if number]
    problems += [f"{number} {kind} skipped" for kind, number in sorted(summary.skipped.items())]
    kept = {name: tuple(values) for name, values in areas.items()}
    wide = {name: tuple(2 * (area / np.pi) ** 0.5 for area in values) for name, values in kept.items()}
    return replace(entry, areas=kept, diameters=wide, problems=tuple(problems))


def guess_stain(slide: Slide) -> str:
    """A guess of the stain from the mean colour of what is no glass, in a small picture of the slide."""
    pixels, _ = slide.thumbnail(LOOK_PX)
    flat = pixels.reshape(-1, 3).astype(float)
    if np.median(flat) < 60:
        return "dark: fluorescence?"
    stained = flat[(flat.max(axis=1) - flat.min(axis=1) > 15) | (flat.max(axis=1) < 190)]
    if len(stained) < 50:
        return ""
    red, green, blue = stained.mean(axis=0)
    if max(red, green, blue) - min(red, green, blue) < 12:
        return "grey: silver?"
    if red > blue + 15 and green > blue:
        return "brown: DAB?"
    if green <= min(red, blue):
        return "pink to purple: H&E or PAS?"
    return "blue or green: trichrome?"
