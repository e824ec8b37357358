"""--max-ram is a promise: refused beforehand, or kept; and what the log says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import wsiseg
from wsiseg.bundle import load_bundle
from wsiseg.errors import OutputError
from wsiseg.grid import Grid
from wsiseg.inference.engines import engine
from wsiseg.memory import BASE, FLIPS, TILING_BASE, estimate, estimate_tiling, fitting_batch, parse_size
from wsiseg.models import GLOMERULI
from wsiseg.slides.open import open_slide
from wsiseg.stores.labels import LabelMap
from wsiseg.synthetic import SlideSpec, generate, write_slide


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("1.5GiB", 3 * 2**29), ("700m", 700 * 10**6), ("2048", 2048), (" 2 k ", 2000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1.2.3GB", "8 GBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "slide.svs"
    write_slide(generate(SlideSpec(7, 3000, 2000, "pas", 1.0, ())), path)
    return path


def fresh(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in an interpreter that has loaded nothing yet, whose memory is its own."""
    code = "from wsiseg.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words), "-q"], capture_output=True, text=True, check=False
    )


def told(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_prediction_keeps_the_promise_or_refuses(slide: Path, tmp_path: Path, engine: str) -> None:
    log = tmp_path / "log.jsonl"

    def words(limit: str, out: str) -> list[object]:
        return [
            "predict", "--slide", slide, "--model", GLOMERULI, "--engine", engine, "--max-ram", limit,
            "--out", tmp_path / out, "--labels", tmp_path / f"{out}.zarr", "--log-json", log,
        ]  # fmt: skip

    refused = wsiseg(*words("500MB", "none.geojson"), "-q")
    assert refused.returncode == 2
    assert "GiB of memory: give --max-ram" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "none.geojson").exists()
    assert [line["event"] for line in told(log)] == ["start", "failed"]
    bundle = load_bundle(GLOMERULI)
    assert bundle.usage.batch == 2
    with open_slide(slide) as opened:
        both, one = (BASE + estimate(opened, [bundle.identity], batch=batch) for batch in (2, 1))
        frame = opened.frame.at(bundle.usage.mpp)
    ballast = np.ones(2**27)  # 1 GiB: what this process holds is not what its child takes
    for needed, out in ((both, "both.geojson"), (both - 1, "one.geojson")):
        log.unlink()
        done = fresh(*words(str(needed), out))
        assert done.returncode == 0, done.stderr
        lines = told(log)
        assert [line["event"] for line in lines][:: len(lines) - 1] == ["start", "end"]
        assert lines[-2]["done"] == lines[-2]["all"] > 0
        assert lines[-2]["unit"] == "tiles"
        assert 100 < lines[-1]["peak_mib"] < needed / 2**20
    assert ballast.all()
    assert one < both - 1
    assert "1 tiles at a time, not 2" in done.stderr
    maps = [LabelMap(tmp_path / f"{name}.geojson.zarr") for name in ("both", "one")]
    assert [m.manifest["model"]["usage"]["batch"] for m in maps] == [2, 1]
    assert maps[0].read(frame.box).any()
    assert (maps[0].read(frame.box) == maps[1].read(frame.box)).all()


def test_tiling_keeps_the_promise_or_refuses(slide: Path, tmp_path: Path) -> None:
    log, store = tmp_path / "log.jsonl", tmp_path / "store.zarr"
    words = ["tile", slide, "--out", store, "--no-tissue", "--log-json", log, "--size", 256, "--overlap", 64]
    refused = wsiseg(*words, "--max-ram", "300MB", "-q")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "GiB of memory: give --max-ram" in refused.stderr
    assert not store.exists()
    log.unlink()
    with open_slide(slide) as opened:
        grid = Grid(opened.frame.at(1.0), 256, 64)
        needed = TILING_BASE + estimate_tiling(opened, grid, pixels="zstd", labelled=False, workers=2)
    done = fresh(*words, "--max-ram", needed)
    assert done.returncode == 0, done.stderr
    assert 50 < told(log)[-1]["peak_mib"] < needed / 2**20
    assert store.exists()


def test_what_changes_the_estimates(slide: Path) -> None:
    assert len(engine.FLIPS) == FLIPS
    identity = load_bundle(GLOMERULI).identity
    with open_slide(slide) as opened:
        needed = [BASE + estimate(opened, [identity], batch=batch) for batch in (1, 2)]
        assert (
            needed[0] < needed[1] == BASE + estimate(opened, [identity]) == BASE + estimate(opened, [identity], batch=9)
        )
        assert fitting_batch(opened, [identity], needed[1]) == 2
        assert fitting_batch(opened, [identity], needed[1] - 1) == 1
        assert fitting_batch(opened, [identity], needed[0]) == 1
        with pytest.raises(OutputError, match="GiB or more"):
            fitting_batch(opened, [identity], needed[0] - 1)

        def tiling(size: int, pixels: str = "zstd", labelled: bool = False, workers: int = 1) -> int:
            grid = Grid(opened.frame.at(1.0), size)
            return estimate_tiling(opened, grid, pixels=pixels, labelled=labelled, workers=workers)

        assert tiling(512, "reference") < tiling(512) < tiling(512, labelled=True)
        assert tiling(512) < tiling(512, workers=4)
        assert tiling(512) < tiling(8192), "one tile of 8192 px is more than a file's share"


def test_what_a_refusal_asks_for_is_enough(slide: Path) -> None:
    identity = load_bundle(GLOMERULI).identity
    with open_slide(slide) as opened:
        with pytest.raises(OutputError) as refused:
            fitting_batch(opened, [identity], 1)
        asked = str(refused.value).rsplit("--max-ram ", 1)[1].split()[0]
        assert fitting_batch(opened, [identity], parse_size(asked)) >= 1
