"""The main job with the real network: generated slides, a recipe, a few steps, a killed run, a prediction."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import Command
from tests.command import wsiseg as run
from wsiseg.annotations.formats import write_annotations
from wsiseg.bundle import load_bundle
from wsiseg.classes import ClassMap
from wsiseg.demo import SPEC
from wsiseg.models import DEMONSTRATION
from wsiseg.synthetic import SlideSpec, generate, write_slide

RECIPE = """
name = "tiny"
[classes]
names = ["Background", "Glomerulus", "Sclerotic glomerulus"]
[data]
slides = "slides.csv"
mpp = 4.0
tile = 128
[model]
encoder = "tu-test_resnet"
weights = "none"
decoder_channels = 16
[training]
steps = 6
batch = 2
crop = 64
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
    """A folder with four generated slides, a list and a recipe."""
    folder = tmp_path_factory.mktemp("lab")
    classes = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
    rows = [["slide", "annotations", "patient", "split"]]
    for seed, split in ((1, "train"), (2, "train"), (3, "validation"), (4, "test")):
        slide = generate(SlideSpec(seed=seed, width_um=1600, height_um=1200, mpp=2.0))
        write_slide(slide, folder / f"{seed}.svs")
        write_annotations(folder / f"{seed}.geojson", slide.truth, classes=classes)
        rows.append([f"{seed}.svs", f"{seed}.geojson" if seed != 2 else "", f"p{seed}", split])
    with (folder / "slides.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def finished(lab: Path) -> Path:
    out = lab / "whole"
    done = run("train", lab / "recipe.toml", "--out", out, "--device", "cpu", "--log-json", lab / "train.jsonl")
    assert done.returncode == 0, done.stderr
    (lab / "train.txt").write_text(done.stderr)
    return out


def test_training_tells_how_far_it_is_and_what_comes_next(lab: Path, finished: Path) -> None:
    lines = [json.loads(line) for line in (lab / "train.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "progress"] == ["start", "end"]
    assert (lines[-2]["done"], lines[-2]["all"], lines[-2]["unit"]) == (6, 6, "steps")
    assert lines[-2]["rate"] > 0
    assert lines[-1]["peak_mib"] > 100
    told = (lab / "train.txt").read_text()
    for part in (
        "steps/s",
        "MiB",
        "from 2 slides, 1 of them annotated",
        f"wsiseg predict SLIDE --model {finished / 'model'}",
    ):
        assert part in told


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == {
        "recipe.json", "tiles", "log.csv", "tensorboard", "pictures", "checkpoint", "model",
    }  # fmt: skip
    bundle = load_bundle(finished / "model")
    assert bundle.provenance["slides"] == {"train": ["1", "2"], "validation": ["3"], "test": ["4"]}
    assert sorted(p.name for p in (finished / "tiles").iterdir()) == ["1.zarr", "2.zarr", "3.zarr"]
    assert [p.name for p in sorted((finished / "pictures").iterdir())] == ["step-000003.png", "step-000006.png"]
    with (finished / "log.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {"loss", "learning_rate", "Glomerulus/dice", "mean/iou", "waiting"} <= names


def test_a_killed_run_resumes_to_the_same_weights(lab: Path, finished: Path) -> None:
    out = lab / "killed"
    words = ("train", lab / "recipe.toml", "--out", out, "--device", "cpu", "--quiet")
    child = Command(*words)
    until = time.monotonic() + 240
    while not list((out / "checkpoint").glob("step-0000000[24]")) and time.monotonic() < until:
        time.sleep(0.01)
    child.signal(signal.SIGKILL)
    child.end()
    assert not (out / "model").exists()
    refused = run(*words)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    changed = run(*words, "--resume", "--set", "training.batch=3")
    assert changed.returncode == 2
    assert "recipe.training.batch is 2, not 3" in changed.stderr
    resumed = run(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on after step" in resumed.stderr
    ours, theirs = (load_bundle(folder / "model") for folder in (out, finished))
    assert ours.weights_sha256 == theirs.weights_sha256
    assert ours.metrics == theirs.metrics


def test_overwriting_starts_anew_at_another_resolution(lab: Path) -> None:
    words = ("train", lab / "recipe.toml", "--out", lab / "again", "--quiet", "--set", "training.steps=2")
    assert run(*words).returncode == 0
    changed = (*words, "--set", "data.mpp=5.0")
    assert run(*changed).returncode == 2
    done = run(*changed, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert load_bundle(lab / "again" / "model").usage.mpp == 5.0


def test_predict_and_evaluate_with_the_trained_model(lab: Path, finished: Path) -> None:
    out = lab / "4.prediction.geojson"
    done = run(
        "predict", "--slide", lab / "4.svs", "--model", finished / "model", "--out", out, "--labels", lab / "4.zarr"
    )
    assert done.returncode == 0, done.stderr
    outlines = run("evaluate", "--slide", lab / "4.svs", "--truth", lab / "4.geojson", "--prediction", out, "--json")
    labels = run("evaluate", "--slide", lab / "4.svs", "--truth", lab / "4.geojson", "--prediction", lab / "4.zarr")
    assert outlines.returncode == labels.returncode == 0, outlines.stderr + labels.stderr
    assert json.loads(outlines.stdout)["pooled"]["objects"]["any"]["reference"] > 0
    assert "Sclerotic glomerulus" in labels.stdout


def test_a_model_that_does_not_know_a_class_is_refused(lab: Path) -> None:
    (lab / "narrow.toml").write_text(RECIPE.replace(', "Sclerotic glomerulus"', "").replace("tiny", "narrow"))
    done = run("train", lab / "narrow.toml", "--out", lab / "narrow", "--quiet")
    if "Sclerotic glomerulus" in (lab / "1.geojson").read_text():
        assert done.returncode == 2
        assert "'Sclerotic glomerulus' is unknown" in done.stderr


def test_the_demo_finds_glomeruli_and_podocytes(tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path / "demo", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "for demonstration" in done.stdout
    assert "podocyte profiles" in done.stdout
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {
        "slide.svs", "truth.geojson", "prediction.geojson", "prediction.parent.geojson", "overlay.png",
        "glomerulus.png", "evaluation.json",
    }  # fmt: skip
    figures = json.loads((tmp_path / "demo" / "evaluation.json").read_text())
    objects, pixels = figures["pooled"]["objects"], figures["pooled"]["pixels"]
    assert objects["Glomerulus"]["reference"] + objects["Sclerotic glomerulus"]["reference"] >= 10
    assert objects["Glomerulus"]["f1"] > 0.7
    assert objects["Podocyte"]["reference"] >= 100
    assert objects["Podocyte"]["f1"] > 0.55
    assert pixels["Glomerulus"]["dice"] > 0.7
    bundle = load_bundle(DEMONSTRATION)
    assert bundle.provenance["recipe"]["name"] == "kidney-podocytes"
    assert bundle.parent is not None
    assert bundle.parent.provenance["recipe"]["name"] == "demo"
    assert SPEC.seed > 1000, "no seed of the slides that the model was trained on"


def test_two_processes_train_one_model(lab: Path) -> None:
    """With two networks. Lightning starts the second process by the command's own name, so it is called as users do."""
    out = lab / "two"
    script = Path(sys.executable).with_name("wsiseg")
    words = ["train", lab / "recipe.toml", "--out", out, "--device", "cpu", "--quiet"]
    words += [
        "--set",
        "training.devices=2",
        "--set",
        "method.name=adversarial",
        "--log-json",
        out.with_suffix(".jsonl"),
    ]
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(": the model;") == 1, "the second process keeps silent"
    with (out / "log.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["name"] == "loss"]
    assert steps == ["6"], "one process writes the log"
    assert load_bundle(out / "model").network() is not None
    events = [json.loads(line)["event"] for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert (events.count("start"), events.count("end")) == (1, 1), "and one the progress"


def test_outlined_slides_teach_without_their_outlines_too_where_told(lab: Path) -> None:
    """On a list without a slide that nobody outlined, consistency has nothing to do unless it may take these."""
    (lab / "outlined.csv").write_text((lab / "slides.csv").read_text().replace("2.svs,,p2,train\n", ""))
    out = lab / "outlined"
    words = ["data.unlabelled=all", "data.slides=outlined.csv", "method.name=consistency", "training.steps=2"]
    words += ["method.unlabelled_start=0", "method.rampup=0"]
    done = run("train", lab / "recipe.toml", "--out", out, "--quiet", *(w for o in words for w in ("--set", o)))
    assert done.returncode == 0, done.stderr
    with (out / "log.csv").open() as file:
        assert "consistency" in {row["name"] for row in csv.DictReader(file)}
