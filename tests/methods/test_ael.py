"""Adaptive equalisation learning: contract, and that badly learnt classes get more of everything."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.classes import IGNORE
from wsiseg.data.cutmix import rectangles
from wsiseg.methods.ael.method import AEL, donors
from wsiseg.methods.parts.bank import ClassBank
from wsiseg.methods.parts.views import drawn


class TestAEL(MethodContract):
    table: ClassVar = {
        "name": "ael", "unlabelled_start": 0.0, "rampup": 0.0, "choose_every": 2, "choose_tiles": 2, "bank_memory": 0.5
    }  # fmt: skip
    unlabelled = "equalised"

    def knowing(self, stores: Any, confidence: list[float], **changes: Any) -> tuple[AEL, Any]:
        recipe = self.recipe_with(**changes)
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, AEL)
        method.bank.confidence = torch.tensor([*confidence, 0.9], dtype=torch.float64)
        return method, pools

    def test_crops_are_drawn_by_what_the_bank_knows(self, stores: Any) -> None:
        method, pools = self.knowing(stores, [0.9, 0.9, 0.2])
        method.update(self.crops(pools, 0), 0.5)
        _, good, bad = method.bank.chances(0.5).tolist()
        assert pools.class_weights is not None
        assert pools.class_weights[0] < pools.class_weights[1], "the class learnt worse is the centre of more crops"
        assert bad > good

    def test_the_class_of_least_confidence_is_pasted_more(self, stores: Any) -> None:
        """At the paper's power the chance differs by a factor of at most e; a high confidence and a low one show it."""
        pasted = []
        for confidence in ([0.9, 1.0, 0.0], [0.9, 0.0, 1.0]):
            method, _ = self.knowing(stores, confidence, paste=1.0)
            counts = torch.bincount(drawn(method._objects().expand(3200, -1)), minlength=3)
            pasted.append((counts / counts.sum()).tolist())
        assert pasted[0] == pytest.approx([0, 1 / (1 + torch.e), torch.e / (1 + torch.e)], abs=0.05)
        assert pasted[1] == pytest.approx([0, torch.e / (1 + torch.e), 1 / (1 + torch.e)], abs=0.05)

    def test_pixels_of_well_learnt_classes_count_less(self, stores: Any) -> None:
        method, _ = self.knowing(stores, [0.95, 0.8, 0.6])
        torch.manual_seed(0)
        sampled = method._sampled(torch.eye(3)[None, :, :, None].expand(1, 3, 3, 4000))  # a row of each class
        assert sampled.mean((0, 2)).tolist() == pytest.approx([0.125, 0.5, 1.0], abs=0.02)

    def test_objects_arrive_with_their_labels(self, stores: Any) -> None:
        method, pools = self.knowing(stores, [0.9, 0.5, 0.5], paste=1.0)
        crops = self.crops(pools, 0).labelled
        torch.manual_seed(3)
        plain, labels = method.views.weak(crops)
        torch.manual_seed(3)
        images, pasted = method._pasted(crops)
        changed = (images != plain).any(1)
        assert changed.any()
        assert (pasted[changed] > 0).all(), "only objects are pasted"
        assert torch.equal(pasted[~changed], labels[~changed])


def test_a_donor_is_another_crop_that_holds_the_class() -> None:
    labels = torch.full((4, 8, 8), IGNORE)
    labels[0, 2, 3] = labels[2, 5, 6] = labels[2, 5, 7] = 1
    torch.manual_seed(0)
    for _ in range(20):
        donor, place = donors(labels, torch.tensor([1, 1, 1, 1]), 3)
        assert donor[0] == 2
        assert donor[2] == 0
        assert {*donor.tolist()} <= {0, 2}
        assert all(labels[d].flatten()[p] == 1 for d, p in zip(donor, place, strict=True))
    anywhere = {donors(labels, torch.tensor([2]).expand(4), 3)[0][0].item() for _ in range(50)}
    assert anywhere == {0, 1, 2, 3}, "nobody holds it: any rectangle of any crop"


def test_a_rectangle_lies_around_its_centre() -> None:
    torch.manual_seed(0)
    row, col = torch.randint(32, (2, 500))
    where = rectangles(500, 32, 1.0, (row, col))
    assert where[torch.arange(500), row, col].all()


def test_the_bank_follows_the_probability_of_the_true_class() -> None:
    bank = ClassBank(3, memory=0.0)
    probability = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    bank.assess(probability, torch.tensor([[[0, 1], [1, IGNORE]]]))
    assert bank.confidence.tolist() == pytest.approx([0.7, 0.2, 1 / 3, (0.7 + 0.2 + 0.2) / 3])
    assert bank.chances().argmax() == 1
    assert bank.needs(1.0).tolist() == pytest.approx([0.3 / 0.8, 1.0, (2 / 3) / 0.8])
