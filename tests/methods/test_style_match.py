"""StyleMatch: contract, the stochastic classifier, and views in the stain of another slide."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from tests.methods.contract import MethodContract
from wsiseg.methods.parts.views import stain_view
from wsiseg.methods.style_match.method import StochasticClassifier, StyleMatch
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe


class TestStyleMatch(MethodContract):
    table: ClassVar = {
        "name": "style_match", "unlabelled_start": 0.0, "rampup": 0.0, "confidence_threshold": [0.34]
    }  # fmt: skip
    unlabelled = "stain_view"

    def test_the_means_predict(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, StyleMatch)
        self.run(method, pools, range(2))
        method.student.net.eval()
        image = torch.rand(1, 3, 32, 32)
        with torch.inference_mode():
            first, second = (method._classified(image) for _ in range(2))
            assert not torch.equal(first, second), "each pass draws other weights"
            net = method.predictor()
            bundled = net.without_heads()
            assert torch.equal(net(image), net(image))
            assert torch.equal(net(image), bundled(image))
        assert not any("stochastic" in name for name in bundled.state_dict())

    def test_each_step_moves_mean_and_spread(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, StyleMatch)
        net = method.student.net.module
        before = [net.heads["stochastic"].sigma.clone(), net.net.segmentation_head[0].weight.clone()]
        self.run(method, pools, range(1))
        after = [net.heads["stochastic"].sigma, net.net.segmentation_head[0].weight]
        assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
        shared = net.heads["stochastic"].mean
        assert shared is net.net.segmentation_head[0].weight, "the head draws around the network's own weights"

    def test_without_the_classifier_it_is_an_ordinary_network(self, stores: Any) -> None:
        recipe = self.recipe_with(stochastic=False)
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert not method.predictor().heads
        assert "classifier_spread" not in self.run(method, pools, range(1))[0]


def test_the_ema_draws_around_its_own_means() -> None:
    net = SegmentationNet(Architecture("resnet18", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16))
    net.heads["stochastic"] = StochasticClassifier(net.net.segmentation_head)
    from wsiseg.nets.ema import EMA

    copy = EMA(net, 0.9).net
    assert copy.heads["stochastic"].mean is copy.net.segmentation_head[0].weight
    assert copy.heads["stochastic"].mean is not net.net.segmentation_head[0].weight


def test_the_spread_shrinks_where_labels_are_clear() -> None:
    """Noise in the weights costs cross-entropy, so that what the labels determine becomes certain."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Conv2d(4, 2, 1))
    classifier = StochasticClassifier(head)
    with torch.no_grad():
        classifier.sigma.fill_(4.0)
    x = torch.randn(8, 4, 6, 6)
    labels = (x[:, 0] > 0).long()
    optimiser = torch.optim.Adam([*head.parameters(), *classifier.parameters()], lr=0.05)
    first = classifier.spread().mean().item()
    assert first == pytest.approx(0.693, abs=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(classifier(x), labels).backward()
        optimiser.step()
    assert classifier.spread().mean().item() < 0.8 * first
    assert (head(x).argmax(1) == labels).float().mean() > 0.95, "the means alone predict"


def test_the_stain_comes_from_another_slide() -> None:
    torch.manual_seed(0)
    colours = torch.tensor([[0.8, 0.4, 0.6], [0.8, 0.4, 0.6], [0.4, 0.5, 0.8]])
    images = colours[:, :, None, None] * (0.9 + 0.1 * torch.rand(3, 1, 16, 16))
    slide = torch.tensor([0, 0, 1])
    seen = stain_view(images, images, 1.0, slide[:, None] != slide).mean((2, 3))
    means = images.mean((2, 3))
    assert torch.allclose(seen[:2], means[2].expand(2, 3), atol=0.03)
    assert torch.allclose(seen[2], means[0], atol=0.03)
