"""The methods that learn from pseudo-labels or agreement: consistency, mean teacher, self-training."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.errors import RecipeError
from wsiseg.methods.consistency import pseudo_labels
from wsiseg.methods.method import rise
from wsiseg.methods.self_training import SelfTraining, balanced
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore


class SemiSupervisedContract(MethodContract):
    """What each of them must do besides."""

    figure: ClassVar[str]

    def test_unlabelled_slides_change_what_is_learnt(
        self, recipe: Recipe, labelled_stores: list[TileStore], unlabelled_stores: list[TileStore]
    ) -> None:
        after = []
        for extra in (None, self.batch(recipe, unlabelled_stores, 0)):
            method = self.make(recipe)
            torch.manual_seed(0)
            figures = method.update(self.batch(recipe, labelled_stores, 0), extra, 0.9)
            assert (self.figure in figures) == (extra is not None)
            after.append(method.state_dict()["net"])
        assert any(not torch.equal(after[0][k], after[1][k]) for k in after[0])

    def test_labels_of_the_unlabelled_batch_are_not_looked_at(
        self, recipe: Recipe, labelled_stores: list[TileStore]
    ) -> None:
        """An outline that leaks in from the unlabelled side would make every comparison worthless."""
        images, labels = self.batch(recipe, labelled_stores, 1)
        states = []
        for given in (labels, torch.full_like(labels, 255)):
            method = self.make(recipe)
            torch.manual_seed(0)
            method.update(self.batch(recipe, labelled_stores, 0), (images, given), 0.9)
            states.append(method.state_dict()["net"])
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


class TestConsistency(SemiSupervisedContract):
    table: ClassVar = {"name": "consistency", "consistency": {"start": 0.0, "ramp": 0.0, "confidence": [0.2, 0.3, 0.4]}}
    figure = "consistency"

    def test_a_confidence_for_each_class_or_one_for_all(self, recipe: Recipe) -> None:
        wrong = recipe.method.consistency.model_copy(update={"confidence": (0.5, 0.6)})
        method = recipe.method.model_copy(update={"consistency": wrong})
        with pytest.raises(RecipeError, match=r"method\.consistency\.confidence has 2 numbers"):
            self.make(recipe.model_copy(update={"method": method}))


class TestMeanTeacher(SemiSupervisedContract):
    table: ClassVar = {"name": "mean_teacher", "mean_teacher": {"ramp": 0.0}}
    figure = "disagreement"


SELF: dict[str, Any] = {"rounds": 6, "members": 2, "confidence": [0.34]}


class TestSelfTraining(SemiSupervisedContract):
    """Six steps and six rounds: the ensemble changes with every step, also on both sides of the resumed one."""

    table: ClassVar = {"name": "self_training", "self_training": SELF}
    figure = "self_training"

    def test_the_ensemble_holds_the_newest_and_stands_still_between_rounds(
        self, recipe: Recipe, labelled_stores: list[TileStore]
    ) -> None:
        method = self.make(recipe)
        assert isinstance(method, SelfTraining)
        batch = self.batch(recipe, labelled_stores, 0)
        sizes = []
        for step in range(6):
            method.update(batch, batch, step / 6)
            sizes.append(len(method.ensemble))
        assert sizes == [0, 1, 2, 2, 2, 2]
        newest = method.ensemble[-1].state_dict()
        kept = {k: v.clone() for k, v in newest.items()}
        method.update(batch, batch, 5.5 / 6)
        assert all(torch.equal(v, kept[k]) for k, v in method.ensemble[-1].state_dict().items())

    def test_the_rarest_class_keeps_all_its_labels(self, recipe: Recipe) -> None:
        method = self.make(recipe)
        assert isinstance(method, SelfTraining)
        method.seen = torch.tensor([8000.0, 1000.0, 125.0], dtype=torch.float64)
        third = recipe.method.self_training.model_copy(update={"alpha": 1 / 3})
        method.own = third
        assert method.keep_rates().tolist() == pytest.approx([0.25, 0.5, 1.0])


def test_pseudo_labels_are_those_that_are_sure_enough_for_their_class() -> None:
    p = torch.tensor([[0.90, 0.05, 0.05], [0.05, 0.90, 0.05], [0.30, 0.00, 0.70]]).T.reshape(1, 3, 1, 3)
    assert pseudo_labels(p, torch.tensor([0.95, 0.8, 0.6])).tolist() == [[[-1, 1, 2]]]


def test_classes_are_left_out_of_whole_crops_at_their_rates() -> None:
    torch.manual_seed(0)
    target = torch.tensor([0, 1, 1, 2, -1]).repeat(4000, 1)[:, None]
    kept = balanced(target, torch.tensor([0.25, 0.5, 1.0]))
    share = (kept >= 0).float().mean((0, 1))
    assert share.tolist() == pytest.approx([0.25, 0.5, 0.5, 1.0, 0.0], abs=0.03)
    assert torch.equal(kept[:, 0, 1], kept[:, 0, 2]), "a class leaves a crop as a whole"
    assert torch.equal(kept[kept >= 0], target[kept >= 0])


def test_the_weight_of_unlabelled_slides_rises_from_nothing_to_all() -> None:
    weights = [rise(t / 100, 0.3, 0.2) for t in range(101)]
    assert not any(weights[:30])
    assert weights == sorted(weights)
    assert weights[50] == weights[100] == 1
    assert rise(0.3, 0.3, 0.0) == 1
