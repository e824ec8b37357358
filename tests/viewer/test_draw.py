"""Drawing and correcting with a real mouse and keyboard in a real browser.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shapely import LineString, Polygon

from tests.viewer.conftest import PREDICTION
from tests.viewer.scenes import outlines
from tests.viewer.screen import Screen
from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.viewer.scene import Scene

SIZE = len(outlines())
CORNERS = [(1180.0, 90.0), (1310.0, 100.0), (1290.0, 230.0), (1190.0, 200.0)]
BAR = outlines()[11].polygon  # a box of 200 × 50 px


def drawn(served: tuple[str, Scene]) -> list[LabelledPolygon]:
    """What the reviewed file has of the person's hand."""
    found = read_annotations(served[1].reviews[PREDICTION].path).polygons
    return [p for p in found if "wsiseg" in p.details.metadata]


def alike(one: Any, other: Any) -> float:
    """Intersection over union."""
    return one.intersection(other).area / one.union(other).area


def refused(screen: Screen, sentence: str) -> None:
    """Wait for a sentence on the page; the browser notes the refusal in its console."""
    screen.until("() => document.querySelector('#status.bad')")
    assert sentence in screen.status()
    assert "400" in screen.complaints.pop()


def click_corners(screen: Screen) -> None:
    screen.page.keyboard.press("d")
    for corner in CORNERS:
        screen.page.mouse.click(*screen.at(*corner))


def test_a_polygon_is_drawn_undone_and_still_there_after_a_reload(screen: Screen, served: tuple[str, Scene]) -> None:
    place = "#x=1245&y=160&d=1"
    screen.open(place)
    page, bare = screen.page, screen.pixels()
    page.select_option("#draw-class", "Sclerotic glomerulus", force=True)
    click_corners(screen)
    screen.page.mouse.move(*screen.at(1400, 160))
    page.keyboard.press("Enter")
    screen.told("#progress", "1 of 13 reviewed: 1 accepted")
    screen.settle()
    (found,) = drawn(served)
    assert alike(found.polygon, Polygon(CORNERS)) > 0.97
    assert (found.label, found.details.metadata) == ("Sclerotic glomerulus", {"wsiseg": "drawn by hand"})
    seen = screen.pixels()
    assert (seen != bare).any(-1).sum() > 500
    assert "Sclerotic glomerulus (1)" in screen.layer(PREDICTION).inner_text()
    assert page.locator(".selected-object").count() == 1

    page.keyboard.press("z")
    screen.told("#progress", "0 of 12")
    screen.settle()
    assert np.array_equal(screen.pixels(), bare)
    assert drawn(served) == []
    page.keyboard.press("Control+Shift+Z")
    screen.told("#progress", "1 of 13")
    screen.open(place)
    assert np.array_equal(screen.pixels(), seen), "after a reload it is there"
    assert [p.polygon.wkt for p in drawn(served)] == [found.polygon.wkt]


def test_round_an_object_in_one_go_and_escape(screen: Screen, served: tuple[str, Scene]) -> None:
    screen.open("#x=1245&y=160&d=1")
    page = screen.page
    click_corners(screen)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    screen.drag(*CORNERS, CORNERS[0])
    screen.told("#progress", "1 of 13")
    (found,) = drawn(served)
    assert alike(found.polygon, Polygon(CORNERS)) > 0.97
    view = screen.view()
    page.keyboard.press("Escape")
    screen.drag((1245, 160), (1205, 130))
    screen.settle()
    assert screen.view()["x"] > view["x"] + 20, "without a tool the slide moves"
    assert len(drawn(served)) == 1


def test_brush_eraser_and_split(screen: Screen, served: tuple[str, Scene]) -> None:
    screen.open("#x=800&y=90&d=1")
    page = screen.page
    page.click("#show-tools")
    page.get_by_role("button", name="Brush").click()
    screen.drag((720, 65), (720, 130))
    screen.told("#progress", "1 of 12")
    wanted = BAR | LineString([(720, 65), (720, 130)]).buffer(14)
    (found,) = drawn(served)
    assert alike(found.polygon, wanted) > 0.98
    assert found.details.metadata == {"wsiseg": "corrected by hand"}

    page.keyboard.press("e")
    for _ in range(3):
        page.keyboard.press("[")
    radius = 14 / 1.25**3
    screen.drag((896, 20), (896, 110))
    screen.until("() => document.querySelector('#list [aria-current=true]').textContent.includes('2,')")
    page.wait_for_timeout(300)
    wanted = wanted - LineString([(896, 20), (896, 110)]).buffer(radius)
    (found,) = drawn(served)
    assert alike(found.polygon, wanted) > 0.98

    page.keyboard.press("x")
    screen.drag((800, 10), (806, 140))
    screen.told("#progress", "2 of 13")
    pieces = drawn(served)
    assert len(pieces) == 2
    assert alike(pieces[0].polygon | pieces[1].polygon, wanted) > 0.98
    screen.drag((1100, 30), (1110, 140))
    refused(screen, "divides no object")

    page.keyboard.press("m")
    screen.told("#progress", "1 of 12")
    for expected in (2, 1, 1, 0):
        page.keyboard.press("z")
        page.wait_for_timeout(400)
        assert len(drawn(served)) == expected
    assert screen.page.locator("#status.bad").count() == 0


def test_several_objects_are_selected_and_deleted(screen: Screen, served: tuple[str, Scene]) -> None:
    screen.open("#x=800&y=300&d=2")
    page = screen.page
    places = [region.polygon.representative_point() for region in outlines()]
    page.mouse.click(*screen.at(800, 65))
    screen.told("#status", "2,500 µm²")
    page.keyboard.down("Shift")
    page.mouse.click(*screen.at(places[6].x, places[6].y))
    page.keyboard.up("Shift")
    screen.told("#status", "2 objects selected")
    assert page.locator(".selected-object").count() == 2
    page.keyboard.press("2")
    screen.told("#progress", "2 accepted, 0 rejected")
    page.keyboard.press("Delete")
    screen.told("#progress", "0 accepted, 2 rejected")
    ids = [p.id for p in read_annotations(served[1].reviews[PREDICTION].source).polygons]
    left = {p.id for p in read_annotations(served[1].reviews[PREDICTION].path).polygons}
    assert set(ids) - left == {ids[6], ids[11]}
    screen.told("#status", "is saved")  # later, it would replace what the next key is told
    page.keyboard.press("Escape")
    assert page.locator(".selected-object").count() == 0
    page.keyboard.press("Delete")
    refused(screen, "Select an object first")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_tools_fit(browser: Any, served: tuple[str, Scene], width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 700}, reduced_motion="reduce", has_touch=True)
    screen = Screen(context.new_page(), served[0])
    screen.open()
    screen.page.click("#show-tools")
    tools, stage = (screen.page.locator(name).bounding_box() for name in ("#tools", "#stage"))
    assert tools["x"] >= stage["x"]
    assert tools["x"] + tools["width"] <= stage["x"] + stage["width"]
    covered = screen.page.evaluate(
        "[...document.querySelectorAll('#tools button')].filter((b) => { const r = b.getBoundingClientRect();"
        " return document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2) !== b; }).map((b) => b.textContent)"
    )
    assert covered == []
    assert tools["height"] < 0.4 * stage["height"], "the slide has the room"
    context.close()
    assert screen.complaints == []
