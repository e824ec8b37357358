"""Multi-planar co-training: magnifications and symmetries vote."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.methods.contract import MethodContract
from wsiseg.methods.dmpct.method import DMPCT, Planes, rescaled, turned, turned_back
from wsiseg.recipe import Recipe


class TestDMPCT(MethodContract):
    model: ClassVar = {"encoder": "tu-test_resnet", "weights": "none", "decoder_channels": 16}
    table: ClassVar = {
        "name": "dmpct", "rounds": 6, "restart": False, "rampup": 0.0, "symmetries": 2, "choose_every": 2,
        "choose_tiles": 2,
    }  # fmt: skip
    unlabelled = "co_training"

    def test_crops_of_all_scales_are_learnt(self, recipe: Recipe, stores: Any) -> None:
        pools = self.pools(recipe, *stores)
        method = self.make(recipe, pools)
        assert isinstance(method, DMPCT)
        widths = set()
        method.student.net.register_forward_pre_hook(lambda _, args: widths.add(args[0].shape[-1]))
        for step in range(12):
            torch.manual_seed(step)
            method.update(self.crops(pools, 0), 0.4)
        assert widths == {16, 32}, "shrunk at scale 2; a window of the enlarged crop at 0.5"


def test_scales_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0\.25 to 4"):
        TestDMPCT().recipe_with(scales=[0.1, 1.0])


class OneSide(nn.Module):
    """It sees an object in the upper half of whatever it is given, and background elsewhere."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), 2, *image.shape[-2:])
        logits[:, 0, image.shape[-2] // 2 :] = 3.0
        logits[:, 1, : image.shape[-2] // 2] = 3.0
        return logits


class Dark(nn.Module):
    """It sees an object where the image is dark, if the image is large."""

    def forward(self, image: Tensor) -> Tensor:
        dark = 10 * (0.5 - image[:, :1]) if image.shape[-1] > 16 else torch.full_like(image[:, :1], -5.0)
        return torch.cat([torch.zeros_like(dark), dark], 1)


class NoAutocast:
    def autocast(self) -> Any:
        return torch.autocast("cpu", enabled=False)


def planes(net: nn.Module, scales: tuple[float, ...], symmetries: int) -> Planes:
    found = Planes(NoAutocast(), net, 1, scales, symmetries)  # type: ignore[arg-type]
    found.members = [net]  # type: ignore[list-item]
    return found


def test_planes_that_disagree_share_the_vote() -> None:
    image = torch.rand(1, 3, 32, 32)
    vote = planes(OneSide(), (0.5, 1.0, 2.0), 8)(image)
    assert torch.allclose(vote.sum(1), torch.ones(1, 32, 32))
    corner = vote[0, 1, 0, 0].item(), vote[0, 1, -1, -1].item(), vote[0, 1, 0, -1].item()
    assert corner == (0.5, 0.5, 0.5), "each side is the upper one in as many of the eight symmetries"
    alone = planes(OneSide(), (1.0,), 1)(image)
    assert alone[0, 1, :16].eq(1).all()
    assert alone[0, 1, 16:].eq(0).all()


def test_what_one_scale_does_not_see_is_outvoted() -> None:
    image = torch.ones(1, 3, 32, 32)
    image[..., 5:20, 12:29] = 0.0
    vote = planes(Dark(), (0.5, 1.0, 2.0), 8)(image)
    assert vote[0, 1, 7:18, 14:27].allclose(torch.tensor(2 / 3)), "16 px of scale 2 show nothing"
    assert vote[0, 1, :3].eq(0).all(), "turned back to its place"
    assert vote[0, 1, :, :10].eq(0).all()


@pytest.mark.parametrize("symmetry", range(8))
def test_turns_are_undone(symmetry: int) -> None:
    image = torch.rand(2, 3, 16, 32)
    assert torch.equal(turned_back(turned(image, symmetry), symmetry), image)


def test_eight_symmetries_are_eight() -> None:
    image = torch.rand(1, 1, 16, 16)
    assert len({tuple(turned(image, s).flatten().tolist()) for s in range(8)}) == 8


def test_images_and_targets_are_scaled_alike() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., 16:48, 32:64] = 1.0
    target = (image[:, 0] > 0).long()
    target[0, 0, 0] = -1
    for scale, width in ((0.5, 64), (1.0, 64), (2.0, 32)):
        torch.manual_seed(3)
        seen, wanted = rescaled(image, target, scale)
        assert seen.shape == (1, 3, width, width)
        agree = (seen[:, 0] > 0.5) == (wanted == 1)
        assert agree.float().mean() > 0.97
        assert (wanted == 1).float().mean() > 0.1
