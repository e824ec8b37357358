"""Write a report about the files that a user names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsiseg.atomic import atomic_write
from wsiseg.errors import OutputError, StoreError
from wsiseg.report.beside import Beside, find_beside
from wsiseg.report.results import is_results, results_report
from wsiseg.report.slide import Sources, slide_report
from wsiseg.report.training import is_run, training_report
from wsiseg.slides.open import open_slide


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is about, as a person says it.

    Attributes:
        results: a slide, the folder of a training run, or a folder with `slides/`
        outlines: of the slide
        reference, measurements, quality: see `wsiseg.report.slide.Sources`; of a slide only
        evaluation: see `wsiseg.report.slide.Sources`
        alone: use nothing but what is named here; otherwise the results of other commands that lie beside the outlines
            are used too, see `wsiseg.report.beside`
        mpp: µm/px of the slide
        class_of_rest: the class of all annotations that have none
        series: which image of the slide's file, if it holds several
    """

    results: Path
    outlines: tuple[Path, ...] = ()
    reference: Path | None = None
    measurements: Path | None = None
    quality: Path | None = None
    mpp: float | None = None
    class_of_rest: str | None = None
    series: int | None = None
    evaluation: Path | None = None
    alone: bool = False

    @property
    def others(self) -> tuple[Path, ...]:
        """All files that only a slide's report takes."""
        return (*self.outlines, *(p for p in self._named if p is not None))

    @property
    def _named(self) -> tuple[Path | None, ...]:
        return self.reference, self.measurements, self.quality, self.evaluation


def write_report(out: Path, wanted: Wanted, say: Callable[[str], None] = lambda line: None) -> None:
    """Make a page; the file appears whole or not at all, and replaces an earlier page.

    Raises:
        OutputError: the place cannot be written, is a file that is read, or is no page
        StoreError: the folder is neither a run nor results, or a slide has no outlines with it
        WsisegError: see `slide_report`, `training_report` and `results_report`
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{out} has an unknown ending: use .html.")
    if out.resolve() in {path.resolve() for path in (wanted.results, *wanted.others)}:
        raise OutputError(f"{out} is one of the files that are read: choose another name.")
    page = _page(wanted, say)
    with atomic_write(out) as sink:
        sink.write(page)


def _page(wanted: Wanted, say: Callable[[str], None]) -> bytes:
    folder = wanted.results
    if is_run(folder) or is_results(folder):
        if wanted.others:
            raise StoreError(f"{folder} is a folder of results: outlines, reference, tables and flags go with a slide.")
        return training_report(folder) if is_run(folder) else results_report(folder)
    if folder.is_dir() and not wanted.outlines:
        raise StoreError(f"{folder} is neither a run of `wsiseg train` nor a folder with slides/: name one of these.")
    if not wanted.outlines:
        raise StoreError(f"{folder} is a slide: name the outlines to report about after it.")
    with open_slide(folder, mpp=wanted.mpp, series=wanted.series) as slide:
        beside = Beside() if wanted.alone else find_beside(slide, wanted.outlines[0])
        sources = Sources(
            wanted.outlines, wanted.reference, wanted.measurements or beside.measurements,
            wanted.quality or beside.quality, wanted.evaluation or (None if wanted.reference else beside.evaluation),
            wanted.class_of_rest,
        )  # fmt: skip
        for path in (sources.measurements, sources.quality, sources.evaluation):
            if path is not None and path not in wanted.others:
                say(f"{path}: found beside the outlines, and in the page")
        return slide_report(slide, sources, say)
