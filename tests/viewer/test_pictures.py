"""The pictures of the documentation, made from what `wsiseg demo` makes:

    WSISEG_PICTURES=docs/pictures pytest tests/viewer/test_pictures.py

Without that variable nothing is drawn, and it is only looked whether every picture is there, small, and shown.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import wsiseg as api
from tests.viewer.screen import Screen, serving
from wsiseg.cli import wsiseg
from wsiseg.demo import SPEC, run_demo
from wsiseg.models import GLOMERULI
from wsiseg.slides.open import open_slide
from wsiseg.viewer.scene import open_scene

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 150_000
WIDE, NARROW = {"width": 1100, "height": 690}, {"width": 360, "height": 700}
PLOT_PX = 760
WHERE = os.environ.get("WSISEG_PICTURES")

PICTURES = {
    "viewer-outlines": "viewer",
    "viewer-review": "viewer",
    "viewer-truth": "viewer",
    "viewer-swipe": "viewer",
    "viewer-confidence": "viewer",
    "viewer-narrow": "viewer",
    "viewer-draw": "viewer",
    "viewer-tiles": "gallery",
    "report": "report",
    "report-truth": "report",
    "report-objects": "report",
    "report-run": "report",
    "plot-tiles": "gallery",
    "plot-objects": "gallery",
    "plot-compared": "gallery",
    "quality": "quality",
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_there_and_shown(name: str) -> None:
    path = ROOT / "docs" / "pictures" / f"{name}.webp"
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as picture:
        assert picture.width in (WIDE["width"], NARROW["width"], PLOT_PX)
    assert f"](pictures/{name}.webp)" in (ROOT / "docs" / f"{PICTURES[name]}.md").read_text(encoding="utf-8")


def test_no_picture_is_left_over() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
    assert [path.name for path in (ROOT / "docs" / "pictures").iterdir() if f"pictures/{path.name}" not in pages] == []


def prepare(folder: Path) -> None:
    """What a person has after `wsiseg demo`, with a label map of the glomeruli, measurements and flags besides."""
    run_demo(folder, device="cpu", engine="torch", say=print, report=lambda progress: None)
    slide, outlines, labels = (folder / name for name in ("slide.svs", "prediction.geojson", "labels.zarr"))
    many = folder / "many"
    many.mkdir()
    shutil.copy(slide, many / "demo.svs")
    judged = ["--reference", folder / "truth.geojson", "--measurements", folder / "tables", "--qc", folder / "quality"]
    for words in (
        ["predict", "--slide", slide, "--model", GLOMERULI, "--out", folder / "same.geojson", "--labels", labels],
        ["measure", slide, outlines, "--thickness-um", SPEC.thickness_um, "--out", folder / "tables"],
        ["qc", slide, "--out", folder / "quality"],
        ["report", slide, outlines, *judged, "--out", folder / "report.html"],
        ["synth", "--out", many / "folded.svs", "--size-mm", "3x2.5", "--mpp", 1, "--seed", 5, "--artefact", "fold"],
        ["synth", "--out", many / "pen.svs", "--size-mm", "3x2.5", "--mpp", 1, "--seed", 11, "--artefact", "pen",
         "--artefact", "blur"],
        ["qc", many / "pen.svs", "--out", folder / "pen"],
        ["run", ROOT / "pipelines" / "demo.toml", "--slides", many / "*.svs", "--model", GLOMERULI, "--out",
         folder / "run", "--stages", "qc,predict,measure"],
        ["report", folder / "run", "--out", folder / "run.html"],
    ):  # fmt: skip
        done = CliRunner().invoke(wsiseg, [str(word) for word in words])
        assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all of it."""
    if WHERE is None:
        pytest.skip("WSISEG_PICTURES is not set: it names the folder for the documentation's screenshots")
    folder = tmp_path_factory.mktemp("pictures") / "demo"
    prepare(folder)
    return folder


def keep(png: bytes, name: str, width: int | None = None) -> None:
    """Write a picture, with another width if there is one."""
    assert WHERE is not None
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if width is not None:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.save(Path(WHERE) / f"{name}.webp", quality=60, method=6)


def objects(screen: Screen) -> None:
    """Near a glomerulus of middle size, its podocytes inside."""
    screen.page.wait_for_selector("#list button")
    screen.page.keyboard.press("n")
    screen.settle()
    screen.page.keyboard.press("+")
    screen.page.evaluate("window.wsisegStage.mark([])")
    screen.page.evaluate("document.getElementById('panel').scrollTo(0, 0)")


def review(screen: Screen) -> None:
    """Some objects accepted, one rejected, the next one in view."""
    if not screen.page.locator("#panel").is_visible():  # folded away on a narrow screen
        screen.page.click("#show-panel")
    screen.page.wait_for_selector("#list button")
    screen.page.keyboard.press("n")
    for key, told in (("a", "1 accepted, 0"), ("a", "2 accepted, 0"), ("r", "2 accepted, 1"), ("a", "3 accepted, 1")):
        screen.page.keyboard.press(key)
        screen.told("#progress", told)
    screen.settle()
    screen.page.locator("#objects").scroll_into_view_if_needed()


