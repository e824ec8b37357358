"""Robust mutual learning: two students that teach each other through their EMAs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.methods.contract import MethodContract
from wsiseg.bundle import Usage, save_bundle
from wsiseg.methods.mutual_learning.method import MutualLearning
from wsiseg.methods.parts.prototypes import ClassMeans
from wsiseg.recipe import Recipe
from wsiseg.training.checkpoint import same
from wsiseg.training.run import with_weights
from wsiseg.training.start import build_network


class TestMutualLearning(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {
        "name": "mutual_learning", "second_encoder": "tu-lcnet_050", "unlabelled_start": 0.0, "rampup": 0.0,
        "confidence_threshold": [0.2],
    }  # fmt: skip
    unlabelled = "mutual"

    def test_each_student_learns_the_labels_of_the_other_ones_ema(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, MutualLearning)
        self.run(method, pools, range(2))
        learnt: dict[str, dict[str, torch.Tensor]] = {}
        for changed in ("", "one", "other"):
            again = self.make(recipe, self.pools(recipe, *stores))
            again.load_state_dict(deepcopy(method.state_dict()))  # AdamW would share it
            assert isinstance(again, MutualLearning)
            if changed:  # this EMA says something else: who learns something else?
                getattr(again, changed).student.ema.net.net.segmentation_head[0].bias.add_(
                    torch.tensor([-9.0, 9.0, 0.0])
                )
            torch.manual_seed(5)
            again.update(self.crops(pools, 2), 0.5)
            for name in ("one", "other"):
                weights = getattr(again, name).student.net.module.net.segmentation_head[0].weight
                learnt.setdefault(name, {})[changed] = weights.detach().clone()
        assert torch.equal(learnt["one"][""], learnt["one"]["one"]), "its own EMA does not teach it"
        assert torch.equal(learnt["other"][""], learnt["other"]["other"])
        assert not torch.equal(learnt["one"][""], learnt["one"]["other"]), "that of the other one does"
        assert not torch.equal(learnt["other"][""], learnt["other"]["one"])

    def test_both_predict_together(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, MutualLearning)
        net = method.predictor().without_heads()
        assert [m.architecture.encoder for m in net.members] == ["tu-test_resnet", "tu-lcnet_050"]
        image = torch.rand(1, 3, 32, 32)
        with torch.inference_mode():
            mean = sum(m.student.ema.net(image).softmax(1) for m in (method.one, method.other)) / 2
            assert torch.allclose(net(image).softmax(1), mean, atol=1e-6)


def test_the_same_encoder_starts_from_other_weights(labelled_stores: Any) -> None:
    contract = TestMutualLearning()
    recipe = contract.recipe_with(second_encoder="")
    method = contract.make(recipe, contract.pools(recipe, labelled_stores, []))
    assert isinstance(method, MutualLearning)
    one, other = (m.student.net.module.state_dict() for m in (method.one, method.other))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_a_label_is_corrected_where_the_features_lie_at_another_class() -> None:
    means = ClassMeans(3, 2)
    features = torch.zeros(1, 2, 2, 2)
    features[0, 0, :, 1] = 4.0  # the right half lies at (4, 0)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[..., 4:] = 1
    means.watch(features, labels)
    assert means.means[:2].tolist() == [[0.0, 0.0], [4.0, 0.0]]
    assert means.seen.tolist() == [True, True, False]
    said = torch.tensor([0.6, 0.35, 0.05]).view(1, 3, 1, 1).expand(1, 3, 8, 8)  # background everywhere
    right = means.rectified(said, features, 1.0)
    label = right.argmax(1)[0, 0].tolist()
    assert (label[:3], label[5:]) == ([0] * 3, [1] * 3), "but for the border, where weights are interpolated"
    assert torch.allclose(right.sum(1), torch.ones(1, 8, 8))
    assert right[0, 1, 0, 0] < 0.02, "what lies at the background is surer background"
    assert float(right[0, 1, 0, -1] / right[0, 0, 0, -1]) == pytest.approx(0.35 / 0.6 * torch.e**4, rel=1e-3)
    slow = means.rectified(said, features, 1e6)
    assert torch.allclose(slow, said, atol=1e-4)
    means.watch(torch.ones(1, 2, 2, 2), torch.full((1, 8, 8), 255))
    assert means.means[0].tolist() == [0.0, 0.0], "no statement, no mean"


def test_training_goes_on_from_the_first_of_two_networks(tmp_path: Path) -> None:
    contract = TestMutualLearning()
    recipe = contract.recipe_with()
    one, other = (build_network(recipe, 3, encoder)[0] for encoder in (None, "tu-lcnet_050"))
    save_bundle(
        tmp_path / "two", one.with_peers(other), name="two", classes=recipe.classes.class_map(), usage=Usage(2.0, 64, 16),
        provenance={}, metrics={},
    )  # fmt: skip
    net, origin = build_network(with_weights(recipe, tmp_path / "two"), 3)
    assert origin.startswith("the first of the 2 networks of the model 'two'")
    assert len(net.members) == 1
    assert same(net.state_dict(), one.state_dict())
