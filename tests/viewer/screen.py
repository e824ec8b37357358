"""A running viewer and a real browser that looks at it.

The browser may ask the viewer and nobody else: any other request is a complaint, and so is anything in its console.
"""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from wsiseg.viewer.scene import Scene
from wsiseg.viewer.serve import configured, listen

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip
SHOW_CONTROLS = """visibility => {
    const controls = document.querySelectorAll("#navigator, #ruler, #place, #swipe, #tools, #ink, .selected-object");
    for (const control of controls) control.style.visibility = visibility;
}"""
SETTLED = """() => {
    const { viewer } = window.wsisegStage;
    const items = [...Array(viewer.world.getItemCount()).keys()].map((n) => viewer.world.getItemAt(n));
    const waiting = window.wsisegOverlays.layers.some((layer) => layer.next || (layer.shown && !layer.item));
    return !waiting && items.every((item) => item.getFullyLoaded()) && !viewer.isAnimating();
}"""


@contextmanager
def serving(scene: Scene) -> Iterator[str]:
    """The address of a viewer of a scene."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(configured(scene))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


class Screen:
    """A page and what one does with it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        page.on("console", lambda message: self.said(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked(request.url))

    def said(self, text: str) -> None:
        # What OpenSeadragon says when a layer changed while a tile of it was on its way: it asks for it again.
        if not text.startswith("Ignoring tile %s loaded before reset"):
            self.complaints.append(text)

    def asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"asks another host: {url}")

    def open(self, end: str = "") -> None:
        self.page.goto("about:blank")
        self.page.goto(self.address + end)
        self.page.wait_for_selector("body[data-ready=yes]")
        self.settle()

    def until(self, condition: str, argument: object = None) -> None:
        """Wait for a JavaScript function to say yes; playwright's own way to wait is against the page's policy."""
        end = time.monotonic() + 30
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < end, f"waited in vain for {condition} {argument}; status: {self.status()}"
            time.sleep(0.05)

    def settle(self) -> None:
        """Wait until everything that is to be seen is there and nothing moves."""
        self.until(SETTLED)
        time.sleep(0.15)  # two frames, to be drawn

    def told(self, selector: str, text: str) -> None:
        """Wait for a text."""
        self.until("([s, text]) => document.querySelector(s).textContent.includes(text)", [selector, text])

    def listed(self, count: int) -> None:
        """Wait for a length of the list."""
        self.until("count => document.querySelectorAll('#list li').length === count", count)

    def pixels(self) -> np.ndarray:
        """The slide and what lies over it, (h, w, 3) uint8, without the controls on top of it."""
        self.page.evaluate(SHOW_CONTROLS, "hidden")
        png = self.page.locator("#stage").screenshot()
        self.page.evaluate(SHOW_CONTROLS, "")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def view(self) -> dict[str, float]:
        return self.page.evaluate("window.wsisegStage.view()")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place on the page of a point in level-0 px."""
        box, view = self.page.locator("#stage").bounding_box(), self.view()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return middle[0] + (x - view["x"]) / view["d"], middle[1] + (y - view["y"]) / view["d"]

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point in level-0 px, move over the others, release it at the last."""
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=12)
        self.page.mouse.up()

    def layer(self, number: int) -> Any:
        return self.page.locator(f"fieldset[data-layer='{number}']")

    def status(self) -> str:
        return self.page.locator("#status").inner_text()
