"""Discriminators: what they see, and what they do not have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsiseg.nets.discriminators import DISCRIMINATORS, Patch, receptive_field


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_image_and_map_are_both_seen(name: str) -> None:
    torch.manual_seed(0)
    net = DISCRIMINATORS[name](3, width=8)
    image, maps = torch.rand(2, 3, 64, 96, requires_grad=True), torch.rand(2, 3, 64, 96, requires_grad=True)
    logits, features = net(image, maps)
    assert logits.shape[:2] == (2, 1)
    assert features.ndim == 4
    logits.sum().backward()
    for seen in (image, maps):
        assert seen.grad is not None
        assert seen.grad.abs().sum() > 0


def test_the_fully_convolutional_one_judges_every_pixel() -> None:
    logits, _ = DISCRIMINATORS["fcn"](4, width=8)(torch.rand(1, 3, 40, 48), torch.rand(1, 4, 40, 48))
    assert logits.shape == (1, 1, 40, 48)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_no_batch_normalisation(name: str) -> None:
    net = DISCRIMINATORS[name](3, width=8)
    assert not [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    alone, beside = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    net.eval()
    both = net(torch.cat([alone, beside]), torch.cat([alone, beside]))[0]
    assert torch.allclose(net(alone, alone)[0], both[:1], atol=1e-5), "a map is judged without regard to its batch"


def test_the_receptive_field_is_what_the_docs_say() -> None:
    assert [receptive_field(Patch.strides[-k:]) for k in range(1, 6)] == [4, 7, 16, 34, 70]
    net = Patch(1, width=4).eval()
    image = torch.zeros(1, 3, 160, 160, requires_grad=True)
    logits, _ = net(image, torch.zeros(1, 1, 160, 160))
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(0).sum(0).nonzero().flatten()
    assert len(range(int(touched[0]), int(touched[-1]) + 1)) == 70
