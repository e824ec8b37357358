"""Learning with a discriminator."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.losses.encoding import encode
from wsiseg.methods.adversarial.method import Adversarial
from wsiseg.methods.parts.critic import ENOUGH, auc
from wsiseg.recipe import Recipe

# Everything switched on from the first step.
EAGER: dict[str, Any] = {
    "name": "adversarial", "adversarial_start": 0.0, "unlabelled_start": 0.0, "rampup": 0.0, "discriminator_width": 4
}  # fmt: skip


class AdversarialContract(MethodContract):
    """What every method with a discriminator must do besides."""

    unlabelled = "adversarial_unlabelled"

    def gan(self, recipe: Recipe, stores: Any) -> tuple[Adversarial, Any]:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Adversarial)
        return method, pools

    def test_the_segmentation_networks_step_leaves_the_discriminator_alone(self, recipe: Recipe, stores: Any) -> None:
        method, pools = self.gan(recipe, stores)
        before = {k: v.clone() for k, v in method.critic.net.module.state_dict().items()}
        images, labels = method.views.weak(self.crops(pools, 0).labelled)
        logits = method.student.net(images)
        _, predicted = encode(logits, labels, method.options.map_encoding)
        judged, _ = method.critic.judge(images, predicted)
        judged.mean().backward()
        after = method.critic.net.module.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert all(p.grad is None and p.requires_grad for p in method.critic.net.parameters())
        assert method.critic.net.training
        assert next(method.student.net.parameters()).grad is not None

    def test_labelled_and_unlabelled_crops_share_one_pass(self, recipe: Recipe, stores: Any) -> None:
        method, pools = self.gan(recipe, stores)
        method.update(self.crops(pools, 0), 0.9)
        state = method.student.net.module.state_dict()
        assert {int(v) for k, v in state.items() if k.endswith("num_batches_tracked")} == {1}

    def test_a_discriminator_that_knows_nothing_is_told_of(self, recipe: Recipe, stores: Any) -> None:
        method, _ = self.gan(recipe, stores)
        assert method.remarks() == ()
        torch.manual_seed(0)
        for _ in range(ENOUGH):
            method.critic.measure(torch.randn(1000), torch.arange(1000) < 500)
        assert "has learnt nothing (AUC 0." in method.remarks()[0]
        for _ in range(200):
            method.critic.measure(torch.randn(1000) + 2 * (torch.arange(1000) < 500), torch.arange(1000) < 500)
        assert method.remarks() == ()


class TestCorrectness(AdversarialContract):
    table: ClassVar = {**EAGER, "choose_every": 2, "choose_tiles": 2, "feature_matching": 0.1}
    # Of its untrained maps some pixels are trusted and others are not.
    model: ClassVar = {"encoder": "resnet18", "weights": "none", "decoder_channels": 16}

    def test_the_discriminator_learns_on_tiles_that_the_network_does_not_see(self, recipe: Recipe, stores: Any) -> None:
        _, pools = self.gan(recipe, stores)
        labelled, held_out = pools.tiles["labelled"], pools.tiles["held_out"]
        assert torch.equal(labelled, ~held_out)
        assert 0.1 < held_out.float().mean() < 0.4
        used = {}
        for name in ("labelled", "held_out"):
            dataset = pools.dataset(name)
            assert dataset is not None
            used[name] = set()
            for step in range(10):
                crops = dataset[step]
                for slide, place, labels in zip(crops.slide, crops.position, crops.labels, strict=True):
                    corner = place - labels.shape[-1] // 2
                    rows, columns = (labels != 255).nonzero(as_tuple=True)
                    pixels = zip((columns + corner[0]).tolist(), (rows + corner[1]).tolist(), strict=True)
                    used[name] |= {(int(slide), x, y) for x, y in pixels}
        assert used["labelled"]
        assert used["held_out"]
        assert not used["labelled"] & used["held_out"], "no label teaches both"

    def test_the_discriminator_can_learn_which_pixels_are_right(self, stores: Any) -> None:
        recipe = self.recipe_with(discriminator_width=8, discriminator_learning_rate=3e-3, learning_rate=1e-3)
        method, pools = self.gan(recipe, stores)
        for step in range(30):
            torch.manual_seed(step)
            metrics = method.update(self.crops(pools, step), step / 30)
        assert metrics["discriminator_auc"] > 0.6
        assert method.remarks() == ()

    def test_only_trusted_pixels_teach(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        metrics = self.run(method, pools, range(3))[-1]
        assert 0.2 < metrics["pseudo_labelled"] < 0.8


class TestSource(AdversarialContract):
    table: ClassVar = {**EAGER, "target": "source", "self_taught_weight": 0.0, "held_out": 0.1}

    def test_a_discriminator_that_wins_is_paused(self, recipe: Recipe, stores: Any) -> None:
        method, pools = self.gan(recipe, stores)
        method.critic.mean_loss = 0.0
        before = {k: v.clone() for k, v in method.critic.net.module.named_parameters()}
        metrics = method.update(self.crops(pools, 0), 0.9)
        assert metrics["discriminator_paused"] == 1
        assert all(torch.equal(before[k], v) for k, v in method.critic.net.module.named_parameters())
        method.critic.mean_loss = 1.0
        metrics = method.update(self.crops(pools, 1), 0.9)
        assert metrics["discriminator_paused"] == 0
        assert any(not torch.equal(before[k], v) for k, v in method.critic.net.module.named_parameters())


class TestPatch(AdversarialContract):
    table: ClassVar = {
        **EAGER, "target": "source", "discriminator": "patch", "gan_loss": "lsgan", "feature_matching": 0.1, "r1": 1.0,
        "r1_every": 2, "held_out": 0.0,
    }  # fmt: skip


class TestPaper(AdversarialContract):
    table: ClassVar = {
        **EAGER, "target": "source", "gan_schedule": "paper", "map_encoding": "raw", "self_taught_weight": 0.0,
        "feature_matching": 0.1, "held_out": 0.0,
    }  # fmt: skip

    def test_phase_two_is_unlabelled_slides_and_a_frozen_discriminator(self, recipe: Recipe, stores: Any) -> None:
        method, pools = self.gan(recipe, stores)
        before = {k: v.clone() for k, v in method.critic.net.module.state_dict().items()}
        metrics = method.update(self.crops(pools, 0), 0.6)
        assert "cross_entropy" not in metrics
        o = method.options
        want = o.unlabelled_weight * metrics["adversarial_unlabelled"] + 0.1 * metrics["feature_matching"]
        assert metrics["loss"] == pytest.approx(want, rel=1e-4)
        after = method.critic.net.module.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)


class TestStraightThrough(AdversarialContract):
    table: ClassVar = {**EAGER, "gan_loss": "hinge", "map_encoding": "straight_through", "r1": 0.1, "r1_every": 1}


def test_the_auc_counts_pairs() -> None:
    torch.manual_seed(0)
    high = torch.tensor([True, True, False, False])
    assert auc(torch.tensor([2.0, 3.0, 0.0, 1.0]), high, ~high) == 1
    assert auc(torch.tensor([1.0, 1.0, 1.0, 1.0]), high, ~high) == pytest.approx(0.5)
    assert auc(torch.tensor([2.0, 0.0, 1.0, 1.0]), high, ~high) == pytest.approx(0.5, abs=0.02)
    many = torch.arange(18000) < 9000
    assert auc(torch.randn(18000) + many, many, ~many) == pytest.approx(0.760, abs=0.02)
    some = many & (torch.arange(18000) % 9 == 0)
    assert auc(torch.randn(18000) + many, some, ~many) == pytest.approx(0.760, abs=0.03), "what counts for neither"
    assert math.isnan(auc(torch.randn(10), torch.zeros(10) > 0, torch.zeros(10) < 1))
