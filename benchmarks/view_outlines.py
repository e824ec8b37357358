"""How long the viewer takes for a tile, and for a screen, with very many outlines.

    python benchmarks/view_outlines.py [--objects 100000 1000000] [--browser]

The outlines have 24 corners and lie in a lattice on a slide that grows with their number, at the density of nuclei.
A tile is 512 × 512 px, and a screen 1920 × 1080 px, 20 tiles, made one after the other in one thread: a table row says
what the slowest tile of such a screen took, and all of them. With `--browser` a real Chromium shows the middle of the
slide and is moved for five seconds: frame times, the tiles being made meanwhile (`playwright` and Chromium needed).
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator

import numpy as np
import shapely
import uvicorn

from wsiseg.geometry import Frame
from wsiseg.regions.region import Region
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide
from wsiseg.viewer.app import make_app
from wsiseg.viewer.outlines import OutlineLayer
from wsiseg.viewer.pyramid import TILE, Pyramid
from wsiseg.viewer.scene import Scene
from wsiseg.viewer.serve import listen
from wsiseg.viewer.style import Style, png

CELL, CORNERS = 40, 24  # px between two outlines, and corners of each
SCREEN = (5, 4)  # tiles
MPP = 0.25


def outlines(count: int) -> list[Region]:
    """Wavy circles of about 28 px, one in every cell of a square lattice."""
    random = np.random.default_rng(0)
    side = int(np.ceil(count**0.5))
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    wave = 1 + 0.1 * np.sin(3 * angle)
    centre = (np.stack(np.divmod(np.arange(count), side)[::-1], 1) + 0.5) * CELL
    radius = random.uniform(10, 18, count)[:, None] * wave
    corners = centre[:, None, :] + np.stack([np.cos(angle), np.sin(angle)], -1)[None] * radius[..., None]
    names = ("Nucleus", "Podocyte")
    return [Region(shape, names[n % 2], score=0.5) for n, shape in enumerate(shapely.polygons(corners))]


def screens(pyramid: Pyramid, level: int) -> Iterator[tuple[int, int]]:
    """The tiles of a screen in the middle of a level."""
    frame = pyramid.frame(level)
    across, down = -(-frame.width // TILE), -(-frame.height // TILE)
    left, top = max(0, (across - SCREEN[0]) // 2), max(0, (down - SCREEN[1]) // 2)
    for row in range(top, min(top + SCREEN[1], down)):
        for column in range(left, min(left + SCREEN[0], across)):
            yield column, row


def tiles(layer: OutlineLayer, pyramid: Pyramid, count: int) -> None:
    """One table row for every level."""
    for level in range(pyramid.levels):
        frame, took, size, most = pyramid.frame(level), [], 0, 0
        for column, row in screens(pyramid, level):
            box = pyramid.tile(level, column, row)
            assert box is not None
            start = time.perf_counter()
            body = png(*layer.tile(box, frame, Style()))
            took.append(time.perf_counter() - start)
            size = max(size, len(body))
            most = max(most, len(layer.shapes.meeting(box, frame)))
        print(
            f"| {count:,} | {2**level} | {most:,} | {1e3 * np.median(took):.1f} | {1e3 * max(took):.1f} "
            f"| {1e3 * sum(took):.0f} | {size / 1e3:.0f} |",
            flush=True,
        )


def glass(side: int) -> np.ndarray:
    """uint8 (side, side, 3) of one colour, which takes no memory."""
    return np.broadcast_to(np.uint8(240), (side, side, 3))


def frames(layer: OutlineLayer, side: int, count: int) -> None:
    """Frame times of a browser that moves over the outlines."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("There is no chromium here: install it, or leave --browser out.")
    slide = Slide(MemoryBackend(glass(side), MPP, (4, 16, 64), shrink=lambda n: glass(side // n)))
    listener = listen("127.0.0.1", 0)
    app = make_app(Scene(slide, [layer], {0}, {}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        for d in (1, 8):
            page.goto("about:blank")
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/#x={side // 2}&y={side // 2}&d={d}")
            page.wait_for_selector("body[data-ready=yes]")
            time.sleep(3)  # what is loaded at the start is not a frame of the movement
            took = page.evaluate(MOVE)
            print(f"| {count:,} | {d} | {np.median(took):.1f} | {np.percentile(took, 95):.1f} |", flush=True)
        browser.close()
    server.should_exit = True


MOVE = """() => new Promise((resolve) => {
    const took = [];
    const began = performance.now();
    let before = began;
    const step = (now) => {
        took.push(now - before);
        before = now;
        if (now - began > 5000) resolve(took.slice(1));
        else {
            if (took.length % 20 === 0) window.wsisegStage.pan(0.2, 0.05);
            requestAnimationFrame(step);
        }
    };
    requestAnimationFrame(step);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--browser", action="store_true", help="frame times in Chromium too")
    options = parser.parse_args()
    made = []
    for count in options.objects:
        side = int(np.ceil(count**0.5)) * CELL
        regions = outlines(count)
        start = time.perf_counter()
        layer = OutlineLayer("outlines", regions, Frame(side, side, MPP))
        print(
            f"{count:,} outlines on {side:,} × {side:,} px: indexed in {time.perf_counter() - start:.1f} s", flush=True
        )
        made.append((count, side, layer))
        layer.tile(Pyramid(Frame(64, 64, MPP)).frame(0).box, Frame(64, 64, MPP), Style())  # compiles
    print("\n| outlines | zoomed out | most outlines in a tile | ms per tile, median | slowest | ms per screen | kB |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for count, side, layer in made:
        tiles(layer, Pyramid(Frame(side, side, MPP)), count)
    if options.browser:
        print("\n| outlines | zoomed out | ms per frame, median | 95 % below |\n|--:|--:|--:|--:|")
        for count, side, layer in made:
            frames(layer, side, count)


if __name__ == "__main__":
    main()
