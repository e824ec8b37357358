"""kill -9 of `wsiseg train` at random moments, and while it writes a checkpoint or the bundle: the same weights.

WSISEG_KILLS is the number of random moments; a quarter as many are chosen in each of the two writes.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Command
from tests.control_group import control_group
from wsiseg.annotations.formats import write_annotations
from wsiseg.bundle import load_bundle
from wsiseg.classes import ClassMap
from wsiseg.synthetic import SlideSpec, generate, write_slide
from wsiseg.training.checkpoint import load_checkpoint, same

KILLS = int(os.environ.get("WSISEG_KILLS", "2"))
pytestmark = pytest.mark.timeout(3600)

GREEDY = "open(0).read(); held = [bytearray(b'x' * 2**20) for _ in range(4096)]"  # once its input has ended

RECIPE = """
name = "tiny"
[classes]
names = ["Background", "Glomerulus", "Sclerotic glomerulus"]
[data]
slides = "slides.csv"
mpp = 4.0
tile = 64
[model]
encoder = "tu-test_resnet"
weights = "none"
decoder_channels = 16
[method]
name = "consistency"
unlabelled_start = 0.0
rampup = 0.0
[training]
steps = 8
batch = 2
crop = 32
loaders = 0
evaluate_every = 3
checkpoint_every = 2
[predict]
tile = 128
overlap = 32
batch = 2
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small slides, two with annotations, and a recipe."""
    folder = tmp_path_factory.mktemp("lab")
    classes = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
    rows = [["slide", "annotations", "patient", "split"]]
    for seed, split in ((1, "train"), (2, "train"), (3, "validation")):
        slide = generate(SlideSpec(seed=seed, width_um=1200, height_um=1000, mpp=2.0))
        write_slide(slide, folder / f"{seed}.svs")
        write_annotations(folder / f"{seed}.geojson", slide.truth, classes=classes)
        rows.append([f"{seed}.svs", f"{seed}.geojson" if seed != 2 else "", f"p{seed}", split])
    with (folder / "slides.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def start(lab: Path, out: Path, *words: str) -> Command:
    return Command("train", lab / "recipe.toml", "--out", out, "--device", "cpu", "--quiet", *words)


def finish(lab: Path, out: Path, *words: str) -> None:
    done = start(lab, out, *words).end()
    assert done.returncode == 0, done.stderr


def writing(out: Path, pattern: str) -> Callable[[], bool]:
    return lambda: next(out.glob(pattern), None) is not None


def kill(child: Command, when: Callable[[], bool], delay: float) -> bool:
    """Kill a process so many seconds after a condition holds; False if it has ended before, and well."""
    while child.runs(0.0005) and not when():
        pass
    if child.runs(delay):
        child.signal(signal.SIGKILL)
    done = child.end()
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def evaluations(out: Path) -> dict[tuple[str, str], str]:
    with (out / "log.csv").open() as file:
        return {(row["step"], row["name"]): row["value"] for row in csv.DictReader(file) if "/" in row["name"]}


def model(out: Path) -> dict[str, object]:
    """All that a bundle says, and the weights are what it says."""
    bundle = load_bundle(out / "model")
    bundle.network()
    value: dict[str, object] = json.loads((out / "model" / "model.json").read_text())
    return value


@pytest.fixture(scope="module")
def whole(lab: Path) -> tuple[Path, float]:
    """An uninterrupted run, and the seconds that it took."""
    began = time.monotonic()
    finish(lab, lab / "whole")
    return lab / "whole", time.monotonic() - began


def test_killed_at_random_moments(lab: Path, whole: tuple[Path, float]) -> None:
    (wanted, span), out = whole, lab / "killed"
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    plan = ["time"] * KILLS + ["checkpoint/step-*.partial", "model.partial"] * max(1, KILLS // 4)
    rng.shuffle(plan)
    kills, resumed_after, runs = 0, set(), 0
    while kills < len(plan):
        child = start(lab, out, "--resume")
        where, runs = plan[kills], runs + 1
        if where == "time":
            killed = kill(child, lambda: True, rng.uniform(0, 0.7 * span))
        else:
            killed = kill(child, writing(out, where), rng.uniform(0, 0.05))
        state = f"seed {seed}, kill {kills}, {where}"
        kills += killed
        kept = load_checkpoint(out / "checkpoint")  # an error if it is half-written
        resumed_after.add(kept[0] if kept else 0)
        if (out / "model").exists():
            assert model(out) == model(wanted), state
        if not killed:
            shutil.rmtree(out)
    finish(lab, out, "--resume")
    assert model(out) == model(wanted), f"seed {seed}"
    states = [load_checkpoint(folder / "checkpoint") for folder in (out, wanted)]
    assert same(states[0], states[1]), f"seed {seed}"
    assert evaluations(out) == evaluations(wanted), f"seed {seed}: the log keeps what was logged before a kill"
    left = {path.name for path in out.rglob("*") if ".part" in path.name}
    assert not left, f"seed {seed}"
    print(f"{kills} kills in {runs} runs of {span:.1f} s; steps kept then: {sorted(resumed_after)}")


def test_a_run_that_is_replaced_and_killed_does_not_end_with_the_old_model(
    lab: Path, whole: tuple[Path, float]
) -> None:
    """Killed after its last checkpoint: what lies in RUN/model by then is not the model of this recipe."""
    out = lab / "replaced"
    shutil.copytree(whole[0], out)
    other = ("--set", "training.seed=7")
    child = start(lab, out, "--overwrite", *other)
    assert kill(child, writing(out, "model.partial"), 0.0)
    finish(lab, out, "--resume", *other)
    finish(lab, lab / "other", *other)
    assert model(out) == model(lab / "other")
    assert model(out)["weights_sha256"] != model(whole[0])["weights_sha256"]


def test_a_training_that_runs_out_of_memory_goes_on(lab: Path, whole: tuple[Path, float]) -> None:
    """The kernel kills it in the middle, as it does in a container or a batch job; `--resume` loses nothing."""
    out = lab / "hungry"
    with control_group() as group:
        child = start(lab, out)
        (group.folder / "cgroup.procs").write_text(str(child.pid))
        while not writing(out, "checkpoint/step-*[24]")():
            assert child.runs(0.001), child.end().stderr
        child.signal(signal.SIGSTOP)  # else it may end before the other process is there
        other = subprocess.Popen([sys.executable, "-c", GREEDY], stdin=subprocess.PIPE)  # in the same job
        (group.folder / "cgroup.procs").write_text(str(other.pid))
        group.limit.write_text(str(int(group.use.read_text()) + 2**24))
        assert other.stdin is not None
        other.stdin.close()
        killed = child.end()
        other.kill()
        other.wait()
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "model").exists()
    finish(lab, out, "--resume")
    assert model(out) == model(whole[0])
