"""What every learning method must do. A method's test class inherits this and names its recipe's [method] table."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import lightning_fabric
import pytest
import torch

from wsiseg.data.crops import Drawing, Pools, side_for
from wsiseg.methods import make_method
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore
from wsiseg.training.checkpoint import load_checkpoint, same, save_checkpoint
from wsiseg.training.start import build_network

STEPS = 6
DEVICE = os.environ.get("WSISEG_TEST_DEVICE", "cpu")  # benchmarks/gpu.py asks for cuda
if DEVICE != "cpu":  # "bit for bit" holds where the kernels add in a fixed order
    torch.use_deterministic_algorithms(True, warn_only=True)


class MethodContract:
    """Inherit and set `table`."""

    table: ClassVar[dict[str, Any]]
    model: ClassVar[dict[str, Any]] = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    recipe_type: ClassVar[type[Recipe]] = Recipe
    unlabelled: ClassVar[str | None] = None  # a metric that is there exactly when unlabelled crops teach
    moving: ClassVar[float] = 0.9  # fraction of the tensors that three updates change at least

    def recipe_with(self, **changes: Any) -> Recipe:
        return self.recipe_type.model_validate(
            {
                "name": "test",
                "classes": {"names": ["Background", "A", "B"]},
                "data": {"slides": "none.csv", "mpp": 2.0},
                "model": self.model,
                "method": {"warmup": 0.0, **self.table, **changes},
                "training": {"steps": STEPS, "batch": 2, "crop": 32},
            }
        )

    @pytest.fixture
    def recipe(self) -> Recipe:
        return self.recipe_with()

    def pools(self, recipe: Recipe, labelled: list[TileStore], unlabelled: list[TileStore]) -> Pools:
        t, a = recipe.training, recipe.augment
        side = side_for(t.crop, a.scale, a.rotate)
        return Pools(
            labelled, unlabelled, Drawing(t.batch, side, t.seed, t.object_fraction, t.class_weights, jitter=10)
        )

    def make(self, recipe: Recipe, pools: Pools) -> Method:
        torch.manual_seed(0)
        fabric = lightning_fabric.Fabric(accelerator=DEVICE, devices=1)
        classes = recipe.classes.class_map()

        def new_network(encoder: str | None = None) -> SegmentationNet:
            return build_network(recipe, len(classes), encoder)[0]

        t, a = recipe.training, recipe.augment
        return make_method(Context(recipe.method, classes, recipe.data.mpp, t.crop, a, fabric, new_network, pools))

    def crops(self, pools: Pools, step: int) -> Batches:
        there = torch.device(DEVICE)
        found = {name: data[step].to(there) for name in pools.stores if (data := pools.dataset(name)) is not None}
        return Batches(**found)

    def run(self, method: Method, pools: Pools, steps: range) -> list[dict[str, float]]:
        rows = []
        for step in steps:
            crops = self.crops(pools, step)
            torch.manual_seed(step)
            rows.append(method.update(crops, step / STEPS))
        return rows

    @pytest.fixture
    def stores(self, labelled_stores: list[TileStore], unlabelled_stores: list[TileStore]) -> Any:
        return labelled_stores, unlabelled_stores

    def test_three_updates_change_the_weights_and_the_metrics_are_finite(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        before = method.predictor().without_heads().state_dict()
        rows = self.run(method, pools, range(3))
        assert all(math.isfinite(value) for row in rows for value in row.values())
        after = method.predictor().without_heads().state_dict()
        moved = [k for k, v in after.items() if v.is_floating_point() and not torch.equal(v, before[k])]
        assert len(moved) > self.moving * sum(v.is_floating_point() for v in after.values())

    def test_resumed_equals_uninterrupted_bit_for_bit(self, recipe: Recipe, stores: Any, tmp_path: Path) -> None:
        pools = [self.pools(recipe, *stores) for _ in range(3)]
        whole, first, resumed = (self.make(recipe, p) for p in pools)
        self.run(whole, pools[0], range(4))
        self.run(first, pools[1], range(2))
        save_checkpoint(tmp_path, 2, {"method": first.state_dict(), "pools": pools[1].state_dict()}, {})
        found = load_checkpoint(tmp_path)
        assert found is not None
        pools[2].load_state_dict(found[1]["pools"])
        resumed.load_state_dict(found[1]["method"])
        assert same(resumed.state_dict(), first.state_dict())
        self.run(resumed, pools[2], range(2, 4))
        assert same(resumed.state_dict(), whole.state_dict())
        assert same(pools[2].state_dict(), pools[0].state_dict())
        for method, own in ((whole, pools[0]), (resumed, pools[2])):
            torch.manual_seed(STEPS)
            method.finish(self.crops(own, STEPS + i) for i in range(2))
        assert same(resumed.predictor().state_dict(), whole.predictor().state_dict())

    def test_it_learns_without_unlabelled_slides(self, recipe: Recipe, labelled_stores: list[TileStore]) -> None:
        pools = self.pools(recipe, labelled_stores, [])
        metrics = self.make(recipe, pools).update(self.crops(pools, 0), 0.9)
        assert all(math.isfinite(value) for value in metrics.values())

    def test_the_predictor_is_a_segmentation_network_in_eval_mode(self, recipe: Recipe, stores: Any) -> None:
        net = self.make(recipe, self.pools(recipe, *stores)).predictor()
        assert isinstance(net, SegmentationNet)
        assert not any(module.training for module in net.modules())
        exported = net.without_heads()
        with torch.inference_mode():
            assert exported(torch.rand(1, 3, 64, 96, device=DEVICE)).shape == (1, 3, 64, 96)
        SegmentationNet(exported.architecture).load_state_dict(exported.state_dict())

    def test_it_learns_one_batch_by_heart(self, stores: Any) -> None:
        recipe = self.recipe_with(learning_rate=3e-3, encoder_lr_factor=1.0)
        pools = self.pools(recipe, *stores)
        method, losses = self.make(recipe, pools), []
        crops = self.crops(pools, 0)
        for step in range(14):
            torch.manual_seed(0)  # the same crops, turned and stained the same
            metrics = method.update(crops, step / 14)
            if "cross_entropy" in metrics:  # there is a phase without it
                losses.append(metrics["cross_entropy"] + metrics["dice_loss"])
        assert len(losses) >= 7
        assert min(losses[-3:]) < 0.8 * losses[0]

    def test_unlabelled_crops_change_what_is_learnt(self, recipe: Recipe, stores: Any) -> None:
        if self.unlabelled is None:
            pytest.skip("the method does not use unlabelled crops")
        after = []
        for extra in ([], stores[1]):
            pools = self.pools(recipe, stores[0], extra)
            method = self.make(recipe, pools)
            metrics = self.run(method, pools, range(2, 5))[-1]
            assert (self.unlabelled in metrics) == bool(extra)
            after.append(method.predictor().state_dict())
        assert any(not torch.equal(after[0][k], after[1][k]) for k in after[0])

    def test_labels_of_the_unlabelled_crops_are_not_looked_at(self, recipe: Recipe, stores: Any) -> None:
        """An annotation that leaks in from the unlabelled side would make every comparison worthless."""
        states = []
        for given in (255, 1):
            pools = self.pools(recipe, *stores)
            method = self.make(recipe, pools)
            crops = self.crops(pools, 0)
            assert crops.unlabelled is not None
            assert (crops.unlabelled.labels == 255).all()
            other = replace(crops.unlabelled, labels=torch.full_like(crops.unlabelled.labels, given))
            torch.manual_seed(0)
            method.update(replace(crops, unlabelled=other), 0.4)
            states.append(method.state_dict())
        assert same(*states)
