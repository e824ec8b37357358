"""Depthwise convolutions: the same values and gradients as PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wsiseg.nets.depthwise import speed_up_depthwise
from wsiseg.nets.segmentation import Architecture, SegmentationNet


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", [(16, 16), (15, 18)])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_pytorchs(kernel: int, stride: int, dilation: int, size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    plain = nn.Conv2d(6, 6, kernel, stride, padding, dilation, groups=6, bias=bias)
    fast = copy.deepcopy(plain)
    assert speed_up_depthwise(fast) == 1
    x = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = plain(one), fast(other)
    assert torch.allclose(a, b, atol=1e-5)
    weight = torch.randn_like(a)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.allclose(one.grad, other.grad, atol=1e-4)
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-3)


def test_no_padding_and_rows_nobody_saw() -> None:
    """Without padding and with a stride the last rows of the input may reach no output: their gradient is 0."""
    plain = nn.Conv2d(4, 4, 3, 2, 0, groups=4)
    fast = copy.deepcopy(plain)
    speed_up_depthwise(fast)
    one = torch.randn(1, 4, 10, 8).requires_grad_()
    other = one.detach().clone().requires_grad_()
    plain(one).square().sum().backward()
    fast(other).square().sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.allclose(one.grad, other.grad, atol=1e-4)
    assert (other.grad[..., -1, :] == 0).all()


def test_a_whole_network_with_its_copy() -> None:
    """TensorFlow's padding, dropout off; names of weights stay; a deep copy computes with its own weights."""
    torch.manual_seed(0)
    architecture = Architecture("tu-tf_efficientnet_lite0", 3, (0.5,) * 3, (0.5,) * 3, decoder_channels=16)
    plain = SegmentationNet(architecture).eval()
    fast = copy.deepcopy(plain)
    names = list(fast.state_dict())
    assert speed_up_depthwise(fast) > 15
    assert list(fast.state_dict()) == names
    copied = copy.deepcopy(fast)
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1.0)
    x = torch.rand(2, 3, 64, 64)
    a, b = plain(x), copied(x)
    assert torch.allclose(a, b, atol=1e-4)
    a.square().mean().backward()
    b.square().mean().backward()
    mine = torch.cat([p.grad.flatten() for p in copied.parameters()])
    theirs = torch.cat([p.grad.flatten() for p in plain.parameters()])
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()
