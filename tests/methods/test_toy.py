"""A method of two networks and an extra head, written as a newcomer would, and registered here alone.

It shows what a new method touches: its options, its code, one line in the table (here: a recipe with its options) and
one subclass of the contract.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from tests.methods.contract import MethodContract
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.options import LearningOptions, UnlabelledOptions
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher
from wsiseg.methods.parts.views import Views
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe


class ToyOptions(LearningOptions, UnlabelledOptions):
    """Two students teach each other; each has a head that tells foreground."""

    implementation: ClassVar[str] = f"{__name__}:Toy"
    name: Literal["toy"] = "toy"
    foreground_weight: float = Field(0.1, ge=0, description="of the loss of the extra head")


class Toy(Method):
    """Each student learns from labels, and from what the EMA of the other one says of unlabelled crops."""

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        networks = [ctx.new_network() for _ in range(2)]
        for network in networks:
            network.heads["foreground"] = nn.Conv2d(network.architecture.decoder_channels, 1, 1)
        self.one, self.other = (Student(ctx, network) for network in networks)
        self.views, self.chooser = Views(ctx), CropChooser(ctx)
        self.teachers = [EMATeacher(s.ema, ctx.fabric) for s in (self.other, self.one)]
        self.losses = [LabelledLoss(ctx, s.ema) for s in (self.one, self.other)]

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step of each."""
        images, labels = self.views.weak(batches.labelled)
        metrics = self.chooser.step(self.teachers[0])
        for student, labelled_loss, peer in zip((self.one, self.other), self.losses, self.teachers, strict=True):
            student.set_lr(progress)
            student.net.train()
            logits, heads = student.net(images, None, ("foreground",))
            loss, parts = labelled_loss(logits, images, labels, progress)
            wanted = nn.functional.adaptive_max_pool2d((labels == 1).float()[:, None], heads["foreground"].shape[-2:])
            foreground = nn.functional.binary_cross_entropy_with_logits(heads["foreground"], wanted)
            loss = loss + self.options.foreground_weight * foreground
            if batches.unlabelled is not None:
                plain, _ = self.views.plain(batches.unlabelled)
                taught = nn.functional.cross_entropy(student.net(self.views.stain(plain)), peer(plain).argmax(1))
                loss = loss + self.options.unlabelled_weight * taught
                parts["cross_taught"] = taught.item()
            student.learn(loss)
            metrics |= {"loss": loss.item(), "foreground": foreground.item(), **parts}
        return metrics

    def predictor(self) -> SegmentationNet:
        """The EMA of the first."""
        return self.one.ema.net


class ToyRecipe(Recipe):
    """What a line in `wsiseg.methods` does for a method that comes along."""

    method: ToyOptions = ToyOptions()  # type: ignore[assignment]


class TestToy(MethodContract):
    table: ClassVar = {"name": "toy", "choose_every": 2, "choose_tiles": 3}
    recipe_type = ToyRecipe
    unlabelled = "cross_taught"

    def test_the_networks_differ_and_the_head_is_not_exported(self, recipe: Recipe, stores: Any) -> None:
        method = self.make(recipe, self.pools(recipe, *stores))
        assert isinstance(method, Toy)
        one, other = method.one.net.module.state_dict(), method.other.net.module.state_dict()
        assert any(not torch.equal(one[k], other[k]) for k in one)
        assert any(key.startswith("heads.foreground") for key in one)
        assert not any(key.startswith("heads.") for key in method.predictor().without_heads().state_dict())

    def test_the_method_chooses_its_crops(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        self.run(method, pools, range(1))
        weights = pools.weights["unlabelled"]
        chosen = (weights.flatten(1) > 0).any(1)
        assert int(chosen.sum()) == 3, "of as many tiles as the options say"
        assert abs(float(weights.sum()) - 1) < 1e-4
        dataset = pools.dataset("unlabelled")
        assert dataset is not None
        batch = dataset[3]
        tiles = {(s, *dataset.stores[s].tile(int(i)).keep.shape) for s, i in dataset.places[chosen.numpy()]}
        assert {int(s) for s in batch.slide} <= {int(s) for s, *_ in tiles}


assert __name__ in sys.modules, "`implementation` is imported by this name"
