"""The supervised method, and the parts that all methods share with it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.methods.schedule import lr_factor, rampup
from wsiseg.methods.supervised.method import Supervised
from wsiseg.recipe import Recipe


class TestSupervised(MethodContract):
    table: ClassVar = {"name": "supervised"}

    def test_norms_and_biases_do_not_decay_and_the_encoder_is_slower(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, Supervised)
        groups = {id(p): g for g in method.student.optimiser.param_groups for p in g["params"]}
        assert len(groups) == len(list(method.student.net.module.parameters()))
        for name, p in method.student.net.module.named_parameters():
            assert (groups[id(p)]["weight_decay"] == 0) == (p.ndim <= 1), name
            slow = name.startswith("net.encoder.")
            assert groups[id(p)]["highest"] == pytest.approx(3e-4 if slow else 1e-3), name

    def test_the_ema_begins_as_a_plain_mean(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, Supervised)
        seen = []
        for step in range(3):
            self.run(method, pools, range(step, step + 1))
            seen.append(method.student.net.module.net.segmentation_head[0].weight.detach().clone())
        mean = torch.stack(seen).mean(0)
        assert torch.allclose(method.predictor().net.segmentation_head[0].weight, mean, atol=1e-6)

    @pytest.mark.parametrize(("loss", "term"), [("lal+dice", "locally_adaptive"), ("focal+dice", "focal")])
    def test_the_recipe_chooses_the_loss(self, stores: Any, loss: str, term: str) -> None:
        recipe = self.recipe_with(loss=loss, dice=2.0)
        pools = self.pools(recipe, *stores)
        metrics = self.make(recipe, pools).update(self.crops(pools, 0), 0.0)
        assert "cross_entropy" not in metrics
        assert metrics["loss"] == pytest.approx(metrics[term] + 2 * metrics["dice_loss"], rel=1e-5)


class TestNoisyLabels(MethodContract):
    table: ClassVar = {"name": "supervised", "noisy_label_threshold": 0.5, "noisy_label_warmup": 0.0}

    def test_confident_background_away_from_annotations_does_not_count(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, Supervised)
        labels = torch.zeros(1, 96, 96, dtype=torch.long)
        labels[:, :10, :10] = 1
        sure = torch.full((1, 3, 96, 96), -5.0)
        sure[:, 2] = 5.0

        class Sure(torch.nn.Module):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                return sure

        method.student.ema.net = Sure()  # type: ignore[assignment]
        weight = method.labelled_loss._weight(torch.rand(1, 3, 96, 96), labels, 0.5)
        reach = 10 + method.labelled_loss.margin
        assert weight is not None
        assert not weight[:, reach:, reach:].any(), "far background does not count"
        assert weight[:, :10, :10].all(), "annotations do"
        assert weight[:, :reach, :reach].all(), "and so does their surrounding"


def test_the_learning_rate_rises_and_falls() -> None:
    for schedule in ("cosine", "poly"):
        rates = [lr_factor(i / 1000, schedule, 0.1) for i in range(1000)]
        assert rates[0] == 0
        assert max(rates) == rates[100] == 1
        assert rates[100:] == sorted(rates[100:], reverse=True)
        assert rates[-1] < 0.01


def test_the_weight_of_unlabelled_crops_rises_from_nothing_to_all() -> None:
    weights = [rampup(t / 100, 0.3, 0.2) for t in range(101)]
    assert not any(weights[:30])
    assert weights == sorted(weights)
    assert weights[50] == weights[100] == 1
    assert rampup(0.3, 0.3, 0.0) == 1
