"""Engines: they agree, they are chosen as said, and a converted network is kept."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsiseg.bundle import ModelBundle, Usage, load_bundle, save_bundle
from wsiseg.classes import ClassMap
from wsiseg.errors import EngineError, MissingExtraError
from wsiseg.geometry import Box
from wsiseg.inference import engines
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.torch import TorchEngine
from wsiseg.models import GLOMERULI
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.synthetic import SlideSpec, generate

pytest.importorskip("openvino", reason="OpenVINO is an optional extra")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """The demonstration model for small tiles, so that converting it takes little."""
    found = load_bundle(GLOMERULI)
    return replace(found, usage=replace(found.usage, tile=128, overlap=32, batch=2))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_both_engines_say_the_same(
    bundle: ModelBundle, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    made = generate(SlideSpec(3, 2000, 1600, "pas", 1.0, ()))
    x, y = (int(v) for v in made.truth[0].polygon.centroid.coords[0])
    frame = made.frame.at(bundle.usage.mpp)
    x, y = int(x / bundle.usage.mpp), int(y / bundle.usage.mpp)
    images = np.stack([made.read(Box(x - 64, y - 64, 128, 128), frame), made.read(Box(x, y, 128, 128), frame)])
    vino = make_engine(bundle, "openvino")
    assert not "".join(capfd.readouterr())  # nothing is said of the conversion
    one, other = vino.probabilities(images), make_engine(bundle, "torch").probabilities(images)
    assert one.shape == other.shape == (2, 3, 128, 128)
    assert one.dtype == np.float32
    exact = vino.identity["precision"] in ("float32", "f32")
    assert np.abs(one - other).max() < (1e-4 if exact else 0.1)
    assert (one.argmax(1) == other.argmax(1)).mean() > (0.9999 if exact else 0.997)
    assert other[0].argmax(0)[64, 64] > 0  # there is something to agree on
    again = vino.probabilities(images[::-1].copy())
    assert (vino.probabilities(images) == one).all()  # what was returned is not written over
    assert (again[::-1] == one).mean() > 0.999
    files = sorted(p.name for p in cache.rglob("*") if p.is_file())
    assert len(files) == 2
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    make_engine(bundle, "openvino")
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before
    rng = np.random.default_rng(0)
    many = [np.roll(images, tuple(rng.integers(0, 128, 2)), (1, 2)) for _ in range(8)]
    with ThreadPoolExecutor(vino.streams) as pool:
        at_once = list(pool.map(vino.probabilities, many))
    assert all((got == vino.probabilities(each)).all() for got, each in zip(at_once, many, strict=True))
    with pytest.raises(EngineError, match="compiled for tiles"):
        vino.probabilities(images[:1])


def test_openvino_runs_two_networks_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, other = (SegmentationNet(Architecture(e, 2, (0.5,) * 3, (0.2,) * 3, 8)) for e in ("resnet18", "mobilenet_v2"))
    made = save_bundle(
        tmp_path / "two", one.with_peers(other), name="two", classes=ClassMap(("Background", "A")),
        usage=Usage(2.0, 64, 16, 1), provenance={}, metrics={},
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    vino = make_engine(made, "openvino").probabilities(pixels)
    assert np.abs(vino - make_engine(made, "torch").probabilities(pixels)).max() < 0.05


def test_auto_takes_openvino_on_a_cpu(bundle: ModelBundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert make_engine(bundle, device="cpu").identity["name"] == "openvino"
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert isinstance(make_engine(bundle, device="cpu"), TorchEngine)


def test_what_is_not_there_is_told(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    with pytest.raises(EngineError, match="auto, torch, openvino"):
        make_engine(bundle, "tensorrt")
    with pytest.raises(EngineError, match="--engine torch"):
        make_engine(bundle, "openvino", "cuda")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match="XDG_CACHE_HOME"):
        make_engine(bundle, "openvino")
    monkeypatch.setattr("wsiseg.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="not installed"):
        make_engine(bundle, "openvino")


FIRST_TOUCH = """
import sys, threading
from pathlib import Path
import numpy as np
from wsiseg.bundle import load_bundle
from wsiseg.inference.engines import make_engine
from wsiseg.models import GLOMERULI

engine, start = make_engine(load_bundle(GLOMERULI), "openvino"), threading.Barrier(2)
images = np.zeros(engine.shape, np.uint8)
sys.setswitchinterval(1e-6)

def infer():
    start.wait()
    engine.probabilities(images)

threads = [threading.Thread(target=infer) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_two_threads_that_begin_at_once_do_not_wait_for_each_other_for_ever() -> None:
    """Without a first look at the tensors by one thread, half of such processes hung."""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", FIRST_TOUCH], check=True, timeout=90)
