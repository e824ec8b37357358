"""Output-space adaptation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.data.crops import Batch
from wsiseg.methods.adaptation.method import Adaptation
from wsiseg.methods.parts.critic import ENOUGH
from wsiseg.recipe import Recipe

EAGER: dict[str, Any] = {
    "name": "adaptation", "unlabelled_start": 0.0, "rampup": 0.0, "discriminator_width": 8, "choose_tiles": 2,
    "discriminator_learning_rate": 3e-3,
}  # fmt: skip


def coarse(batch: Batch) -> Batch:
    """The same crops with other tissue: in squares of 8 px, as no labelled slide has it."""
    blocks = torch.randint(0, 255, (len(batch), 12, 12, 3), dtype=torch.uint8)
    blocks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    side = batch.images.shape[1]
    return replace(batch, images=blocks[:, :side, :side], covered=torch.ones_like(batch.covered))


class TestAdaptation(MethodContract):
    table: ClassVar = {**EAGER, "unlabelled_weight": 0.1}
    unlabelled = "adversarial_unlabelled"

    def test_the_discriminator_tells_two_domains_apart(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Adaptation)
        for step in range(ENOUGH + 5):
            torch.manual_seed(step)
            crops = self.crops(pools, step)
            assert crops.unlabelled is not None
            metrics = method.update(replace(crops, unlabelled=coarse(crops.unlabelled)), 0.5)
        assert metrics["discriminator_auc"] > 0.9
        assert metrics["discriminator_accuracy"] > 0.7
        assert method.remarks() == ()

    def test_its_gradient_comes_from_unlabelled_crops_alone(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Adaptation)
        kept: list[torch.Tensor] = []
        forward = method.student.net.forward

        def keep(*args: Any) -> torch.Tensor:
            kept.append(forward(*args))
            kept[-1].retain_grad()
            return kept[-1]

        method.student.net.forward = keep
        method.labelled_loss = lambda *_: (torch.zeros(()), {})  # type: ignore[assignment]
        method.student.learn = lambda loss: loss.backward()  # type: ignore[method-assign]
        before = {k: v.clone() for k, v in method.critic.net.module.state_dict().items()}
        crops = self.crops(pools, 0)
        method.update(crops, 0.5)
        gradient = kept[0].grad
        assert gradient is not None
        labelled = len(crops.labelled)
        assert not gradient[:labelled].any(), "labelled crops never learn to look like the others"
        assert gradient[labelled:].abs().sum() > 0
        after = method.critic.net.module.state_dict()
        assert any(not torch.equal(before[k], after[k]) for k in before), "the discriminator had its own step"
        own = {k: v.clone() for k, v in after.items()}
        method.critic.learn = lambda *_: {}  # type: ignore[method-assign]
        method.update(crops, 0.5)
        assert all(torch.equal(own[k], v) for k, v in method.critic.net.module.state_dict().items())

    def test_before_its_time_it_learns_and_teaches_nothing(self, stores: Any) -> None:
        recipe = self.recipe_with(unlabelled_start=0.5)
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Adaptation)
        metrics = method.update(self.crops(pools, 0), 0.2)
        assert metrics["loss"] == pytest.approx(metrics["cross_entropy"] + metrics["dice_loss"], rel=1e-4)
        assert method.critic.steps == 1


class TestAdaptationWithConsistency(MethodContract):
    table: ClassVar = {
        **EAGER, "consistency_weight": 1.0, "discriminator_sees": "information", "adaptive_threshold": True,
        "discriminator": "patch", "gan_loss": "lsgan", "r1": 0.1, "r1_every": 2, "pause_below": 0.0,
    }  # fmt: skip
    unlabelled = "consistency"

    def recipe_with(self, **changes: Any) -> Recipe:
        recipe = super().recipe_with(**changes)
        return recipe.model_copy(update={"training": recipe.training.model_copy(update={"crop": 96})})


class TestAdaptationOfMaps(MethodContract):
    table: ClassVar = {**EAGER, "discriminator_sees": "map", "gan_loss": "hinge"}
    unlabelled = "adversarial_unlabelled"
