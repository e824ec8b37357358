"""What every learning method must do. A method's test class inherits this and names its recipe's [method] table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import lightning_fabric
import pytest
import torch

from wsiseg.data.crops import CropDataset, side_for
from wsiseg.methods import METHODS
from wsiseg.methods.method import Batch, Method
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore
from wsiseg.training.checkpoint import load_checkpoint, same, save_checkpoint
from wsiseg.training.run import build_generator


class MethodContract:
    """Inherit and set `table`."""

    table: ClassVar[dict[str, Any]]

    @pytest.fixture
    def recipe(self) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "test",
                "classes": {"names": ["Background", "A", "B"]},
                "data": {"slides": "none.csv", "mpp": 2.0},
                "model": {"encoder": "tu-tf_efficientnet_lite0", "weights": "none", "decoder_channels": 16},
                "method": {"warmup": 0.0, **self.table},
                "training": {"steps": 6, "batch": 2, "crop": 64},
            }
        )

    def make(self, recipe: Recipe) -> Method:
        torch.manual_seed(0)
        fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
        generator, _ = build_generator(recipe, 3)
        return METHODS[recipe.method.name](recipe, recipe.classes.class_map(), fabric, generator)

    def batch(self, recipe: Recipe, stores: list[TileStore], step: int, stream: int = 0) -> Batch:
        t, a = recipe.training, recipe.augment
        side = side_for(t.crop, a.scale, a.rotate)
        return CropDataset(stores, batch=t.batch, side=side, seed=stream, object_share=0.7, jitter=20)[step]

    def run(self, method: Method, recipe: Recipe, stores: list[TileStore], steps: range) -> list[dict[str, float]]:
        rows = []
        for step in steps:
            torch.manual_seed(step)
            extra = self.batch(recipe, stores, step, 1)
            rows.append(method.update(self.batch(recipe, stores, step), extra, step / recipe.training.steps))
        return rows

    def test_three_updates_change_the_weights_and_the_figures_are_finite(
        self, recipe: Recipe, labelled_stores: list[TileStore]
    ) -> None:
        method = self.make(recipe)
        before = {k: v.clone() for k, v in method.predictor().state_dict().items()}
        rows = self.run(method, recipe, labelled_stores, range(3))
        assert all(math.isfinite(value) for row in rows for value in row.values())
        after = method.predictor().state_dict()
        moved = [k for k, v in before.items() if v.is_floating_point() and not torch.equal(v, after[k])]
        assert len(moved) > 0.9 * sum(v.is_floating_point() for v in before.values())

    def test_resumed_equals_uninterrupted_bit_for_bit(
        self, recipe: Recipe, labelled_stores: list[TileStore], tmp_path: Path
    ) -> None:
        whole = self.make(recipe)
        self.run(whole, recipe, labelled_stores, range(4))
        first = self.make(recipe)
        self.run(first, recipe, labelled_stores, range(2))
        save_checkpoint(tmp_path, 2, first.state_dict(), {})
        resumed = self.make(recipe)
        found = load_checkpoint(tmp_path)
        assert found is not None
        resumed.load_state_dict(found[1])
        assert same(resumed.state_dict(), first.state_dict())
        self.run(resumed, recipe, labelled_stores, range(2, 4))
        assert same(resumed.state_dict(), whole.state_dict())

    def test_one_labelled_batch_without_unlabelled_slides(
        self, recipe: Recipe, labelled_stores: list[TileStore]
    ) -> None:
        figures = self.make(recipe).update(self.batch(recipe, labelled_stores, 0), None, 0.9)
        assert all(math.isfinite(value) for value in figures.values())

    def test_the_predictor_is_a_generator_in_eval_mode(self, recipe: Recipe) -> None:
        net = self.make(recipe).predictor()
        assert isinstance(net, SegmentationNet)
        assert not net.training
        with torch.inference_mode():
            assert net(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)

    def test_it_learns_one_batch_by_heart(self, recipe: Recipe, labelled_stores: list[TileStore]) -> None:
        quick = recipe.method.model_copy(update={"learning_rate": 3e-3, "encoder_rate": 1.0})
        method = self.make(recipe.model_copy(update={"method": quick}))
        batch, losses = self.batch(recipe, labelled_stores, 0), []
        for step in range(20):
            torch.manual_seed(0)  # the same crops, turned and stained the same
            figures = method.update(batch, batch, step / 20)
            if "cross_entropy" in figures:  # there is a phase without it
                losses.append(figures["cross_entropy"] + figures["dice_loss"])
        assert len(losses) >= 10
        assert losses[-1] < 0.75 * losses[0]
