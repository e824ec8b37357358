"""A scene with every kind of layer, and its app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.viewer.scenes import outlines, small_slide, write, write_labels
from tests.viewer.screen import FLAGS, NAMES, PROGRAM
from wsiseg.viewer.app import make_app
from wsiseg.viewer.scene import Scene, open_scene

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
