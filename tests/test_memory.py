"""--max-ram is a promise: refused beforehand, or kept; and what the log says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wsiseg.bundle import load_bundle
from wsiseg.memory import BASE, estimate, parse_size
from wsiseg.models import GLOMERULI
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import SlideSpec, generate, write_slide


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("1.5GiB", 3 * 2**29), ("700m", 700 * 10**6), ("2048", 2048), (" 2 k ", 2000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1.2.3GB", "8 GBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_the_promise_is_kept_or_refused(tmp_path: Path) -> None:
    slide, log = tmp_path / "slide.svs", tmp_path / "log.jsonl"
    write_slide(generate(SlideSpec(7, 3000, 2000, "pas", 1.0, ())), slide)

    def predict(limit: str) -> subprocess.CompletedProcess[str]:
        code = "from wsiseg.cli import main; main()"
        command = ["predict", "--slide", str(slide), "--out", str(tmp_path / "out.geojson"), "--engine", "torch"]
        return subprocess.run(
            [sys.executable, "-c", code, *command, "--max-ram", limit, "--log-json", str(log), "-q"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    refused = predict("500MB")
    assert refused.returncode == 2
    assert "GiB of memory: give --max-ram" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "out.geojson").exists()
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["start", "failed"]
    with open_slide(slide) as opened:
        needed = BASE + estimate(opened, [load_bundle(GLOMERULI).identity])
    log.unlink()
    ballast = np.ones(2**27)  # 1 GiB: what this process holds is not what its child takes
    done = predict(str(needed))
    assert ballast.all()
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines][:: len(lines) - 1] == ["start", "end"]
    last = lines[-2]
    assert last["done"] == last["all"] > 0
    assert last["unit"] == "tiles"
    assert 100 < lines[-1]["peak_mib"] < needed / 2**20
