"""A scene with every kind of layer, and its app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.viewer.scenes import outlines, small_slide, write, write_labels
from wsiseg.viewer.app import make_app
from wsiseg.viewer.scene import Scene, open_scene

HOST = "http://127.0.0.1:8765"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Layers 0 tissue, 1 prediction, 2 labels, 3 confidence, 4 truth, 5 comparison, 6 grid."""
    prediction = write(tmp_path / "prediction.geojson", outlines())
    truth = write(tmp_path / "truth.geojson", outlines(9.0)[:8])
    labels = write_labels(tmp_path / "labels.zarr")
    opened = open_scene(small_slide(), [prediction, labels], truth=truth, classes=["Sclerotic glomerulus"])
    yield opened
    opened.close()


@pytest.fixture
def client(scene: Scene) -> Iterator[TestClient]:
    with TestClient(make_app(scene), base_url=HOST, raise_server_exceptions=True) as client:
        yield client
