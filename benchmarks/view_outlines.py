"""How the viewer fares with very many outlines: tiles of the server, and frames of a browser.

    python benchmarks/view_outlines.py                                            # tiles alone
    python benchmarks/view_outlines.py --browser --page docs/results/viewer.md    # both, and the page of results

The outlines have 24 corners and lie in a lattice on a slide that grows with their number, at the density of nuclei;
the slide itself is of one colour, so that next to nothing but the outlines is measured. `--browser` needs `playwright`
and Chromium, and tells what moving over each slide is like, next to the slide without outlines.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import uvicorn

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import atomic_write
from wsiseg.geometry import Frame
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
WINDOW = {"width": 1920, "height": 1080}
SECONDS = 5  # of each movement

HEAD = """# The viewer with very many outlines

```
python benchmarks/view_outlines.py --browser --page docs/results/viewer.md
```

writes this page. The outlines have 24 corners each and are about 28 px wide, one in every 40 × 40 px, as dense as
nuclei, so that a slide with ten times as many has ten times the area. Times are from one machine with two cores, for
both the server and the browser; the ratios say more than the milliseconds.
"""

TILES = """
## The server

Tiles of 512 × 512 px in the middle of the slide, made one after the other in one thread. A screen of 1920 × 1080 px
shows 20 of them or fewer. Indexing follows the reading of the file, which takes longer and is not in here.
"""

BROWSER = """
## The browser

