"""The Trainer and a run in stages: a killed run goes on to the same bytes, whatever the method has chosen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from wsiseg.bundle import Usage, load_bundle
from wsiseg.errors import MismatchError, RecipeError
from wsiseg.progress import Progress
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore
from wsiseg.training import run as running
from wsiseg.training.checkpoint import load_checkpoint, same
from wsiseg.training.run import make_fabric, train, usage_of
from wsiseg.training.start import rates_for
from wsiseg.training.trainer import Trainer, TrainingSlides


class KilledError(Exception):
    """Stands for a power cut."""


def recipe(**tables: Any) -> Recipe:
    training = {"steps": 5, "batch": 2, "crop": 32, "loaders": 0, "evaluate_every": 2, "checkpoint_every": 2}
    return Recipe.model_validate(
        {
            "name": "test",
            "classes": {"names": ["Background", "A", "B"]},
            "data": {"slides": "none.csv", "mpp": 2.0},
            "model": {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16},
            "predict": {"tile": 128, "overlap": 32, "batch": 2},
            **tables,
            "training": training | tables.get("training", {}),
        }
    )


def report_until(step: int, task: str = "") -> Any:
    def report(progress: Progress) -> None:
        if progress.done == step and progress.task == task and not progress.message:
            raise KilledError

    return report


@pytest.fixture
def slides(labelled_stores: list[TileStore], unlabelled_stores: list[TileStore]) -> TrainingSlides:
    return TrainingSlides(
        labelled_stores, unlabelled_stores, labelled_stores[:1], {unlabelled_stores[1].path: ("pas",)}
    )


def test_a_killed_run_goes_on_to_the_same_state(slides: TrainingSlides, tmp_path: Path) -> None:
    """KilledError after a checkpoint that lies behind a choice of crops."""
    method = {"name": "consistency", "unlabelled_start": 0.0, "rampup": 0.0, "choose_every": 1, "choose_tiles": 2}
    chosen = recipe(method=method)
    fabric = make_fabric(running.find_device("cpu"), 1, "32-true")

    def trainer(folder: str, report: Any) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(
            chosen, slides, tmp_path / folder, fabric=fabric, usage=usage_of(chosen), about={}, report=report
        )

    messages = []
    whole = trainer("whole", lambda p: messages.append(p.message)).run()
    with pytest.raises(KilledError):
        trainer("killed", report_until(3)).run()
    resumed = trainer("killed", lambda p: None)
    assert resumed.step == 2
    again = resumed.run()
    assert same(again.state_dict(), whole.state_dict())
    states = [load_checkpoint(tmp_path / folder / "checkpoint") for folder in ("whole", "killed")]
    assert same(states[0], states[1])
    assert [m.partition(":")[0] for m in messages if m] == ["Step 2", "Step 4", "Step 5"]
    log = [(tmp_path / folder / "log.csv").read_text().splitlines() for folder in ("whole", "killed")]
    keep = [[line for line in lines if "/dice" in line] for lines in log]
    assert keep[0]
    assert keep[0] == keep[1]


def test_stages_start_from_the_bundle_before_and_resume(
    slides: TrainingSlides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.csv").write_text("slide\n")
    staged = recipe(
        data={"slides": str(tmp_path / "none.csv"), "mpp": 2.0},
        training={"steps": 2},
        stage=[{"name": "first"}, {"name": "round", "repeat": 2, "method": {"name": "mean_teacher", "rampup": 0.0}}],
    )
    monkeypatch.setattr(running, "training_slides", lambda *_: slides)
    run: dict[str, Any] = {"device": "cpu", "overwrite": False}
    whole = train(staged, tmp_path / "whole", resume=False, report=lambda p: None, **run)
    with pytest.raises(KilledError):
        train(staged, tmp_path / "killed", resume=False, report=report_until(1, "round-1"), **run)
    assert not (tmp_path / "killed" / "model").exists()
    seen: list[Progress] = []
    resumed = train(staged, tmp_path / "killed", resume=True, report=seen.append, **run)
    assert whole is not None
    assert resumed is not None
    assert resumed.weights_sha256 == whole.weights_sha256
    assert {p.task for p in seen if not p.message} == {"round-1", "round-2"}, "the first stage is not done again"
    first = load_bundle(tmp_path / "whole" / "stages" / "first" / "model")
    second = load_bundle(tmp_path / "whole" / "stages" / "round-1" / "model")
    assert first.weights_sha256[:12] in second.provenance["encoder_weights"]
    assert second.provenance["recipe"]["method"]["name"] == "mean_teacher"
    assert load_bundle(tmp_path / "whole" / "model").weights_sha256 == whole.weights_sha256
    other = staged.model_copy(update={"training": staged.training.model_copy(update={"seed": 1})})
    with pytest.raises(MismatchError):
        train(other, tmp_path / "killed", resume=True, report=lambda p: None, **run)


def test_half_precision_trains_on_a_cpu(slides: TrainingSlides, tmp_path: Path) -> None:
    half = recipe(
        training={"steps": 2, "precision": "bf16-mixed"}, method={"name": "adversarial", "adversarial_start": 0}
    )
    fabric = make_fabric(running.find_device("cpu"), 1, "bf16-mixed")
    usage = Usage(mpp=2.0, tile=128, overlap=32, batch=2)
    trainer = Trainer(half, slides, tmp_path, fabric=fabric, usage=usage, about={}, report=lambda p: None)
    net = trainer.run()
    assert {str(v.dtype) for v in net.state_dict().values() if v.is_floating_point()} == {"torch.float32"}


def test_atrous_rates_follow_the_crop() -> None:
    assert rates_for(32) == (6, 12, 18)
    assert rates_for(8) == (2, 3, 4)
    for size in range(2, 40):
        assert max(rates_for(size)) < size


def test_stages_before_training_start_one_another(
    slides: TrainingSlides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.csv").write_text("slide\n")
    names = ("s4l", "mix_and_match", "contrastive", "supervised")
    staged = recipe(
        data={"slides": str(tmp_path / "none.csv"), "mpp": 2.0},
        model={"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16},
        training={"steps": 2},
        stage=[{"name": name, "method": {"name": name}} for name in names],
    )
    monkeypatch.setattr(running, "training_slides", lambda *_: slides)
    train(staged, tmp_path, device="cpu", resume=False, overwrite=False, report=lambda p: None)
    bundles = [load_bundle(tmp_path / "stages" / name / "model") for name in names[:-1]]
    bundles.append(load_bundle(tmp_path / "model"))
    for before, after in pairwise(bundles):
        assert before.weights_sha256[:12] in after.provenance["encoder_weights"]
        assert after.classes.names == ("Background", "A", "B")
        assert "starts again" not in after.provenance["encoder_weights"]


def test_only_some_methods_learn_without_annotations(
    unlabelled_stores: list[TileStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.tif").touch()
    (tmp_path / "slides.csv").write_text("slide,tags\na.tif,A\nb.tif,normal\n")
    stores = dict(zip("ab", unlabelled_stores, strict=True))
    monkeypatch.setattr(running, "tile_row", lambda row, *_, **__: stores[row.name])
    data = {"slides": str(tmp_path / "slides.csv"), "mpp": 2.0}

    def given(**tables: Any) -> TrainingSlides:
        return running.training_slides(recipe(data=data, **tables), tmp_path, print)

    found = given(method={"name": "weak_labels"})
    assert found.labelled == found.unlabelled == unlabelled_stores
    assert found.tags[unlabelled_stores[0].path] == ("A",)
    for tables in ({}, {"stage": [{"name": "first", "method": {"name": "s4l"}}, {"name": "second"}]}):
        with pytest.raises(RecipeError, match="No slide of the split `train` has annotations"):
            given(**tables)
