"""Depthwise convolutions with a gradient that is fast on CPUs.

With one group per channel, PyTorch's own backward pass on CPUs takes about ten times as long as the forward pass and
half of a training step of an EfficientNet. Here the gradient of the input is a depthwise convolution with the mirrored
kernel, and the gradient of the kernel one compiled loop over pixels that lie channels last. Values are those of
PyTorch up to rounding. Nothing changes on other devices, and the names of the weights stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn import functional as F


def speed_up_depthwise(net: nn.Module) -> int:
    """Let every depthwise convolution of a network use this module's gradient on CPUs; returns how many there are."""
    count = 0
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1:
            module._conv_forward = _Forward(module)  # type: ignore[method-assign, assignment]
            if type(module) is not nn.Conv2d:  # timm's Conv2dSame pads in a forward of its own
                module.forward = _SameForward(module)  # type: ignore[method-assign, assignment]
            count += 1
    return count


class _Forward:
    """In place of `Conv2d._conv_forward`; picklable and copied with its module."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.stride, self.padding, self.dilation, self.groups = (
            module.stride, module.padding, module.dilation, module.groups,
        )  # fmt: skip

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert not isinstance(self.padding, str)
        return depthwise(x, weight, bias, self.stride[0], self.padding, self.dilation[0])


class _SameForward:
    """In place of the forward of timm's `Conv2dSame`: TensorFlow's padding, more on the right and below."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.weight_of, self.kernel = module, module.kernel_size
        self.stride, self.dilation = module.stride[0], module.dilation[0]

    def __call__(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel in ((x.shape[-1], self.kernel[1]), (x.shape[-2], self.kernel[0])):
            total = max((-(-size // self.stride) - 1) * self.stride + (kernel - 1) * self.dilation + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        module = self.weight_of
        return depthwise(F.pad(x, pads), module.weight, module.bias, self.stride, (0, 0), self.dilation)


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, ...], dilation: int
) -> Tensor:
    """A convolution with one group per channel.

    Args:
        x: (n, c, h, w)
        weight: (c, 1, kh, kw)
        bias: (c,) or None
        stride, dilation: px, the same in both directions
        padding: px of zeros above and below, left and right
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return F.conv2d(x, weight, bias, stride, padding, dilation, weight.shape[0])
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight = x.to(kind), weight.to(kind)
        bias = None if bias is None else bias.to(kind)
    out: Tensor = _Depthwise.apply(x, weight, stride, padding, dilation)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias[:, None, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, ...], dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = stride, padding, dilation
        return F.conv2d(x, weight, None, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            for_x = _input_gradient(grad, weight, x.shape, stride, padding, dilation)
        if ctx.needs_input_grad[1]:
            sums = np.zeros((weight.shape[2], weight.shape[3], weight.shape[0]), np.float32)
            _kernel_gradient(_channels_last(x), _channels_last(grad), sums, stride, padding[0], padding[1], dilation)
            for_weight = torch.from_numpy(sums).permute(2, 0, 1)[:, None].to(weight.dtype)
        return for_x, for_weight, None, None, None


def _input_gradient(
    grad: Tensor, weight: Tensor, shape: torch.Size, stride: int, padding: tuple[int, ...], dilation: int
) -> Tensor:
    n, c, h, w = shape
    if stride > 1:  # the gradient with zeros between
        wide = grad.new_zeros((n, c, (grad.shape[2] - 1) * stride + 1, (grad.shape[3] - 1) * stride + 1))
        wide = wide.contiguous(memory_format=torch.channels_last)
        wide[:, :, ::stride, ::stride] = grad
        grad = wide
    full = [(k - 1) * dilation - p for k, p in zip(weight.shape[2:], padding, strict=True)]
    right = [size - (g + 2 * f - (k - 1) * dilation) for size, g, f, k in zip(
        (h, w), grad.shape[2:], full, weight.shape[2:], strict=True)]  # fmt: skip
    if min(full) < 0 or any(right):  # rows at the far side that no output has seen
        grad = F.pad(grad, (full[1], full[1] + right[1], full[0], full[0] + right[0]))
        full = [0, 0]
    return F.conv2d(grad, weight.flip(2, 3), None, 1, full, dilation, c)


def _channels_last(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().permute(0, 2, 3, 1).float().numpy())


@njit(cache=True, nogil=True, fastmath=True)
def _kernel_gradient(x, grad, sums, stride, top, left, dilation):  # type: ignore[no-untyped-def]
    """sums[i, j, c] += Σ x[n, y·stride + i·dilation - top, …, c] · grad[n, y, …, c]"""
    n, h, w, c = x.shape
    rows, cols = grad.shape[1], grad.shape[2]
    for b in range(n):
        for y in range(rows):
            for i in range(sums.shape[0]):
                v = y * stride + i * dilation - top
                if v < 0 or v >= h:
                    continue
                for z in range(cols):
                    for j in range(sums.shape[1]):
                        u = z * stride + j * dilation - left
                        if 0 <= u < w:
                            for k in range(c):
                                sums[i, j, k] += x[b, v, u, k] * grad[b, y, z, k]
