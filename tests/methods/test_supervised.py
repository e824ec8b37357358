"""The supervised method."""

from typing import ClassVar

import torch

from tests.methods.contract import MethodContract
from wsiseg.methods.method import rate
from wsiseg.methods.supervised import Supervised
from wsiseg.recipe import Recipe


class TestSupervised(MethodContract):
    table: ClassVar = {"name": "supervised"}


class TestForgiving(MethodContract):
    table: ClassVar = {"name": "supervised", "forgive": 0.5, "forgive_after": 0.0}

    def test_only_sure_background_away_from_outlines_is_forgiven(self, recipe: Recipe) -> None:
        method = self.make(recipe)
        assert isinstance(method, Supervised)
        labels = torch.zeros(1, 96, 96, dtype=torch.long)
        labels[:, :10, :10] = 1
        sure = torch.full((1, 3, 96, 96), -5.0)
        sure[:, 2] = 5.0

        class Sure(torch.nn.Module):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                return sure

        method.average.net = Sure()
        weight, share = method._weight(torch.rand(1, 3, 96, 96), labels, 0.5)
        reach = 10 + method.margin
        assert weight is not None
        assert not weight[:, reach:, reach:].any(), "far background is forgiven"
        assert weight[:, :10, :10].all(), "an outline is not"
        assert weight[:, :reach, :reach].all(), "nor is its surrounding"
        assert share == (1 - weight).mean()


def test_the_rate_rises_and_falls() -> None:
    for schedule in ("cosine", "poly"):
        rates = [rate(i / 1000, schedule, 0.1) for i in range(1000)]
        assert rates[0] == 0
        assert max(rates) == rates[100] == 1
        assert rates[100:] == sorted(rates[100:], reverse=True)
        assert rates[-1] < 0.01
