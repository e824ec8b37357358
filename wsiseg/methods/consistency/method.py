"""Weak to strong consistency: what the EMA says of a plain crop, the network must say of two distorted views of it.

    labelled    image ────────────────────► G ─► cross-entropy + Dice against the annotations
    unlabelled  image ─► EMA ─► pseudo-labels where it is confident
                  ├── strong view 1 ─► G ─► cross-entropy against the pseudo-labels ┐
                  └── strong view 2 ─► G ─► the same                                ┴─► their mean · weight

A strong view has another stain, another light and blur, and a rectangle of another crop with that crop's pseudo-labels
(CutMix). In half of the pairs each feature channel is dropped from one view and doubled in the other. Dropped channels
inflate the running variances of batch normalisation, so these are measured again on plain crops at the end.

Sources: FixMatch (Sohn et al. 2020); UniMatch and UniMatch V2 (Yang et al. 2023, 2025), whose teacher, two views and
complementary dropout these are. Stain jitter takes the place of their hue jitter and greyscale.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wsiseg.data.crops import Batch
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.settle import settle_batch_norm
from wsiseg.methods.parts.views import ComplementaryDropout, cutmix, without_padding


class Consistency(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.gate = Confidence(ctx)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the cross-entropy of two strong views against the pseudo-labels."""
        images, labels = self.views.weak(labelled)
        views, targets = self._strong_views(unlabelled)
        # One pass for all, so that batch normalisation sees labelled and unlabelled slides together.
        dropped = self.options.channel_dropout
        perturb = ComplementaryDropout(len(targets) // 2, dropped) if dropped else None
        logits = self.student.net(torch.cat([images, views]), perturb)
        loss, metrics = self.labelled_loss(logits[: len(images)], images, labels, progress)
        consistency = trusted_cross_entropy(logits[len(images) :], targets)
        return loss + weight * consistency, metrics | {"consistency": consistency.item()} | pseudo_metrics(targets)

    @torch.no_grad()
    def _strong_views(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """Two strong views of n crops, (2 n, 3, h, w), and their pseudo-labels (2 n, h, w), below 0 where unsure."""
        image, covered = self.views.plain(unlabelled)
        target = without_padding(self.gate(self.teacher(image)), covered)
        views = [cutmix(self.views.strong(image), target, self.options.cutmix) for _ in range(2)]
        return torch.cat([v for v, _ in views]), torch.cat([t for _, t in views])

    def finish(self, crops: Iterable[Batches]) -> None:
        """Measure the EMA's batch statistics again on plain crops, unless no channel was ever dropped."""
        if self.options.channel_dropout:
            settle_batch_norm(self.student.ema.net, map(self.views.as_predicted, crops))
