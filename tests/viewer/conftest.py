"""A scene with every kind of layer, and its app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.viewer.scenes import outlines, small_slide, write, write_labels
from tests.viewer.screen import FLAGS, NAMES, PROGRAM, Screen, serving
from wsiseg.viewer.app import make_app
from wsiseg.viewer.scene import Scene, open_scene

PREDICTION, LABELS, COMPARED = 1, 2, 5
HOST = "http://127.0.0.1:8765"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Layers 0 tissue, 1 prediction, 2 labels, 3 confidence, 4 truth, 5 comparison, 6 grid."""
    prediction = write(tmp_path / "prediction.geojson", outlines())
    truth = write(tmp_path / "truth.geojson", outlines(9.0)[:8])
    labels = write_labels(tmp_path / "labels.zarr")
    opened = open_scene(small_slide(), [prediction, labels], reference=truth, classes=["Sclerotic glomerulus"])
    yield opened
    opened.close()


@pytest.fixture
def client(scene: Scene) -> Iterator[TestClient]:
    with TestClient(make_app(scene), base_url=HOST, raise_server_exceptions=True) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; tests that need it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev extra)")
    if PROGRAM is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Scene]]:
    """The address of a running viewer, and what it shows."""
    prediction = write(tmp_path / "prediction.geojson", outlines())
    truth = write(tmp_path / "truth.geojson", outlines(9.0)[:8])
    labels = write_labels(tmp_path / "labels.zarr")
    scene = open_scene(small_slide(), [prediction, labels], reference=truth, classes=["Sclerotic glomerulus"])
    scene.shown = {PREDICTION}
    with serving(scene) as address:
        yield address, scene
    scene.close()


@pytest.fixture
def screen(browser: Any, served: tuple[str, Scene]) -> Iterator[Screen]:
    context = browser.new_context(viewport={"width": 1130, "height": 680}, reduced_motion="reduce")
    context.set_default_timeout(30_000)
    shown = Screen(context.new_page(), served[0])
    yield shown
    context.close()
    assert shown.complaints == []
