"""A million outlines in a real browser: the page stays small, answers at once, and shows what it should.

They go straight into the viewer's index, since reading them from a file takes minutes: what a browser gets is the same.
Skipped where no Chromium is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shapely

from tests.viewer.screen import Screen, serving
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.geometry import Frame
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.scene import Scene

COUNT, CELL = 1_000_000, 40  # outlines, and px from one to the next
SIDE = round(COUNT**0.5) * CELL
LEVEL0 = Frame(SIDE, SIDE, 0.25)
LEFT, TOP, WIDTH, HEIGHT = 5, 7, 25, 20  # of an outline in its cell, px
PAGE_BYTES = 600_000  # of the page, its scripts and all lists; OpenSeadragon alone has 350 kB
TILE_BYTES = 2_000_000  # of the tiles of a screen
BUSY_SECONDS = 2.0  # of the page's own thread, processor time, for all that is done here

# Bytes of all bodies that were loaded, as the network has them: [tiles, all else].
LOADED = """() => {
    const all = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
    const sum = (entries) => entries.reduce((bytes, e) => bytes + e.encodedBodySize, 0);
    return [sum(all.filter((e) => e.name.includes("/tiles/"))), sum(all.filter((e) => !e.name.includes("/tiles/")))];
}"""


def white(side: int) -> np.ndarray:
    """uint8 (side, side, 3) that takes no memory."""
    return np.broadcast_to(np.uint8(255), (side, side, 3))


@pytest.fixture(scope="module")
def address(browser: Any) -> Iterator[str]:
    """Of a viewer of a million rectangles, the classes by turns."""
    row, column = np.divmod(np.arange(COUNT), SIDE // CELL)
    x, y = column * CELL + LEFT, row * CELL + TOP
    shapes = shapely.box(x, y, x + WIDTH, y + HEIGHT)
    names = ("Nucleus", "Podocyte")
    layer = OutlineLayer("outlines", [LabelledPolygon(shape, names[n % 2]) for n, shape in enumerate(shapes)], LEVEL0)
    slide = Slide(MemoryBackend(white(SIDE), LEVEL0.mpp, (4, 16, 64), shrink=lambda n: white(SIDE // n)))
    with serving(Scene(slide, [layer], {0}, {})) as address:
        yield address


def test_the_page_stays_small_and_answers(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 1130, "height": 680}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    screen = Screen(context.new_page(), address)
    page = screen.page
    clock = context.new_cdp_session(page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.add_init_script("performance.setResourceTimingBufferSize(10000)")
    screen.open()
    assert "Podocyte (500,000)" in page.locator("#layers").inner_text()
    screen.told("#page", "1 to 50 of 1,000,000")
    tiles, rest = page.evaluate(LOADED)
    assert 0 < tiles < TILE_BYTES
    assert 100_000 < rest < PAGE_BYTES, "the page holds outlines that the server should paint"
    for _ in range(3):
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
    screen.settle()
    page.keyboard.press("n")
    screen.told("#status", "1 of 1,000,000")
    tiles, rest = page.evaluate(LOADED)
    assert 0 < tiles < 5 * TILE_BYTES
    assert rest < PAGE_BYTES
    assert page.evaluate("document.querySelectorAll('*').length") < 1000
    busy = {row["name"]: row["value"] for row in clock.send("Performance.getMetrics")["metrics"]}["TaskDuration"]
    assert 0 < busy < BUSY_SECONDS, "the page's thread is held up"
    context.close()
    assert screen.complaints == []


def test_they_land_to_the_pixel(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 1130, "height": 680}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    screen = Screen(context.new_page(), address)
    screen.open(f"#x={SIDE // 2}&y={SIDE // 2}&d=1")
    painted = (screen.pixels() != 255).any(-1)
    height, width = painted.shape
    y, x = ((np.arange(n) + SIDE // 2 - n // 2) % CELL for n in (height, width))
    wide, tall = (x >= LEFT) & (x < LEFT + WIDTH), (y >= TOP) & (y < TOP + HEIGHT)
    core = ((x >= LEFT + 2) & (x < LEFT + WIDTH - 2)), ((y >= TOP + 2) & (y < TOP + HEIGHT - 2))
    assert np.array_equal(painted, np.outer(tall, wide) & ~np.outer(core[1], core[0]))
    context.close()
    assert screen.complaints == []
