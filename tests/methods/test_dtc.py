"""Dual-task consistency: contract, signed distances, and the agreement of the two tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from scipy import ndimage

from tests.methods.contract import MethodContract
from wsiseg.losses.distance import level_set, signed_distance
from wsiseg.methods.dtc.method import DTC, dual_task
from wsiseg.recipe import Recipe


class TestDTC(MethodContract):
    table: ClassVar = {"name": "dtc", "rampup": 0.0}
    unlabelled = "dual_task"

    def test_the_bundle_has_no_distances(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, DTC)
        assert method.reach == 25, "50 µm at 2 µm/px"
        assert not method.predictor().without_heads().heads

    def test_distances_are_learnt_from_labels_alone(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, stores[0], [])
        method = self.make(recipe, pools)
        assert isinstance(method, DTC)
        before = method.student.net.module.heads["distance"].weight.clone()
        assert "distance_error" in method.update(self.crops(pools, 0), 0.5)
        assert not torch.equal(method.student.net.module.heads["distance"].weight, before)


def disc(side: int, radius: float) -> torch.Tensor:
    at = torch.arange(side) - side / 2 + 0.5
    return (at[:, None] ** 2 + at**2).sqrt() < radius


@pytest.mark.parametrize("reach", [3, 8, 40])
def test_signed_distances_of_discs(reach: int) -> None:
    inside = torch.stack([disc(32, 9), disc(32, 5), ~disc(32, 12)])
    expected = torch.stack(
        [
            torch.from_numpy(ndimage.distance_transform_edt(~m) * ~m - ndimage.distance_transform_edt(m) * m)
            - torch.where(torch.from_numpy(m), -0.5, 0.5)
            for m in inside.numpy()
        ]
    )
    found = signed_distance(inside[None], reach)[0]
    assert torch.allclose(found.double(), expected.clamp(-reach, reach) / reach, atol=1e-6)
    assert torch.equal(found < 0, inside)


def test_a_disc_comes_back_from_its_distances() -> None:
    inside = disc(32, 9)[None, None]
    distance = signed_distance(inside, 25)
    assert torch.allclose(level_set(distance, 1500.0), inside.float(), atol=1e-6)
    soft = level_set(distance, 20.0)
    assert torch.equal(soft > 0.5, inside)
    assert 0.1 < soft[0, 0, 16, 6] < 0.9, "smooth at the border"


def test_without_any_object_everything_is_far() -> None:
    none = torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    assert (signed_distance(none, 5) == 1).all()
    assert (signed_distance(~none, 5) == -1).all()


def test_the_loss_is_0_where_both_tasks_agree() -> None:
    inside = torch.stack([disc(32, 9), torch.zeros(32, 32, dtype=torch.bool)])[None]
    labels = inside[:, 0].long()
    logits = 40 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    distance = signed_distance(inside, 25).requires_grad_()
    counted = torch.ones(1, 32, 32, dtype=torch.bool)
    assert dual_task(logits, distance, counted, 1500.0).item() == pytest.approx(0, abs=1e-9)
    other = 40 * torch.nn.functional.one_hot(1 - labels, 3).movedim(-1, 1).float()
    assert dual_task(other, distance, counted, 1500.0).item() == pytest.approx(0.5), "class A everywhere, B nowhere"
    assert dual_task(other, distance, ~counted, 1500.0) == 0
    logits.requires_grad_()
    dual_task(logits * 0.01, distance, counted, 20.0).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert distance.grad is not None
    assert distance.grad.abs().sum() > 0, "each task teaches the other"
