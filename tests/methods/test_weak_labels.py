"""Weak labels: where a class is, learnt from which slides have it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.data.crops import Batch, Pools
from wsiseg.errors import RecipeError
from wsiseg.methods.context import Batches
from wsiseg.methods.parts.tags import TagReader, classes_seen, presence_loss, smooth_maximum
from wsiseg.methods.weak_labels.method import NEAR, WeakLabels, seeds, spread
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore


class TestWeakLabels(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {
        "name": "weak_labels", "unlabelled_start": 0.0, "rampup": 0.0, "confidence_threshold": 0.4,
        "tags": {"discs": "A"},
    }  # fmt: skip
    unlabelled = "weak_labels"

    def pools(self, recipe: Recipe, labelled: list[TileStore], unlabelled: list[TileStore]) -> Pools:
        pools = super().pools(recipe, labelled, unlabelled)
        pools.tags = {"labelled": [("discs", "b")] * len(labelled), "unlabelled": [("discs",), ("B",)]}
        return pools

    def test_no_tag_names_a_class(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        pools.tags = {"labelled": [("pas",), ()], "unlabelled": [(), ()]}
        with pytest.raises(RecipeError, match=r"column `tags`"):
            self.make(recipe, pools)

    def test_a_tag_for_no_class(self, stores: Any) -> None:
        recipe = self.recipe_with(tags={"sclerosis": "Sclerotic"})
        with pytest.raises(RecipeError, match=r"method\.tags maps 'sclerosis' to 'Sclerotic', which is no class"):
            self.make(recipe, self.pools(recipe, *stores))

    def test_it_finds_where_a_class_is_from_tags_alone(self, stores: Any) -> None:
        recipe = self.recipe_with(unlabelled_start=0.5, learning_rate=3e-3, encoder_lr_factor=1.0, ema=0.8)
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"crop": 64})})
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, WeakLabels)
        steps, right, wrong = 45, 0.0, 0.0
        for step in range(steps):
            crops, place = spotted(step)
            torch.manual_seed(step)
            method.update(Batches(half(crops), crops), step / steps)
        for step in range(steps, steps + 3):
            crops, place = spotted(step)
            images = crops.images.movedim(-1, 1).float() / 255
            found = method._pseudo_labels(images, method._known(crops)) == 1
            right += found[place].float().mean().item() / 3
            wrong += found[:4][~place[:4]].float().mean().item() / 3
        assert right > 0.7
        assert wrong < 0.4, "around the spots, which cover a seventh"


def spotted(seed: int) -> tuple[Batch, torch.Tensor]:
    """Eight crops; half of them have a dark spot and the tag of A. And where the spots are."""
    g = torch.Generator().manual_seed(seed)
    images = (200 + 10 * torch.randn(8, 64, 64, 3, generator=g)).clamp(0, 255)
    place = torch.zeros(8, 64, 64, dtype=torch.bool)
    for i in range(4):
        y, x = torch.randint(4, 36, (2,), generator=g).tolist()
        place[i, y : y + 24, x : x + 24] = True
    images[place] -= torch.tensor([110.0, 120.0, 60.0])
    unknown = torch.full((8, 64, 64), IGNORE, dtype=torch.uint8)
    tags = tuple(("discs",) if i < 4 else ("normal",) for i in range(8))
    covered = torch.ones(8, 64, 64, dtype=torch.bool)
    return Batch(images.byte(), unknown, covered, torch.arange(8), torch.zeros(8, 2), tags), place


def half(crops: Batch) -> Batch:
    """Some of the crops, as a run without any annotation gives them as labelled ones."""
    return crops.part(slice(0, 4))


def test_tags_are_names_of_classes_or_stand_for_them() -> None:
    read = TagReader(
        ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus")), {"Sclerosis": "Sclerotic glomerulus"}
    )
    found = read([("glomerulus",), ("SCLEROSIS", "pas"), ("normal",), ()])
    assert found.tolist() == [[1, 0], [0, 1], [0, 0], [-1, -1]]


def test_of_a_crop_without_a_class_only_whole_labels_say_so() -> None:
    labels = torch.tensor([[[0, 1]], [[0, 0]], [[2, IGNORE]]])
    assert classes_seen(labels, 3).tolist() == [[1, 0], [0, 0], [-1, 1]]
    logits = torch.tensor([[9.0, -9.0], [9.0, 9.0]])
    assert presence_loss(logits, torch.tensor([[1.0, 0.0], [-1.0, 1.0]])) < 1e-3, "what is unknown does not count"
    assert presence_loss(logits, torch.tensor([[0.0, 0.0], [-1.0, -1.0]])) > 4


def test_pooling_does_not_average_a_small_object_away() -> None:
    scores = torch.full((2, 1, 16, 16), -4.0)
    scores[0, 0, 3:6, 3:6] = 8.0
    small, none = smooth_maximum(scores)[:, 0].tolist()
    assert 7 < small < 8
    assert none == pytest.approx(-4)
    assert scores[0].mean() < 0, "the plain mean says that nothing is there"


def test_seeds_follow_the_tags() -> None:
    activation = torch.tensor([[0.6, 0.3], [0.05, 0.02], [0.55, 0.9], [0.3, 0.3]]).T.reshape(1, 2, 1, 4)
    both = seeds(activation, torch.tensor([[1.0, 1.0]]), 0.5, 0.1)
    assert both[0, :, 0].T.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    first = seeds(activation, torch.tensor([[1.0, 0.0]]), 0.5, 0.1)
    assert first[0, :, 0].T.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], "the tags exclude the second"
    none = seeds(activation, torch.tensor([[0.0, 0.0]]), 0.5, 0.1)
    assert none[0, 0].sum() == 4, "nothing is there, so all is background"
    assert none[0, 1:].sum() == 0
    assert seeds(activation, torch.tensor([[-1.0, -1.0]]), 0.5, 0.1).sum() == 0, "a slide without tags says nothing"


def test_the_walk_follows_similar_features() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 1.0], [-1.0, -1.0]]).T.reshape(
        1, 2, 1, 6
    )
    seeded = torch.zeros(1, 2, 1, 6)
    seeded[0, 1, 0, 0], seeded[0, 0, 0, 3] = 1, 1
    grown = spread(seeded, features, 8.0, 4)
    assert (grown[0, 1, 0, :3] > 0.9).all()
    assert (grown[0, 0, 0, 3:5] > 0.9).all()
    assert torch.equal(spread(seeded, features, 8.0, 0), seeded)
    far = torch.ones(1, 2, 1, 12)
    far[0, 0, 0, ::2] = 0.5
    first = torch.zeros(1, 2, 1, 12)
    first[0, 1, 0, 0] = 1
    assert (spread(first, far, 1.0, 1)[0, 1, 0] > 0).nonzero().max() <= NEAR, "a step reaches what is near"
    alone = torch.zeros(1, 2, 1, 6)
    alone[0, 1, 0, 3] = 1
    assert spread(alone, features, 8.0, 4)[0, :, 0, 0].sum() == 0, "no seed reaches it"
