"""The semi-supervised GAN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.losses.encoding import Encoding, encode
from wsiseg.methods.adversarial import Adversarial
from wsiseg.methods.probe import sharpness_auc
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore

# Everything switched on from the first step.
EAGER: dict[str, Any] = {"start": 0.0, "unlabelled_from": 0.0, "ramp": 0.0, "width": 4, "probe_every": 2}


class AdversarialContract(MethodContract):
    """What every GAN must do besides."""

    def gan(self, recipe: Recipe) -> Adversarial:
        method = self.make(recipe)
        assert isinstance(method, Adversarial)
        return method

    def test_the_generators_step_leaves_the_discriminator_alone(
        self, recipe: Recipe, labelled_stores: list[TileStore]
    ) -> None:
        method = self.gan(recipe)
        before = {k: v.clone() for k, v in method.discriminator.module.state_dict().items()}
        images, labels = method.augment(*self.batch(recipe, labelled_stores, 0))
        logits = method.net(images)
        _, predicted = encode(logits, labels, method.gan.encoding)
        judged, _ = method._judge(images, predicted)
        judged.mean().backward()
        after = method.discriminator.module.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert all(p.grad is None and p.requires_grad for p in method.discriminator.parameters())
        assert method.discriminator.training
        assert next(method.net.parameters()).grad is not None

    def test_unlabelled_slides_change_what_is_learnt(
        self, recipe: Recipe, labelled_stores: list[TileStore], unlabelled_stores: list[TileStore]
    ) -> None:
        after = []
        for extra in (None, self.batch(recipe, unlabelled_stores, 0)):
            method = self.gan(recipe)
            torch.manual_seed(0)
            figures = method.update(self.batch(recipe, labelled_stores, 0), extra, 0.9)
            assert ("adversarial_unlabelled" in figures) == (extra is not None)
            after.append(method.net.module.state_dict())
        assert any(not torch.equal(after[0][k], after[1][k]) for k in after[0])

    def test_batch_statistics_are_updated_once_per_batch(
        self, recipe: Recipe, labelled_stores: list[TileStore], unlabelled_stores: list[TileStore]
    ) -> None:
        method = self.gan(recipe)
        method.update(self.batch(recipe, labelled_stores, 0), self.batch(recipe, unlabelled_stores, 0), 0.3)
        counts = {int(v) for k, v in method.net.module.state_dict().items() if k.endswith("num_batches_tracked")}
        assert counts == {1 if method.gan.schedule == "paper" else 2}


class TestFullyConvolutional(AdversarialContract):
    table: ClassVar = {"name": "adversarial", "adversarial": EAGER}

    def test_a_discriminator_that_wins_rests(self, recipe: Recipe, labelled_stores: list[TileStore]) -> None:
        method = self.gan(recipe)
        method.discriminator_loss_mean = 0.0
        before = {k: v.clone() for k, v in method.discriminator.module.named_parameters()}
        figures = method.update(self.batch(recipe, labelled_stores, 0), None, 0.9)
        assert figures["discriminator_paused"] == 1
        assert all(torch.equal(before[k], v) for k, v in method.discriminator.module.named_parameters())
        method.discriminator_loss_mean = 1.0
        figures = method.update(self.batch(recipe, labelled_stores, 1), None, 0.9)
        assert figures["discriminator_paused"] == 0
        assert any(not torch.equal(before[k], v) for k, v in method.discriminator.module.named_parameters())

    def test_the_weight_of_unlabelled_slides_rises(self, recipe: Recipe) -> None:
        late = recipe.method.adversarial.model_copy(update={"unlabelled_from": 0.3, "ramp": 0.2})
        method = self.gan(recipe.model_copy(update={"method": recipe.method.model_copy(update={"adversarial": late})}))
        weights = [method._unlabelled_weight(t / 100) for t in range(100)]
        assert not any(weights[:30])
        assert weights == sorted(weights)
        assert weights[50] == weights[99] == pytest.approx(late.unlabelled_weight)


class TestPatch(AdversarialContract):
    table: ClassVar = {
        "name": "adversarial",
        "adversarial": EAGER
        | {"discriminator": "patch", "game": "lsgan", "feature_matching": 0.1, "r1": 1.0, "r1_every": 2},
    }


class TestPaper(AdversarialContract):
    table: ClassVar = {"name": "adversarial", "adversarial": EAGER | {"schedule": "paper", "encoding": "raw"}}

    def test_phase_two_is_unlabelled_slides_and_a_frozen_discriminator(
        self, recipe: Recipe, labelled_stores: list[TileStore], unlabelled_stores: list[TileStore], tmp_path: Path
    ) -> None:
        method = self.gan(recipe)
        labelled, unlabelled = self.batch(recipe, labelled_stores, 0), self.batch(recipe, unlabelled_stores, 0)
        before = {k: v.clone() for k, v in method.discriminator.module.state_dict().items()}
        figures = method.update(labelled, unlabelled, 0.6)
        assert "cross_entropy" not in figures
        assert figures["loss"] == pytest.approx(method.gan.unlabelled_weight * figures["adversarial_unlabelled"])
        after = method.discriminator.module.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)


class TestCorrectness(AdversarialContract):
    table: ClassVar = {
        "name": "adversarial",
        "adversarial": EAGER
        | {"target": "correctness", "game": "hinge", "self_taught": 0.1, "encoding": "straight_through"},
    }


def trained_like(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels as a briefly trained network has them: mostly sure and right, unsure along borders."""
    torch.manual_seed(0)
    labels = torch.zeros(n, 64, 64, dtype=torch.long)
    labels[:, 16:48, 16:48] = 1
    labels[:, 40:60, 4:24] = 2
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    soft = torch.nn.functional.avg_pool2d(one_hot, 5, 1, 2)
    return 7 * soft + 0.7 * torch.randn_like(soft), labels


@pytest.mark.parametrize(("encoding", "least", "most"), [("raw", 0.98, 1.0), ("scaled", 0.5, 0.65)])
def test_the_probe_sees_through_raw_maps_and_not_through_scaled_ones(
    encoding: Encoding, least: float, most: float
) -> None:
    logits, labels = trained_like()
    torch.manual_seed(1)
    assert least <= sharpness_auc(*encode(logits, labels, encoding)) <= most


def test_the_probe_is_a_half_on_equal_maps() -> None:
    maps = torch.rand(2, 3, 64, 64).softmax(1)
    assert sharpness_auc(maps, maps) < 0.55