def whole(screen: Screen) -> None:
    """As it opens."""


def swipe(screen: Screen) -> None:
    """Prediction left of a line, truth right of it, near a glomerulus."""
    screen.page.wait_for_selector("#list button")
    screen.page.keyboard.press("n")
    screen.settle()
    screen.page.evaluate("window.wsisegStage.mark([])")
    screen.layer(3).locator("legend input").uncheck()
    for number in (1, 2):
        screen.layer(number).locator("legend input").check()
    screen.page.select_option("#swipe-left", label="prediction.geojson")
    screen.page.select_option("#swipe-right", label="truth.geojson")
    screen.page.check("#swipe-on")


def tools(screen: Screen) -> None:
    """A polygon in the middle of being drawn."""
    objects(screen)
    screen.page.keyboard.press("d")
    size = screen.page.locator("#stage").bounding_box()
    for x, y in ((0.62, 0.30), (0.75, 0.34), (0.78, 0.55), (0.66, 0.62)):
        screen.page.mouse.click(size["x"] + x * size["width"], size["y"] + y * size["height"])


def tiles(screen: Screen) -> None:
    """The borders of the tiles over the whole slide, and the tissue."""
    screen.layer(1).locator("legend input").uncheck()
    for name in ("Tissue", "Tiles"):
        screen.page.locator("fieldset", has_text=name).first.locator("legend input").check()


def confidence(screen: Screen) -> None:
    """The confidence of a label map over the whole slide."""
    screen.layer(1).locator("legend input").uncheck()
    screen.layer(2).locator("legend input").check()


# Picture -> layers, truth, screen, and what a person does there.
VIEWS: dict[str, tuple[list[str], str | None, dict[str, int], Callable[[Screen], None]]] = {
    "viewer-outlines": (["prediction.geojson"], None, WIDE, objects),
    "viewer-review": (["prediction.geojson"], None, WIDE, review),
    "viewer-truth": (["prediction.geojson"], "truth.geojson", WIDE, whole),
    "viewer-swipe": (["prediction.geojson"], "truth.geojson", WIDE, swipe),
    "viewer-confidence": (["labels.zarr"], None, WIDE, confidence),
    "viewer-narrow": (["prediction.geojson"], None, NARROW, review),
    "viewer-draw": (["prediction.geojson"], None, WIDE, tools),
    "viewer-tiles": (["labels.zarr"], None, WIDE, tiles),
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_viewer_is_drawn(name: str, browser: Any, made: Path) -> None:
    paths, truth, size, act = VIEWS[name]
    with open_slide(made / "slide.svs") as slide:
        named = [made / path for path in paths]
        scene = open_scene(slide, named, reference=made / truth if truth else None)
        with serving(scene) as address:
            context = browser.new_context(viewport=size, reduced_motion="reduce")
            screen = Screen(context.new_page(), address)
            screen.open()
            act(screen)
            screen.settle()
            keep(screen.page.screenshot(), name)
            context.close()
    (made / "prediction.reviewed.geojson").unlink(missing_ok=True)
    assert screen.complaints == []


# Picture -> page and heading.
REPORTS = {
    "report": ("report.html", ""),
    "report-truth": ("report.html", "Compared with the reference"),
    "report-objects": ("report.html", "Objects"),
    "report-run": ("run.html", ""),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_is_drawn(name: str, browser: Any, made: Path) -> None:
    page = browser.new_page(viewport={"width": WIDE["width"], "height": 950})
    file, heading = REPORTS[name]
    page.goto((made / file).as_uri())
    if heading:
        page.get_by_role("heading", name=heading, exact=True).evaluate("(found) => found.scrollIntoView()")
    keep(page.screenshot(), name)
    page.close()


def drawn(figure: Any) -> bytes:
    """A figure of matplotlib as PNG."""
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()


def test_the_plots_are_drawn(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    slide = str(made / "slide.svs")
    tiles = api.tile(slide, out=tmp_path / "tiles.zarr", mpp=1.0, size=256)
    objects = api.read_annotations(made / "prediction.geojson", slide=slide)
    truth = api.read_annotations(made / "truth.geojson", slide=slide)
    compared = api.evaluate(slide, reference=truth, prediction=objects)
    keep(drawn(tiles.plot(8)), "plot-tiles", PLOT_PX)
    keep(drawn(objects.plot().figure), "plot-objects", PLOT_PX)
    keep(drawn(compared.plot().figure), "plot-compared", PLOT_PX)
    keep((made / "pen" / "picture.png").read_bytes(), "quality", PLOT_PX)
