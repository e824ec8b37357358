"""Methods for a stage before training: contrast, pretext tasks, triplets. Each against what its paper says."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch.nn import functional as F

from tests.methods.contract import MethodContract
from wsiseg.losses.contrastive import prototype_contrast, supervised_contrast, triplet
from wsiseg.methods.contrastive.method import Contrastive, attended, balanced_pixels
from wsiseg.methods.mix_and_match.method import match, mix
from wsiseg.methods.s4l.method import CHANGES, turned_and_stained
from wsiseg.recipe import Recipe


class TestContrastive(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {
        "name": "contrastive", "embedding": 8, "pixels": 64, "unlabelled_start": 0.0, "rampup": 0.0,
        "confidence_threshold": [0.34],
    }  # fmt: skip
    unlabelled = "contrast_unlabelled"

    def test_classes_move_apart_without_any_other_loss(self, stores: Any) -> None:
        recipe = self.recipe_with(supervised_weight=0.0, learning_rate=3e-3, encoder_lr_factor=1.0)
        pools = self.pools(recipe, stores[0], [])
        method = self.make(recipe, pools)
        assert isinstance(method, Contrastive)
        crops, rows = self.crops(pools, 0), []
        for step in range(20):
            torch.manual_seed(0)
            rows.append(method.update(crops, step / 20)["contrast"])
        assert min(rows[-3:]) < 0.7 * rows[0]

    def test_the_embedding_is_not_exported(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert "embedding" in method.predictor().heads
        assert not method.predictor().without_heads().heads


def test_an_embedding_is_drawn_to_the_prototype_of_its_class() -> None:
    prototypes, known = torch.eye(3), torch.tensor([True, True, False])
    at = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
    right = prototype_contrast(at[:1], torch.tensor([0]), prototypes, known, 0.5)
    assert right.item() == pytest.approx(math.log(1 + math.exp(-2))), "the third class has no prototype"
    wrong = prototype_contrast(at[:1], torch.tensor([1]), prototypes, known, 0.5)
    assert wrong.item() == pytest.approx(2 + math.log(1 + math.exp(-2)))
    none = prototype_contrast(at, torch.tensor([0, -1, 2, -1]), prototypes, known, 0.5)
    assert none.item() == pytest.approx(right.item()), "neither without a label nor without a prototype"


def test_supervised_contrast_is_that_of_its_paper() -> None:
    torch.manual_seed(0)
    z, labels = F.normalize(torch.randn(5, 4), dim=1), torch.tensor([0, 0, 1, 1, -1])
    cosines, wanted = (z @ z.T / 0.3).tolist(), []
    for i, j in ((0, 1), (1, 0), (2, 3), (3, 2)):
        wanted.append(math.log(sum(math.exp(cosines[i][k]) for k in range(4) if k != i)) - cosines[i][j])
    assert supervised_contrast(z, labels, 0.3).item() == pytest.approx(sum(wanted) / 4, rel=1e-5)
    assert supervised_contrast(z, torch.arange(5), 0.3) == 0, "nothing has a partner"


def test_attention_gives_one_crop_an_embedding_for_each_of_its_classes() -> None:
    embedded = torch.zeros(1, 2, 2, 2)
    embedded[0, 0, 0], embedded[0, 1, 1] = 1, 1
    labels = torch.tensor([[[2, 2], [0, -1]]])
    means, names = attended(embedded, labels, 3)
    assert names.tolist() == [0, -1, 2]
    assert means[0].tolist() == [0, 1]
    assert means[2].tolist() == [1, 0]


def test_a_rare_class_is_drawn_as_often_as_a_frequent_one() -> None:
    labels = torch.zeros(1, 40, 40, dtype=torch.long)
    labels[0, 0, :10], labels[0, 20:] = 1, -1
    torch.manual_seed(0)
    drawn = labels.flatten()[balanced_pixels(labels, 3, 4000)]
    assert (drawn >= 0).all()
    assert (drawn == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert len(balanced_pixels(torch.full((1, 4, 4), -1), 3, 7)) == 7


class TestS4L(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {"name": "s4l"}
    unlabelled = "pretext_unlabelled"

    def test_it_learns_without_any_annotation(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, stores[1], [])
        method = self.make(recipe, pools)
        rows = self.run(method, pools, range(2))
        assert all(math.isfinite(value) for row in rows for value in row.values())
        assert rows[0]["cross_entropy"] == rows[0]["dice_loss"] == 0
        assert rows[0]["loss"] == pytest.approx(rows[0]["pretext"])


def test_a_second_view_differs_by_its_turn_and_by_one_stain() -> None:
    torch.manual_seed(0)
    images = 0.4 + 0.4 * torch.rand(40, 3, 16, 16)
    second, turn, change = turned_and_stained(images, 0.3)
    assert set(turn.tolist()) == set(range(4))
    assert set(change.tolist()) == set(range(len(CHANGES)))
    for i in range(40):
        back = second[i].rot90(-int(turn[i]), (1, 2))
        denser = (back < images[i]).float().mean()
        assert torch.corrcoef(torch.stack([back.flatten(), images[i].flatten()]))[0, 1] > 0.9, "turned back it fits"
        assert 0 < denser < 1 or (denser == 1) == (CHANGES[int(change[i])][1] > 0)


def test_a_pretext_task_can_be_learnt(labelled_stores: Any) -> None:
    contract = TestS4L()
    recipe = contract.recipe_with(supervised_weight=0.0, learning_rate=1e-2, encoder_lr_factor=1.0)
    pools = contract.pools(recipe, labelled_stores, [])
    method, crops = contract.make(recipe, pools), contract.crops(pools, 0)
    rows = []
    for step in range(40):
        torch.manual_seed(step % 4)
        rows.append(method.update(crops, step / 40)["pretext"])
    assert sum(rows[-4:]) < 0.7 * sum(rows[:4])


class TestMixAndMatch(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {"name": "mix_and_match", "patches": 6}

    def test_widths_are_ordered(self) -> None:
        with pytest.raises(ValueError, match="the smaller one first"):
            self.recipe_with(patch_width=(0.5, 0.1))


def test_a_patch_has_the_label_of_its_centre() -> None:
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[0, :, 32:], labels[1, 32:] = 1, 255
    images = labels[:, None].expand(-1, 3, -1, -1).float()
    torch.manual_seed(0)
    patches, names = mix(images, labels, 50, (0.125, 0.5), 33)
    assert patches.shape == (100, 3, 33, 33)
    centre = patches[:, 0, 16, 16].round().long()
    assert ((names == centre) | (centre == 255) & (names == -1)).float().mean() > 0.95, "but on the very border"
    assert set(names.tolist()) == {-1, 0, 1}


def test_each_class_is_one_connected_graph() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        labels = torch.randint(-1, 4, (60,))
        positive, negative, valid = match(labels)
        chosen = torch.nonzero(valid)[:, 0]
        assert (labels[chosen] == labels[positive[chosen]]).all()
        assert (labels[chosen] != labels[negative[chosen]]).all()
        assert (labels[negative[chosen]] >= 0).all()
        edges = coo_matrix((torch.ones(len(chosen)), (chosen, positive[chosen])), shape=(60, 60))
        parts = connected_components(edges, directed=False)[1]
        for c in range(4):
            assert len(set(parts[(labels == c).numpy()])) == 1
        assert len(chosen) == sum(int((labels == c).sum()) - 1 for c in range(4)), "a tree: all but its first patch"


def test_a_triplet_wants_its_margin() -> None:
    a, p, n = torch.eye(3)[[0]], torch.eye(3)[[0]], torch.eye(3)[[1]]
    assert triplet(a, p, n, torch.tensor([True]), 2.1).item() == pytest.approx(0.1)
    assert triplet(a, n, p, torch.tensor([True]), 2.1).item() == pytest.approx(4.1)
    assert triplet(a, n, p, torch.tensor([False]), 2.1).item() == 0
