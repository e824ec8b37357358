"""Measure batch statistics again on plain crops, for networks that were trained on distorted ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def settle_batch_norm(net: nn.Module, images: Iterable[Tensor]) -> None:
    """Replace all running means and variances by those over these batches, each batch alike.

    Channel dropout before a normalisation makes its running variance too large for prediction, which drops nothing.

    Args:
        net: left in eval mode, whatever it was in
        images: (n, 3, h, w) batches; with none, nothing changes
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    net.eval()
    first = True
    for batch in images:
        if first:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over all batches
                norm.train()
            first = False
        net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
