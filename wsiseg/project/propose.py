"""Resolution, crop, steps and split from what was found: rules of thumb, and why, for a person to change."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from wsiseg.annotations.polygon import counted
from wsiseg.classes import canonical_name
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import RecipeError
from wsiseg.models import KIDNEY
from wsiseg.project.survey import Survey, SurveyedSlide

OBJECT_PX = 70  # width of the median object in the learnt picture: large enough for its shape, small enough for context
# µm/px to choose from
STEPS_UM = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
CROPS = (128, 192, 256, 384, 512)  # px
SURROUNDINGS = 2.5  # crop to width of a large object
UNLIKE = 6.0  # median widths of two classes that differ by more than this need two models
VALIDATION = 5  # every so many annotated patients, one is kept for validation
FEW = 5  # objects of a class
OBJECT = "Object"  # name of objects that nobody gave a class
TCGA = re.compile(r"TCGA-\w\w-\w{4}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the recipe will say.

    Attributes:
        classes: names without background, largest objects first, so that small ones are painted over them
        unclassed: whether objects without a class are given the name `OBJECT`
        mpp: µm/px to learn at
        crop: px
        batch: crops
        steps: updates
        width_um: median width of an object
        start: the name of a bundled model with these classes; "" where none fits
        min_object_um2: smaller objects are left out
        entries: the slide list
        notes: what a person should know about these choices, whole sentences
    """

    classes: tuple[str, ...]
    unclassed: bool
    mpp: float
    crop: int
    batch: int
    steps: int
    width_um: float
    start: str
    min_object_um2: float
    entries: tuple[SlideEntry, ...]
    notes: tuple[str, ...]


def propose(found: Survey, *, patient: str | None = None) -> Proposal:
    """Choose for a survey.

    Args:
        found: with at least one annotated object
        patient: regular expression whose first group, or whole match, in a slide's file name is its patient; by default
            the code of TCGA, or else each slide is a patient of its own

    Raises:
        RecipeError: no object is annotated, or the expression is not one
    """
    usable = [slide for slide in found.slides if slide.usable]
    if not any(slide.diameters for slide in usable):
        raise RecipeError(
            f"No slide in {found.place} has annotations that can be learnt: export them as GeoJSON beside the slides, "
            "each named like its slide."
        )
    notes: list[str] = []
    unclassed = set(found.objects) == {""}
    if found.objects[""] and not unclassed:
        notes.append(f"{found.objects['']} objects without a class are left out: give them one, or see [data.rename].")
    diameters = {
        OBJECT if unclassed else name: np.concatenate([s.diameters[name] for s in usable if name in s.diameters])
        for name in found.objects
        if name or unclassed
    }
    medians = {canonical_name(name): float(np.median(values)) for name, values in diameters.items()}
    classes = tuple(sorted(medians, key=lambda name: (-medians[name], name)))
    notes += [
        f"{name!r} has only {counted(len(diameters[name]), 'object')}: annotate more, or leave the class out."
        for name in classes
        if len(diameters[name]) < FEW
    ]
    if max(medians.values()) > UNLIKE * min(medians.values()):
        wide, narrow = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
        notes.append(
            f"{wide!r} is {max(medians.values()) / min(medians.values()):.0f} times as wide as {narrow!r}: two models, "
            "one inside the objects of the other, do better (docs/podocytes.md). This recipe suits the smaller ones."
        )
    width = min(medians.values())
    finest = max(float(slide.mpp or 0) for slide in usable if slide.diameters)
    start = _bundled(classes)
    mpp = _resolution(width, finest) if not start else max(_bundled_mpp(), finest)
    large = max(
        float(np.percentile(values, 90)) for name, values in diameters.items() if medians[name] <= UNLIKE * width
    )
    crop = next((px for px in CROPS if px >= SURROUNDINGS * large / mpp), CROPS[-1])
    entries, split = _split(found, usable, patient)
    notes += split
    learnt = sum(len(v) for s in usable for v in s.diameters.values() if _side(entries, s) == "train")
    steps = int(np.clip(round((120 if start else 240) * np.sqrt(max(learnt, 1)), -2), 300, 6000))
    areas = np.concatenate([values for slide in usable for values in slide.areas.values()])
    smallest = float(f"{0.3 * np.percentile(areas, 5):.1g}")
    return Proposal(
        classes, unclassed, mpp, crop, 8 if crop <= 256 else 4, steps, width, start, smallest, entries, tuple(notes)
    )


def _resolution(width: float, finest: float) -> float:
    """The µm/px of `STEPS_UM` at which an object is about `OBJECT_PX` wide, no finer than the slides are."""
    wanted = max(width / OBJECT_PX, finest)
    best = min(STEPS_UM, key=lambda mpp: abs(np.log(mpp / wanted)))
    return best if best >= finest * 0.98 else round(finest, 4)


def _bundled(classes: tuple[str, ...]) -> str:
    """The bundled model that knows these classes. One class of it is enough: its last layer is then learnt anew."""
    from wsiseg.json_text import read_json

    known = {row["name"] for row in read_json(KIDNEY / "model.json")["classes"]}
    return KIDNEY.name if set(classes) <= known else ""


def _bundled_mpp() -> float:
    from wsiseg.json_text import read_json

    return float(read_json(KIDNEY / "model.json")["usage"]["mpp"])


def _split(found: Survey, usable: list[SurveyedSlide], patient: str | None) -> tuple[tuple[SlideEntry, ...], list[str]]:
    """The slide list: one of five annotated patients for validation, unannotated slides for the test."""
    names = {slide.path: _patient(slide, patient) for slide in usable}
    objects: dict[str, int] = {}
    for slide in usable:
        if slide.diameters:
            objects[names[slide.path]] = objects.get(names[slide.path], 0) + sum(slide.objects.values())
    ranked = sorted(objects, key=lambda name: (-objects[name], name))
    kept: set[str] = set()
    wanted = max(1, round(len(ranked) / VALIDATION)) if len(ranked) > 1 else 0
    spread = ranked[min(VALIDATION, len(ranked)) // 2 :: VALIDATION]  # of all sizes, and the middle one of few
    for name in (*spread, *(name for name in ranked if name not in spread)):
        left = {c for s in usable if names[s.path] not in kept | {name} for c in s.diameters}
        if len(kept) < wanted and left == {c for s in usable for c in s.diameters}:
            kept.add(name)
    notes = []
    if not kept:
        notes.append("No slide can be spared for validation: annotate one more, so that you can see how well it goes.")
    if patient is None and not any(TCGA.match(slide.path.name) for slide in usable):
        notes.append("Each slide counts as a patient of its own: correct the column `patient`, or use --patient.")
    entries = []
    for slide in usable:
        name = names[slide.path]
        side = "validation" if name in kept else "train" if name in objects else "test"
        annotations = slide.annotations if slide.diameters else None
        entries.append(SlideEntry(slide.path, annotations, name, side, None if slide.stated else slide.mpp))
    return tuple(entries), notes


def _patient(slide: SurveyedSlide, pattern: str | None) -> str:
    try:
        match = TCGA.match(slide.path.name) if pattern is None else re.search(pattern, slide.path.name)
    except re.error as error:
        raise RecipeError(f"--patient {pattern!r} is not a regular expression ({error}): correct it.") from error
    return (match[1] if match.re.groups else match[0]) if match else slide.path.stem


def _side(entries: tuple[SlideEntry, ...], slide: SurveyedSlide) -> str:
    return next(entry.split for entry in entries if entry.slide == slide.path)
