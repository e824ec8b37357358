"""Reports: what they say, that nothing in them is taken for HTML, and that they open by themselves."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from shapely.affinity import translate

from tests.slides.make import pyramid, texture, write_tiff
from tests.viewer.scenes import CLASSES, outlines, small_slide, write
from wsiseg.annotations.formats import write_annotations
from wsiseg.cli import wsiseg
from wsiseg.errors import MismatchError, OutputError, StoreError, WsisegError
from wsiseg.evaluation.agreement import agreement
from wsiseg.qc.examine import examine
from wsiseg.qc.files import write_quality
from wsiseg.report import charts
from wsiseg.report.images import bar_length, with_scale_bar
from wsiseg.report.page import document, legend, paragraph, section, table
from wsiseg.report.results import results_report
from wsiseg.report.slide import Sources, slide_report
from wsiseg.report.tables import declared, explained, read_measurements
from wsiseg.report.training import read_log, training_report
from wsiseg.report.write import write_report

HOSTILE = "<img src=x onerror=alert(1)>&\"'</style><script>alert(2)</script>"
PROGRAM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


class Page(HTMLParser):
    """Tags, text and what a page would load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check(page: bytes) -> Page:
    """What holds for every report."""
    read = Page(page)
    assert {tag for tag, _ in read.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "section", "div", "table",
        "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "script", "ul", "li", "svg", "rect",
    }  # fmt: skip
    assert read.all("script") == [{}], "one, and it is in the page"
    assert not any(name.startswith("on") or name == "style" for _, attributes in read.tags for name in attributes)
    assert len(read.all("h1")) == 1
    for image in read.all("img"):
        assert (image["src"] or "").startswith("data:image/")
        assert image["alt"], "every picture says what it shows"
    for cell in read.all("th"):
        assert cell["scope"] in ("row", "col")
    assert len(read.all("caption")) == len(read.all("table"))
    policy = next(a["content"] for a in read.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    return read


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A slide of stripes with outlines, a truth a little beside them, tables and flags, all under evil names."""
    slide = write_tiff(tmp_path / "slide.tif", pyramid(texture(1500, 1100), (2,)), mpp=0.5)
    said = write(tmp_path / "said.geojson", outlines())
    true = outlines()
    moved = [replace(r, polygon=translate(r.polygon, 5, 3)) for r in true[:9]]
    truth = write(tmp_path / "truth.geojson", moved)
    return {"slide": slide, "said": said, "truth": truth}


def command(*words: object) -> Any:
    return CliRunner().invoke(wsiseg, [str(w) for w in words])


def test_a_slide_with_everything(files: dict[str, Path], tmp_path: Path) -> None:
    tables, quality, out = tmp_path / "tables", tmp_path / "quality", tmp_path / "report.html"
    assert command("measure", files["slide"], files["said"], "--out", tables).exit_code == 0
    assert command("qc", files["slide"], "--out", quality).exit_code == 0
    words = ["report", files["slide"], files["said"], "--reference", files["truth"], "--out", out]
    done = command(*words, "--measurements", tables, "--qc", quality)
    assert done.exit_code == 0, (done.output, done.exception)
    page = check(out.read_bytes())
    for title in ("Overview", "Measurements", "Distributions", "Quality", "Compared with the reference", "Objects"):
        assert title in page.text
    assert "12 objects of said.geojson" in page.text
    assert "Look at tissue" in page.text, "a slide of 0.4 mm² has little"
    assert "mean_area_um2" in page.text
    assert "lowest IoU" in page.text
    assert "Missed" not in page.text, "nothing is"
    assert "Unmatched" in page.text
    assert "limits of agreement" in page.text
    first = out.read_bytes()
    assert command(*words, "--measurements", tables, "--qc", quality).exit_code == 0
    assert out.read_bytes() == first, "the same files give the same page"


def test_the_figures_of_the_truth_are_those_of_evaluate(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert command("report", files["slide"], files["said"], "--reference", files["truth"], "--out", out).exit_code == 0
    words = [
        "evaluate",
        "--slide",
        files["slide"],
        "--reference",
        files["truth"],
        "--prediction",
        files["said"],
        "--json",
    ]
    told = json.loads(command(*words).stdout)["pooled"]
    text = Page(out.read_bytes()).text
    for row in told["objects"].values():
        assert f"{row['reference']} {row['predicted']} {row['found']} {row['missed']} {row['unmatched']}" in text
    for line in told["confusion"]:
        assert " ".join(map(str, line)) in text
    assert f"{told['pixels']['Glomerulus']['iou']:.4g}" in text


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    slide = small_slide()
    named = [replace(r, label=HOSTILE if i % 2 else r.label) for i, r in enumerate(outlines())]
    classes = replace(CLASSES, names=(*CLASSES.names, HOSTILE), colours=(*CLASSES.colours, (1, 2, 3)))
    said = tmp_path / f"{HOSTILE.replace('/', '')}.geojson"
    evil = {"wsiseg": {"kind": HOSTILE, "model": {"name": HOSTILE, HOSTILE: [HOSTILE]}, "classes": classes.to_json()}}
    write_annotations(said, named, classes=classes, properties=evil)
    tables = tmp_path / "tables"
    tables.mkdir()
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    (tables / "slides.csv").write_text(f"slide,glomeruli,{quoted}\n{quoted},{quoted},{quoted}\n")
    (tables / "glomeruli.csv").write_text(f"slide,class,area_um2\n{quoted},{quoted},{quoted}\n")
    quality = tmp_path / "quality"
    write_quality(quality, slide, examine(slide))
    told = json.loads((quality / "flags.json").read_text())
    for flag in told["flags"]:
        flag.update(raised=True, name=HOSTILE, says=HOSTILE, limits=HOSTILE, unit=HOSTILE)
    (quality / "flags.json").write_text(json.dumps(told))
    page = check(slide_report(slide, Sources((said,), said, tables, quality)))
    assert page.text.count(HOSTILE) > 20
    run = tmp_path / "run"
    make_run(run, HOSTILE)
    assert HOSTILE in check(training_report(run)).text
    results = tmp_path / "results"
    make_results(results, HOSTILE.replace("/", ""))
    assert HOSTILE.replace("/", "") in check(results_report(results)).text


def test_nothing_to_see_is_a_page_too(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.geojson", [])
    page = check(slide_report(small_slide(), Sources((empty,))))
    assert "0 objects" in page.text
    assert "--measurements" in page.text
    page = check(slide_report(small_slide(), Sources((empty,), empty)))
    assert "Matched objects: 0" in page.text


def make_run(folder: Path, name: str) -> None:
    (folder / "pictures").mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"name": name, "method": {"name": name}}))
    lines = ["step,name,value"]
    for step in range(20, 220, 20):
        lines += [
            f"{step},loss,{1 / step}",
            f"{step},probe_auc,{0.5 + step / 1000}",
            f'{step},"{name.replace(chr(34), "")}",1',
        ]
        lines += [f"{step},Glomerulus/iou,{step / 250}", f"{step},Glomerulus/f1,{step / 220}"]
    (folder / "log.csv").write_text("\n".join([*lines, "220,lo"]))
    for step in range(20, 220, 20):
        Image.new("RGB", (30, 10), (step, 0, 0)).save(folder / "pictures" / f"step-{step:06d}.png")


def test_a_training_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "kidney")
    curves = read_log(tmp_path / "run" / "log.csv")
    assert curves["loss"][0].tolist() == list(range(20, 220, 20)), "a line that is being written is left out"
    out = tmp_path / "run.html"
    write_report(out, tmp_path / "run")
    page = check(out.read_bytes())
    assert "Training run kidney" in page.text
    assert "Probe of the discriminator" in page.text
    assert "loss: 0.05 at step 20, 0.005 at step 200" in page.text
    assert [w for w in page.words if re.fullmatch(r"Step \d+", w)] == [f"Step {s}" for s in (20, 60, 100, 160, 200)]
    (tmp_path / "run" / "log.csv").write_text("step,name,value\n1,loss\n2,loss,0.1\n")
    with pytest.raises(StoreError, match="line 2"):
        write_report(out, tmp_path / "run")


def make_results(folder: Path, name: str) -> None:
    for i, slide in enumerate((name, "b", "c.partial")):
        tables = folder / "slides" / slide / "measurements"
        tables.mkdir(parents=True)
        (tables / "slides.csv").write_text(
            f"slide,glomeruli,mean_area_um2,mean_area_um2_low,mean_area_um2_high\nx,{i},9,8,10\n"
        )
        (tables / "glomeruli.csv").write_text("slide,area_um2\n" + "".join(f"x,{7 * k}\n" for k in range(1, 9)))
    failed = {"name": "d", "state": "failed", "error": f"{name} is damaged."}
    (folder / "run.json").write_text(json.dumps({"recipe": name, "slides": [failed]}))


def test_many_slides(tmp_path: Path) -> None:
    make_results(tmp_path / "results", "a")
    page = check(results_report(tmp_path / "results"))
    assert "2 slides" in page.text, "what is unfinished does not count"
    assert "9 (8 to 10)" in page.text
    assert "Slides that failed: 1" in page.text
    assert "a is damaged." in page.text
    assert "16 objects, median 31.5" in page.text


def test_results_beside_the_outlines_are_taken_up(files: dict[str, Path], tmp_path: Path) -> None:
    out, said = tmp_path / "report.html", files["said"]
    assert command("measure", files["slide"], said, "--out", tmp_path / "slide-measurements").exit_code == 0
    assert command("qc", files["slide"], "--out", tmp_path / "slide-qc").exit_code == 0
    words = ["evaluate", "--slide", files["slide"], "--reference", files["truth"], "--prediction", said, "--json"]
    evaluation = tmp_path / "slide-evaluation.json"
    evaluation.write_text(command(*words).stdout)
    done = command("report", files["slide"], said, "--out", out)
    assert done.exit_code == 0, done.exception
    page = check(out.read_bytes())
    for part in ("mean_area_um2", "Look at tissue", "From slide-evaluation.json", "F1 (Dice)"):
        assert part in page.text
    for name in ("slide-measurements", "slide-qc", "slide-evaluation.json"):
        assert f"{tmp_path / name}: found beside" in done.output
    assert command("report", files["slide"], said, "--out", out, "--alone").exit_code == 0
    assert "mean_area_um2" not in check(out.read_bytes()).text
    # what is of another slide is not taken up, and said to be so where it was asked for
    for path, was, now in (
        (tmp_path / "slide-measurements" / "slides.csv", "slide.tif", "other.tif"),
        (evaluation, "slide.tif", "other.tif"),
    ):
        path.write_text(path.read_text().replace(was, now))
    write_quality(tmp_path / "slide-qc", small_slide(), examine(small_slide()))
    assert command("report", files["slide"], said, "--out", out).exit_code == 0
    text = check(out.read_bytes()).text
    assert "mean_area_um2" not in text
    assert "Look at" not in text
    assert "evaluate" not in text
    done = command("report", files["slide"], said, "--out", out, "--evaluation", evaluation)
    assert isinstance(done.exception, StoreError)


def test_a_legend_has_each_colour_beside_its_name() -> None:
    found = legend({"Glomerulus": (0, 114, 178), "<b>": (213, 94, 0)})
    pairs = re.findall(r'fill="rgb\((.*?)\)"/></svg> (.*?)</li>', found)
    assert pairs == [("0,114,178", "Glomerulus"), ("213,94,0", "&lt;b&gt;")]
    assert legend({}) == ""


def test_what_it_refuses(files: dict[str, Path], tmp_path: Path) -> None:
    slide, said, out = files["slide"], files["said"], tmp_path / "r.html"
    bare, other = tmp_path / "bare", tmp_path / "other"
    bare.mkdir()
    write_quality(other, small_slide(), examine(small_slide()))
    make_run(tmp_path / "run", "kidney")
    cases: list[tuple[list[object], type[WsisegError], str]] = [
        ([slide], StoreError, "name the outlines"),
        ([bare], StoreError, "neither a run"),
        ([slide, said, "--measurements", bare], StoreError, "slides.csv"),
        ([slide, said, "--qc", bare], StoreError, "flags.json"),
        ([slide, said, "--qc", other], MismatchError, "another slide"),
        ([slide, tmp_path / "none.geojson"], WsisegError, "none.geojson"),
        ([tmp_path / "run", said], StoreError, "go with a slide"),
        ([slide, said, "--out", tmp_path / "r.pdf"], OutputError, ".html"),
        ([slide, said, "--out", tmp_path / "no" / "r.html"], OutputError, "cannot be written"),
    ]
    for words, kind, part in cases:
        done = command("report", "--out", out, *words)
        assert isinstance(done.exception, kind), (words, done.exception)
        assert part in str(done.exception)
    assert not out.exists()
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(("count", "kind"), [(1, "One point"), (9, "One point"), (10, "Histogram"), (500, "Histogram")])
def test_few_objects_are_points_and_many_a_histogram(count: int, kind: str) -> None:
    said, svg = charts.distribution(np.arange(count) * 7.0, "area, µm²")
    assert said.startswith(kind)
    assert b"<svg" in svg


def test_far_outlines_and_odd_names_give_a_page(files: dict[str, Path], tmp_path: Path) -> None:
    """Corners at ± 10⁹ px, and a class whose name is half a surrogate pair, as JSON can express it."""
    far = [[-1e9, 100], [1e9, 100], [1e9, 900], [100, 900], [-1e9, 100]]
    near = [[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
         "properties": {"classification": {"name": name}}}
        for ring, name in ((far, "a"), (near, "b\ud800"))
    ]  # fmt: skip
    odd = tmp_path / "odd.geojson"
    odd.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    out = tmp_path / "odd.html"
    done = command("report", files["slide"], odd, "--out", out)
    if done.exit_code == 0:
        assert "Objects" in out.read_text(encoding="utf-8")
    else:  # the reader of outlines may refuse such a file in one sentence
        assert isinstance(done.exception, WsisegError)
        assert not out.exists()


def test_scale_bars_have_the_length_they_say() -> None:
    assert (bar_length(240, 1.0), bar_length(240, 0.25), bar_length(1600, 10)) == (50, 20, 5000)
    pixels = with_scale_bar(np.full((240, 240, 3), 128, np.uint8), 1.0)
    lowest = pixels[240 - 7, :, :]
    assert (lowest == 0).all(-1).sum() == 50


def test_plots_are_the_same_for_the_same_numbers() -> None:
    x = np.random.default_rng(0).uniform(1, 9, 40)
    matrix = np.array([[90, 10], [0, 0]])
    for plot in (
        lambda: charts.distribution(x, "µm²")[1],
        lambda: charts.distribution(x[:1], "µm²")[1],
        lambda: charts.distribution(np.full(12, 4e18), "µm²")[1],
        lambda: charts.curves({"$a$_{": (x, x), "b": (x, x + 1)}, "loss"),
        lambda: charts.bland_altman(x, x + 0.1, agreement(x, x * 1.1), "µm²"),
        lambda: charts.confusion(matrix, ("$x", "b")),
        lambda: charts.by_slide({"$y_": x, "none": x[:0]}, "µm²"),
    ):
        first = plot()
        assert first == plot()
        assert b"<svg" in first
        assert b"http" not in re.sub(
            rb'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>|<!DOCTYPE[^>]*>', b"", first, flags=re.S
        )


def test_measurements_have_units_and_intervals(tmp_path: Path) -> None:
    """A table of version 0.1, which said "share" for a fraction."""
    (tmp_path / "slides.csv").write_text(
        "slide,sclerotic_share,sclerotic_share_low,sclerotic_share_high,mpp_x\ns,0.25,0.1,,0.5\n"
    )
    (tmp_path / "glomeruli.csv").write_text("slide\n")
    rows = explained(read_measurements(tmp_path).slides, declared("kidney", "slides"))
    assert [row[:3] for row in rows] == [("mpp_x", "0.5 µm/px", ""), ("sclerotic_fraction", "0.25", "")]


def test_the_policy_allows_the_style_and_the_script_that_are_there() -> None:
    import hashlib

    page = document("t", "s", section("x", paragraph("y"), table("c", ["a"], [["b"]]))).decode()
    for tag in ("style", "script"):
        inner = re.search(rf"<{tag}>(.*)</{tag}>", page, re.DOTALL)
        assert inner is not None
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.split("<style>")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev extra)")
    if PROGRAM is None:
        pytest.skip("no browser: chromium is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=PROGRAM, args=[*flags, "--disable-component-update"])
        yield opened
        opened.close()


def test_the_slides_of_a_run_have_pictures_and_can_be_sorted(
    browser: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    for name, count in (("a", 3), ("b", 20), ("c", 9)):
        tables = results / "slides" / name / "measurements"
        tables.mkdir(parents=True)
        (tables / "slides.csv").write_text(f"slide,tissue_area_mm2\n{name},{count / 2}\n")
        (tables / "glomeruli.csv").write_text("slide,area_um2\n" + "".join(f"x,{7 * k}\n" for k in range(count)))
    (results / "slides" / "a" / "outlines.geojson").write_bytes(files["said"].read_bytes())
    known = [{"name": "a", "path": str(files["slide"]), "mpp": None}, {"name": "b", "path": str(tmp_path / "gone.svs")}]
    (results / "run.json").write_text(json.dumps({"slides": known}))
    out = tmp_path / "run.html"
    assert command("report", results, "--out", out).exit_code == 0
    read = check(out.read_bytes())
    assert [i["alt"] for i in read.all("img")][:1] == ["The slide a with its outlines"]
    page = browser.new_page(viewport={"width": 360, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(out.as_uri())

    def order() -> str:
        return "".join(page.locator("table.sortable").first.locator("tbody th").all_inner_texts())

    assert order() == "abc"
    objects = page.get_by_role("button", name="objects").first
    objects.click()
    assert order() == "acb", "numbers, not text"
    objects.click()
    assert order() == "bca"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "the table scrolls, not the page"
    wide = page.locator(".wide").first.evaluate("(e) => e.scrollWidth > e.clientWidth")
    assert wide
    assert complaints == []
    page.close()


def test_it_opens_in_a_browser_and_asks_for_nothing(browser: Any, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert command("report", files["slide"], files["said"], "--reference", files["truth"], "--out", out).exit_code == 0
    page = browser.new_page(viewport={"width": 360, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(out.as_uri())
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [out.as_uri()]
    sizes = page.evaluate("[...document.images].map((i) => i.complete ? i.naturalWidth : 0)")
    assert len(sizes) > 10
    assert min(sizes) > 0, "every picture is shown"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is wider than a small screen"
    assert page.evaluate("getComputedStyle(document.querySelector('h2')).borderBottomWidth") == "2px", (
        "the style counts"
    )
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
    page.close()
