"""The page in a real browser: what is seen, to the pixel, and what a person does with it.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.viewer.conftest import COMPARED, LABELS, PREDICTION
from tests.viewer.scenes import CLASSES, FRAME, outlines
from tests.viewer.screen import Screen
from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.rasterise import rasterise
from wsiseg.geometry import Box
from wsiseg.viewer.scene import Scene


def seen(screen: Screen, level: int, x: int, y: int) -> tuple[np.ndarray, Box]:
    """What is on the screen at a level and which box of that level it should be; x, y in px of the level."""
    n = 2**level
    screen.open(f"#x={x * n}&y={y * n}&d={n}")
    got = screen.pixels()
    height, width = got.shape[:2]
    assert width % 2 == 0
    assert height % 2 == 0
    return got, Box(x - width // 2, y - height // 2, width, height)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_slide_and_its_outlines_land_to_the_pixel(screen: Screen, served: tuple[str, Scene], level: int) -> None:
    scene = served[1]
    frame = scene.pyramid.frame(level)
    got, box = seen(screen, level, frame.width // 2, frame.height // 2)
    inside = box.overlap(frame.box)
    part = inside.relative_to(box).slices
    slide, got = scene.slide.read(inside, frame).astype(int), got[part].astype(int)
    labels = rasterise(read_annotations(scene.reviews[PREDICTION].source).polygons, CLASSES, inside, frame, FRAME)
    assert 1000 < (labels > 0).sum() < 0.6 * labels.size
    bare = labels == 0
    assert np.abs(got - slide)[bare].mean() < 5
    assert np.abs(got[:, 1:] - slide[:, :-1])[bare[:, 1:]].mean() > 7, "one pixel away would be seen"
    # the outlines alone, on the white of the page
    screen.page.evaluate("window.wsisegStage.viewer.world.getItemAt(0).setOpacity(0)")
    screen.layer(PREDICTION).locator(".fill").check()
    screen.settle()
    alone = screen.pixels()[part].astype(int)
    wrong = np.argwhere((alone != 255).any(-1) != (labels > 0))
    assert len(wrong) == 0, f"{len(wrong)} px, the first at {wrong[0] + (inside.y, inside.x)}, row first"
    for number, about in enumerate(scene.layers[PREDICTION].describe()["classes"][:2]):
        line = (alone == about["colour"]).all(-1)
        assert line.sum() > 50
        assert (labels[line] == number + 1).all(), "a line lies in its own object"


def test_zoom_pan_and_the_address(screen: Screen) -> None:
    screen.open()
    page, home = screen.page, screen.view()
    assert (home["x"], home["y"]) == (750, 550)
    page.keyboard.press("+")
    screen.settle()
    assert screen.view()["d"] == pytest.approx(home["d"] / 1.6)
    page.keyboard.press("ArrowRight")
    screen.settle()
    assert screen.view()["x"] > home["x"] + 100
    page.locator("#stage").hover()
    page.mouse.wheel(0, -300)
    screen.settle()
    near = screen.view()
    assert near["d"] < home["d"] / 1.7
    page.mouse.down()
    page.mouse.move(300, 300, steps=4)
    page.wait_for_timeout(300)
    page.mouse.up()
    screen.settle()
    assert screen.view()["x"] != near["x"]
    screen.until("() => location.hash.includes('d=')")
    moved, address = screen.view(), page.url
    screen.open("#" + address.split("#")[1])
    assert screen.view() == pytest.approx(moved, abs=1)
    page.evaluate("location.hash = '#x=100&y=200&d=0.5'")
    screen.settle()
    assert screen.view()["d"] == pytest.approx(0.5)
    assert screen.view()["x"] < moved["x"], "the address leads to another place"
    page.evaluate("location.hash = '#x=abc&y=&d=-1'")
    page.keyboard.press("h")
    screen.settle()
    assert screen.view() == pytest.approx(home)


def test_the_scale_bar_tells_the_truth(screen: Screen) -> None:
    for d, zoom in ((1, "20×"), (2, "10×"), (0.5, "40×")):
        screen.open(f"#x=750&y=550&d={d}")
        text = screen.page.locator("#ruler-text").inner_text()
        width = screen.page.locator("#ruler-bar").bounding_box()["width"]
        assert width * d * 0.5 == pytest.approx(float(text.removesuffix(" µm")), rel=0.01)
        assert screen.page.locator("#zoom-text").inner_text() == zoom


def test_layers_can_be_changed(screen: Screen, served: tuple[str, Scene]) -> None:
    screen.open("#x=750&y=550&d=2")
    page, box = screen.page, screen.layer(PREDICTION)
    lines = screen.pixels()
    box.locator(".fill").check()
    screen.settle()
    filled = screen.pixels()
    assert (filled != lines).any(-1).mean() > 0.01
    box.locator("li input[type=checkbox]").first.uncheck()
    screen.settle()
    fewer = screen.pixels()
    assert not np.array_equal(fewer, filled)
    box.locator("li input[type=checkbox]").first.check()
    box.locator("input[type=color]").first.fill("#ff00ff")
    screen.settle()
    pink = screen.pixels()
    assert ((pink == (255, 0, 255)).all(-1)).sum() > 100
    box.locator("input[type=range]").fill("0")
    screen.settle()
    clear = screen.pixels()
    page.keyboard.press("o")
    screen.settle()
    assert np.array_equal(screen.pixels(), clear), "of no opacity is as good as not shown"
    page.keyboard.press("o")
    box.locator("legend input").uncheck()
    for number in (0, LABELS, 3, COMPARED, 6):
        screen.layer(number).locator("legend input").check()
        screen.settle()
        assert not np.array_equal(screen.pixels(), clear), number
        screen.layer(number).locator("legend input").uncheck()
    screen.settle()
    assert np.array_equal(screen.pixels(), clear)


def test_swipe(screen: Screen) -> None:
    screen.open("#x=750&y=550&d=2")
    page = screen.page
    screen.layer(PREDICTION).locator("legend input").uncheck()
    screen.settle()
    bare = screen.pixels()
    page.select_option("#swipe-left", label="prediction.geojson")
    page.select_option("#swipe-right", label="labels.zarr")
    page.check("#swipe-on")
    screen.settle()
    changed = (screen.pixels() != bare).any(-1)
    middle = changed.shape[1] // 2
    assert changed[:, middle + 2 :].mean() > 0.3, "the label map is right of the line"
    assert 0 < changed[:, : middle - 2].mean() < 0.1, "and the outlines are left of it"
    page.locator("#swipe-at").fill("0")
    screen.settle()
    assert (screen.pixels() != bare).any(-1)[:, 2:middle].mean() > 0.2


def test_two_layers_in_turn(screen: Screen) -> None:
    screen.open("#x=750&y=550&d=2")
    page, shown = screen.page, [screen.layer(n).locator("legend input") for n in (PREDICTION, LABELS)]
    outlines_alone = screen.pixels()
    for expected in ((False, True), (True, False)):
        page.keyboard.press("t")
        screen.settle()
        assert tuple(box.is_checked() for box in shown) == expected
        assert np.array_equal(screen.pixels(), outlines_alone) == expected[0]
    page.keyboard.press("s")
    screen.settle()
    assert page.locator("#swipe-line").is_visible()
    assert all(box.is_checked() for box in shown)
    page.keyboard.press("t")
    screen.settle()
    assert not page.locator("#swipe-line").is_visible()
    assert sum(box.is_checked() for box in shown) == 1


def test_the_list_flies_to_its_objects(screen: Screen) -> None:
    screen.open()
    page, regions = screen.page, outlines()
    order = sorted(range(len(regions)), key=lambda n: -regions[n].polygon.area)
    for place in (0, 1):
        page.keyboard.press("n")
        screen.settle()
        left, top, right, bottom = regions[order[place]].polygon.bounds
        view = screen.view()
        assert (view["x"], view["y"]) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=1)
        assert f"{place + 1} of {len(regions)}" in screen.status()
    page.keyboard.press("p")
    screen.settle()
    assert page.locator("#list [aria-current=true]").inner_text().startswith("1.")
    page.select_option("#objects-sort", "score")
    page.uncheck("#objects-descending")
    page.locator("#list button").first.click()
    screen.settle()
    assert "0.05" in page.locator("#list [aria-current=true]").inner_text()
    page.select_option("#objects-class", label="Vessel")
    screen.listed(4)


def test_a_review_by_keyboard_becomes_annotations(screen: Screen, served: tuple[str, Scene]) -> None:
    source = served[1].reviews[PREDICTION].source
    order = sorted(range(len(outlines())), key=lambda n: -outlines()[n].polygon.area)
    screen.open()
    page = screen.page
    done = page.locator("#progress")
    page.keyboard.press("n")
    for key, told in (
        ("a", "1 accepted, 0 rejected"),
        ("r", "1 accepted, 1 rejected"),
        ("3", "2 accepted, 1 rejected"),
    ):
        page.wait_for_timeout(100)
        page.keyboard.press(key)
        screen.told("#progress", told)
    screen.settle()
    assert done.inner_text().startswith("3 of 12 reviewed")
    assert "Rejected (1)" in screen.layer(PREDICTION).inner_text()
    path = source.with_name("prediction.reviewed.geojson")
    found = {r.id: r.label for r in read_annotations(path).polygons}
    ids = [r.id for r in read_annotations(source).polygons]
    assert found[ids[order[0]]] == outlines()[order[0]].label
    assert ids[order[1]] not in found
    assert found[ids[order[2]]] == "Sclerotic glomerulus"
    # the vessel in an accepted glomerulus is part of it: a person's statement wins over none
    assert sorted(found.values()).count("Ignore*") == len(ids) - 4
    page.click("#accept-rest")
    screen.told("#progress", "12 of 12")
    assert "Ignore*" not in {r.label for r in read_annotations(path).polygons}
    page.select_option("#objects-state", "rejected")
    screen.listed(1)


def test_a_click_finds_the_object(screen: Screen) -> None:
    screen.open("#x=800&y=65&d=1")
    screen.page.mouse.click(*screen.at(800, 65))
    screen.told("#status", "2,500 µm²")


def test_a_narrow_screen_and_labels(browser: Any, served: tuple[str, Scene]) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640}, reduced_motion="reduce")
    screen = Screen(context.new_page(), served[0])
    screen.open()
    page = screen.page
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361)"
        ".map(e => e.outerHTML)"
    )
    wide = [e for e in wide if "openseadragon" not in e and "canvas" not in e]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert wide == []
    assert not page.locator("#panel").is_visible(), "the slide has the room"
    page.click("#show-panel")
    assert page.locator("#panel").is_visible()
    assert page.locator("#show-panel").get_attribute("aria-expanded") == "true"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(e => !(e.textContent.trim() || e.ariaLabel"
        " || e.labels?.[0]?.textContent.trim())).map(e => e.outerHTML)"
    )
    assert unnamed == []
    for _ in range(60):  # everything that can be used is reached with the tabulator
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "next":
            break
    else:
        raise AssertionError("the keyboard does not reach the objects")
    page.keyboard.press("Enter")
    screen.told("#status", "1 of 12")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    context.close()
    assert screen.complaints == []


@pytest.mark.parametrize("width", [320, 360, 701, 1280, 2000])
def test_it_opens_on_the_whole_slide(browser: Any, served: tuple[str, Scene], width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640}, reduced_motion="reduce")
    screen = Screen(context.new_page(), served[0])
    screen.open()

    def whole() -> bool:
        view = screen.view()
        size = screen.page.evaluate("(({x, y}) => [x, y])(window.wsisegStage.size())")
        fits = view["d"] * size[0] >= FRAME.width and view["d"] * size[1] >= FRAME.height
        tight = view["d"] <= 1.1 * max(FRAME.width / size[0], FRAME.height / size[1])
        return fits and tight and abs(view["x"] - FRAME.width / 2) < 2 and abs(view["y"] - FRAME.height / 2) < 2

    assert whole()
    screen.page.click("#show-panel")
    screen.page.set_viewport_size({"width": width + 120, "height": 500})
    screen.settle()
    assert whole(), "still after the window and the panel changed"
    for _ in range(3):
        screen.page.keyboard.press("+")
    screen.page.set_viewport_size({"width": width, "height": 640})
    screen.settle()
    assert not whole(), "a person's own view is left alone"
    context.close()


def test_dark_where_the_person_wants_it(browser: Any, served: tuple[str, Scene]) -> None:
    for scheme, other in (("light", "dark"), ("dark", "light")):
        context = browser.new_context(viewport={"width": 900, "height": 640}, color_scheme=scheme)
        screen = Screen(context.new_page(), served[0])

        def seen(screen: Screen = screen) -> str:
            colour = screen.page.evaluate("getComputedStyle(document.body).backgroundColor")
            brightness = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
            assert brightness > 600 or brightness < 150
            return "light" if brightness > 600 else "dark"

        screen.open()
        assert seen() == scheme
        for expected in (other, scheme, other):
            assert screen.page.inner_text("#theme").lower() == expected, "the button says what it leads to"
            screen.page.click("#theme")
            assert seen() == expected
        screen.open()
        assert seen() == other, "the choice is kept"
        context.close()


def test_errors_are_shown(browser: Any, served: tuple[str, Scene]) -> None:
    context = browser.new_context(viewport={"width": 800, "height": 600})
    page = context.new_page()
    page.goto(served[0] + "no/such/page")
    assert "There is nothing at this address." in page.inner_text("body")
    page.get_by_role("link", name="Back to the slide").click()
    page.wait_for_selector("body[data-ready=yes]")
    path = served[1].reviews[PREDICTION].path
    path.mkdir()
    page.wait_for_selector("#list button")
    page.keyboard.press("a")
    page.wait_for_selector("#status.bad")
    assert "cannot be written" in page.inner_text("#status")
    path.rmdir()
    context.close()
