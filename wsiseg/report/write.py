"""Write a report about the files that a user names, and about what other commands have put beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from wsiseg.atomic import atomic_write
from wsiseg.errors import MismatchError, OutputError, StoreError
from wsiseg.qc.files import FLAGS
from wsiseg.report.quality import read_flags
from wsiseg.report.reference import read_evaluation
from wsiseg.report.results import is_results, results_report
from wsiseg.report.slide import Sources, slide_report
from wsiseg.report.tables import read_measurements
from wsiseg.report.training import is_run, training_report
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

NO_FILES = Sources()


def write_report(
    out: Path,
    about: Path,
    sources: Sources = NO_FILES,
    *,
    alone: bool = False,
    mpp: float | None = None,
    series: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make a page; the file appears whole or not at all, and replaces an earlier page.

    Args:
        out: the page
        about: a slide, the folder of a training run, or a folder with `slides/`
        sources: of a slide, its files; of a folder, none
        alone: use no other files; otherwise results of other commands are used too, see `with_found`
        mpp: µm/px of the slide
        series: which image of the slide's file, if it holds several
        say: is given a line about each file that was read or found

    Raises:
        OutputError: the place cannot be written, is a file that is read, or is no page
        StoreError: the folder is neither a run nor results, or a slide comes without objects
        WsisegError: see `slide_report`, `training_report` and `results_report`
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{out} has an unknown ending: use .html.")
    if out.resolve() in {path.resolve() for path in (about, *sources.files)}:
        raise OutputError(f"{out} is one of the files that are read: choose another name.")
    if is_run(about) or is_results(about):
        if sources.files:
            raise StoreError(f"{about} is a folder of results: outlines, reference, tables and flags go with a slide.")
        page = training_report(about) if is_run(about) else results_report(about)
    elif about.is_dir() and not sources.outlines:
        raise StoreError(f"{about} is neither a run of `wsiseg train` nor a folder with slides/: name one of these.")
    elif not sources.outlines:
        raise StoreError(f"{about} is a slide: name the outlines to report about after it.")
    else:
        with open_slide(about, mpp=mpp, series=series) as slide:
            every = sources if alone else with_found(sources, slide)
            for path in every.files:
                if path not in sources.files:
                    say(f"{path}: found beside the outlines, and in the page")
            page = slide_report(slide, every, say)
    with atomic_write(out) as sink:
        sink.write(page)


def with_found(sources: Sources, slide: Slide) -> Sources:
    """The same with what else there is of this slide, under the names that the commands give.

    These are `STEM-measurements`, `STEM-qc` and `STEM-evaluation.json` beside the objects, beside the slide and in the
    current folder; and beside the objects, as in the folder of a slide of `wsiseg run`, also `measurements`, `qc` and
    `evaluation.json`. An evaluation is not needed where there is a reference.
    """
    beside, stem = sources.outlines[0].parent, Path(slide.path).stem
    folders = dict.fromkeys([beside.absolute(), Path(slide.path).parent.absolute(), Path.cwd()])

    def places(name: str) -> Iterator[Path]:
        yield beside / name
        yield from (folder / f"{stem}-{name}" for folder in folders)

    def found(name: str, fits: Callable[[Path, Slide], bool]) -> Path | None:
        return next((path for path in places(name) if fits(path, slide)), None)

    return replace(
        sources,
        measurements=sources.measurements or found("measurements", _measured),
        quality=sources.quality or found("qc", _examined),
        evaluation=sources.evaluation or (None if sources.reference else found("evaluation.json", _evaluated)),
    )


def _measured(folder: Path, slide: Slide) -> bool:
    try:
        return (folder / "slides.csv").is_file() and read_measurements(folder).slides["slide"] == [slide.name]
    except StoreError:
        return False


def _examined(folder: Path, slide: Slide) -> bool:
    try:
        return (folder / FLAGS).is_file() and read_flags(folder, slide) is not None
    except (StoreError, MismatchError):
        return False


def _evaluated(path: Path, slide: Slide) -> bool:
    try:
        return path.is_file() and slide.name in read_evaluation(path)["slides"]
    except StoreError:
        return False
