"""The parts that methods are made of, each against what its paper says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsiseg.methods.parts.bank import ClassBank
from wsiseg.methods.parts.gate import UNSURE, Quantile, banded, confident
from wsiseg.methods.parts.settle import settle_batch_norm


def test_pseudo_labels_are_those_that_are_confident_enough_for_their_class() -> None:
    p = torch.tensor([[0.90, 0.05, 0.05], [0.05, 0.90, 0.05], [0.30, 0.00, 0.70]]).T.reshape(1, 3, 1, 3)
    assert confident(p, torch.tensor([0.95, 0.8, 0.6])).tolist() == [[[UNSURE, 1, 2]]]


def test_a_band_decides_on_all_objects_together() -> None:
    """Two kinds of object share 0.6: no class is confident, and yet something is there."""
    p = torch.tensor([[0.9, 0.05, 0.05], [0.65, 0.2, 0.15], [0.4, 0.25, 0.35]]).T.reshape(1, 3, 1, 3)
    assert banded(p, 0.2, 0.5).tolist() == [[[0, UNSURE, 2]]]


def test_the_best_pixels_of_each_class_pass() -> None:
    gate = Quantile(2, 0.25)
    label = torch.tensor([[0] * 100 + [1] * 100])[None]
    score = torch.cat([torch.arange(100.0), torch.arange(100.0) - 500])[None, None]
    passed = gate(label, score) != UNSURE
    assert passed[0, 0, :100].sum() == passed[0, 0, 100:].sum() == 25
    assert passed[0, 0, 75:100].all(), "those of highest score"
    assert passed[0, 0, 175:].all(), "also of a class that never scores high"
    again = Quantile(2, 0.25)
    again.load_state_dict(gate.state_dict())
    assert torch.equal(again(label, score), gate(label, score))


def test_a_class_that_never_came_has_no_quantile_yet() -> None:
    gate = Quantile(3, 0.5)
    gate(torch.zeros(1, 2, 2, dtype=torch.long), torch.rand(1, 2, 2))
    assert gate.cut[1:].isinf().all()
    assert not gate.cut[0].isinf()
    assert (gate(torch.ones(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1)) == 1).all()


def test_alignment_brings_frequencies_to_those_of_the_labels() -> None:
    bank = ClassBank(2)
    bank.count(torch.tensor([[0, 0, 0, 1, 255]]))
    assert bank.frequency().tolist() == [0.75, 0.25]
    predicted = torch.tensor([[[[0.95, 0.85]], [[0.05, 0.15]]]])
    bank.watch(predicted)
    aligned = bank.aligned(predicted, 1.0)
    assert torch.allclose(aligned.sum(1), torch.ones(1, 1, 2))
    assert aligned[:, 1].mean() > 2 * predicted[:, 1].mean()
    softer = bank.aligned(predicted, 0.5)
    assert (softer[:, 1] > aligned[:, 1]).all(), "a lower power favours the rare class"


def test_adaptive_thresholds_follow_confidence_and_spare_the_unsure_class() -> None:
    bank = ClassBank(3, memory=0.5)
    assert bank.thresholds().tolist() == pytest.approx([1 / 3] * 3)
    p = torch.zeros(1, 3, 10, 10)
    p[0, 0], p[0, 1] = 0.96, 0.04
    p[0, :, 0, 0] = torch.tensor([0.3, 0.6, 0.1])
    for _ in range(30):
        bank.watch(p)
    background, rare, never = bank.thresholds().tolist()
    assert background == pytest.approx(0.9564, abs=1e-3)
    assert rare == pytest.approx(0.6 / 0.96 * 0.9564, abs=1e-3), "one pixel of a hundred, and yet as its own confidence"
    assert never == pytest.approx(1 / 3 / 0.96 * 0.9564, abs=1e-3)


def test_batch_statistics_are_those_of_the_crops() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).eval()
    crops = [torch.randn(4, 3, 8, 8) * 2 + 5 for _ in range(3)]
    settle_batch_norm(net, crops)
    assert torch.allclose(net[0].running_mean, torch.stack([c.mean((0, 2, 3)) for c in crops]).mean(0), atol=1e-5)
    assert net[0].momentum == pytest.approx(0.1)
    assert not any(module.training for module in net.modules())
    before = net[0].running_mean.clone()
    settle_batch_norm(net, [])
    assert torch.equal(net[0].running_mean, before), "without crops nothing changes"
