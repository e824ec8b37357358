"""Output-space adaptation."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.methods.adaptation.method import Adaptation
from wsiseg.methods.parts.critic import ENOUGH
from wsiseg.recipe import Recipe

EAGER: dict[str, Any] = {
    "name": "adaptation", "unlabelled_start": 0.0, "rampup": 0.0, "discriminator_width": 8, "choose_tiles": 2,
    "discriminator_learning_rate": 3e-3,
}  # fmt: skip


class TestAdaptation(MethodContract):
    table: ClassVar = {**EAGER, "unlabelled_weight": 0.1}
    unlabelled = "adversarial_unlabelled"

    def test_the_discriminator_tells_two_domains_apart(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, Adaptation)
        for step in range(240):
            torch.manual_seed(step)
            images, logits = torch.rand(4, 3, 32, 32), torch.randn(4, 3, 32, 32)
            logits[:2] = torch.nn.functional.avg_pool2d(3 * logits[:2], 9, 1, 4)  # smooth maps, and grainy ones
            metrics = method.learn_critic(*method._for_critic(images, logits), 2)
        assert metrics["discriminator_auc"] > 0.9
        assert metrics["discriminator_accuracy"] > 0.9
        assert method.critic.measured > ENOUGH
        assert method.remarks() == ()

    def test_its_gradient_comes_from_unlabelled_crops_alone(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Adaptation)
        kept: list[torch.Tensor] = []
        shown = method._for_critic

        def keep(images: torch.Tensor, logits: torch.Tensor) -> Any:
            logits.retain_grad()
            kept.append(logits)
            return shown(images, logits)

        method._for_critic = keep  # type: ignore[method-assign]
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
        own = {k: v.clone() for k, v in method.critic.net.module.named_parameters()}  # buffers move in a forward pass
        method.critic.learn = lambda *_: {}  # type: ignore[method-assign]
        method.update(crops, 0.5)
        assert all(torch.equal(own[k], v) for k, v in method.critic.net.module.named_parameters())

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