Chromium without a window and without a graphics card, 1920 × 1080 px, the panel open, outlines drawn as lines. The
slide is of one colour. A *frame* is the time from one `requestAnimationFrame` to the next while the view moves without
a stop for five seconds: in a figure of eight, 1.1 screens a second, at 1 or 2 level-0 px per px of the screen; or from
the whole slide to 0.5 and back. The screen is renewed every 16.7 ms, so less cannot be seen. *Sharp* are frames in
which every tile of the view is there in its own resolution; in the others coarser tiles stand in for some. The time
until all is sharp counts from the last step of the movement, which itself takes up to 0.4 s to come to rest.
"""

# The view moves for some seconds; resolves to [ms of each frame, share of frames with all tiles, tiles loaded].
MOVE = """([kind, seconds]) => new Promise((resolve) => {
    const stage = window.wsisegStage, { viewer } = stage;
    const from = stage.view(), took = [];
    const tiles = () => performance.getEntriesByType("resource").filter((e) => e.name.includes("/tiles/")).length;
    const sharp = () => [...Array(viewer.world.getItemCount()).keys()]
        .every((n) => viewer.world.getItemAt(n).getFullyLoaded());
    const place = (t) => kind === "zoom"
        ? { ...from, d: from.d * (0.5 / from.d) ** Math.sin(Math.PI * t) ** 2 }
        : { x: from.x + 1500 * from.d * Math.sin(2 * Math.PI * t),
            y: from.y + 1500 * from.d * Math.sin(4 * Math.PI * t), d: from.d };
    const before = tiles();
    let began, last, whole = 0;
    const step = (now) => {
        began ??= now;
        if (last !== undefined) took.push(now - last);
        last = now;
        whole += sharp() ? 1 : 0;
        const t = (now - began) / 1000 / seconds;
        stage.go(place(Math.min(t, 1)));
        if (t < 1) requestAnimationFrame(step);
        else resolve([took, whole / (took.length + 1), tiles() - before]);
    };
    requestAnimationFrame(step);
})"""

SHARP = """() => {
    const { viewer } = window.wsisegStage;
    const items = [...Array(viewer.world.getItemCount()).keys()].map((n) => viewer.world.getItemAt(n));
    const asked = window.wsisegOverlays.layers.filter((layer) => layer.shown).length;
    return items.length === asked + 1 && items.every((item) => item.getFullyLoaded()) && !viewer.isAnimating();
}"""

# Bytes of the body of all that was loaded, as the network has them: [tiles, all else].
LOADED = """() => {
    const all = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
    const sum = (entries) => entries.reduce((bytes, e) => bytes + e.encodedBodySize, 0);
    return [sum(all.filter((e) => e.name.includes("/tiles/"))), sum(all.filter((e) => !e.name.includes("/tiles/")))];
}"""

Figures = dict[str, dict[str, float]]  # title of a table -> its rows


def outlines(count: int) -> list[LabelledPolygon]:
    """Wavy circles of about 28 px, one in every cell of a square lattice."""
    random = np.random.default_rng(0)
    side = int(np.ceil(count**0.5))
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    wave = 1 + 0.1 * np.sin(3 * angle)
    centre = (np.stack(np.divmod(np.arange(count), side)[::-1], 1) + 0.5) * CELL
    radius = random.uniform(10, 18, count)[:, None] * wave
    corners = centre[:, None, :] + np.stack([np.cos(angle), np.sin(angle)], -1)[None] * radius[..., None]
    names = ("Nucleus", "Podocyte")
    return [LabelledPolygon(shape, names[n % 2], score=0.5) for n, shape in enumerate(shapely.polygons(corners))]


def side_of(count: int) -> int:
    """Width and height of the slide of so many outlines, in level-0 px."""
    return int(np.ceil(count**0.5)) * CELL


def screen(pyramid: Pyramid, level: int) -> Iterator[tuple[int, int]]:
    """The tiles of a screen in the middle of a level."""
    frame = pyramid.frame(level)
    across, down = -(-frame.width // TILE), -(-frame.height // TILE)
    left, top = max(0, (across - SCREEN[0]) // 2), max(0, (down - SCREEN[1]) // 2)
    for row in range(top, min(top + SCREEN[1], down)):
        for column in range(left, min(left + SCREEN[0], across)):
            yield column, row


def tiles(layer: OutlineLayer, pyramid: Pyramid) -> Figures:
    """What the tiles of a screen take, at every level."""
    figures: Figures = {}
    for level in range(pyramid.levels):
        frame, took, size, most = pyramid.frame(level), [], 0, 0
        for column, row in screen(pyramid, level):
            box = pyramid.tile(level, column, row)
            assert box is not None
            start = time.perf_counter()
            body = png(*layer.tile(box, frame, Style()))
            took.append(1e3 * (time.perf_counter() - start))
            size = max(size, len(body))
            most = max(most, layer.shapes.meeting(box, frame))
        for title, value in (
            ("Annotations in the fullest tile", most),
            ("Milliseconds a tile, median", float(np.median(took))),
            ("Milliseconds a tile, slowest", max(took)),
            ("Milliseconds a screen, up to 20 tiles", sum(took)),
            ("Kilobytes, the largest tile", size / 1e3),
        ):
            figures.setdefault(title, {})[f"{2**level} level-0 px per px"] = value
    return figures


def glass(side: int) -> np.ndarray:
    """uint8 (side, side, 3) of one colour, which takes no memory."""
    return np.broadcast_to(np.uint8(240), (side, side, 3))


@contextmanager
def served(layers: list[OutlineLayer], side: int) -> Iterator[str]:
    """The address of a viewer of these layers over a slide of one colour."""
    slide = Slide(MemoryBackend(glass(side), MPP, (4, 16, 64), shrink=lambda n: glass(side // n)))
    listener = listen("127.0.0.1", 0)
    app = make_app(Scene(slide, list(layers), set(range(len(layers))), {}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def until_sharp(page: Any) -> float:
    """Milliseconds until every tile of the view is there and nothing moves."""
    began = time.perf_counter()
    while not page.evaluate(SHARP):
        if time.perf_counter() - began > 120:
            raise SystemExit("Tiles are missing after two minutes: this is no measurement.")
        time.sleep(0.01)
    return 1e3 * (time.perf_counter() - began)


def frames(browser: Any, layers: list[OutlineLayer], side: int) -> Figures:
    """What opening the page and moving over the outlines takes."""
    figures: Figures = {}
    moves = {
        "Zooming in and out": ("zoom", ""),
        "Moving at 1 level-0 px per px": ("pan", f"#x={side // 2}&y={side // 2}&d=1"),
        "Moving at 2 level-0 px per px": ("pan", f"#x={side // 2}&y={side // 2}&d=2"),
    }
    with served(layers, side) as address:
        for name, (kind, end) in moves.items():
            context = browser.new_context(viewport=WINDOW)
            page = context.new_page()
            page.add_init_script("performance.setResourceTimingBufferSize(100000)")
            began = time.perf_counter()
            page.goto(address + end, timeout=120_000)
            page.wait_for_selector("body[data-ready=yes]", state="attached", timeout=120_000)
            until_sharp(page)
            if kind == "zoom":
                loaded = page.evaluate(LOADED)
                figures["Opening the whole slide"] = {
                    "ms until all is sharp": 1e3 * (time.perf_counter() - began),
                    "kB loaded, tiles": loaded[0] / 1e3,
                    "kB loaded, all else": loaded[1] / 1e3,
                    "MB held by scripts": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
                }
            took, whole, made = page.evaluate(MOVE, [kind, SECONDS])
            figures[name] = {
                "ms a frame, median": float(np.median(took)),
                "ms a frame, 95 % below": float(np.percentile(took, 95)),
                "ms a frame, longest": max(took),
                "% of frames sharp": 100 * whole,
                "tiles loaded meanwhile": made,
                "ms until all is sharp": until_sharp(page),
            }
            context.close()
    return figures


def tables(columns: dict[str, Figures], compare: tuple[str, str]) -> str:
    """A table a title, with a column for each number of outlines and how many times the first of two the second is."""
    lines = []
    rows = {title: row for figures in columns.values() for title, row in figures.items()}
    for title, names in rows.items():
        lines += [f"\n### {title}\n", f"| | {' | '.join(columns)} | ratio |", "|---|" + "--:|" * (len(columns) + 1)]
        for name in names:
            value = {column: figures.get(title, {}).get(name) for column, figures in columns.items()}
            first, second = (value[column] for column in compare)
            ratio = f"{second / first:.2f}" if first and second is not None else "–"
            lines.append(f"| {name} | {' | '.join(map(shown, value.values()))} | {ratio} |")
    return "\n".join(lines) + "\n"


def shown(value: float | None) -> str:
    """A figure of a table."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--browser", action="store_true", help="frame times in Chromium too")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the results as a page too")
    options = parser.parse_args()
    program = shutil.which("chromium")
    if options.browser and program is None:
        raise SystemExit("There is no chromium here: install it, or leave --browser out.")
    made: dict[str, OutlineLayer] = {}
    server: dict[str, Figures] = {}
    for count in options.objects:
        regions, side, name = outlines(count), side_of(count), f"{count:,}"
        start = time.perf_counter()
        made[name] = OutlineLayer("outlines", regions, Frame(side, side, MPP))
        indexed = time.perf_counter() - start
        made[name].tile(Frame(64, 64, MPP).box, Frame(64, 64, MPP), Style())  # compiles
        server[name] = {"Indexing": {"seconds": indexed}, **tiles(made[name], Pyramid(Frame(side, side, MPP)))}
    compare = (f"{options.objects[0]:,}", f"{options.objects[-1]:,}")
    text = HEAD + TILES + tables(server, compare)
    print(text, end="", flush=True)
    if options.browser:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as started:
            flags = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
            browser = started.chromium.launch(executable_path=program, args=flags)
            seen = {"no outlines": frames(browser, [], side_of(options.objects[-1]))}
            for count, (name, layer) in zip(options.objects, made.items(), strict=True):
                seen[name] = frames(browser, [layer], side_of(count))
            browser.close()
        seen_as_text = BROWSER + tables(seen, compare)
        print(seen_as_text, end="")
        text += seen_as_text
    if options.page is not None:
        with atomic_write(options.page) as fresh:
            fresh.write(text.encode())


if __name__ == "__main__":
    main()
