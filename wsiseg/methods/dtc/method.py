"""Dual-task consistency (DTC): segmentation and signed distances of one network must describe the same objects.

    labelled    image ─► G ─┬─ probabilities ──► cross-entropy + Dice against the annotations
                            └─ signed distances ► mean squared error against those of the annotations · distance_weight
    all         image ─► G ─┬─ probabilities ─────────────────────┬─► mean squared difference · weight
                            └─ signed distances ─► sigmoid(-k ·) ─┘

A distance is a statement about a whole shape: to give it the network must know where the border lies on the other side. Two
heads that see the same features differently teach each other where nobody drew a border. There is no teacher.

Source: Luo et al. 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Batch
from wsiseg.losses.distance import level_set, signed_distance
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.semi import Loss, SemiSupervised


class DTC(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        network = ctx.new_network()
        network.heads["distance"] = nn.Conv2d(network.architecture.decoder_channels, len(ctx.classes) - 1, 1)
        super().__init__(ctx, network)
        self.reach = max(1, round(ctx.options.distance_um / ctx.mpp))  # px

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The loss of both heads on labelled crops."""
        images, labels = self.views.weak(batches.labelled)
        return self._supervised(*self._both(images), images, labels, progress)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """The same, and the disagreement of the heads on all crops."""
        images, labels = self.views.weak(labelled)
        other, covered = self.views.plain(unlabelled)
        logits, distance = self._both(torch.cat([images, self.views.stain(other)]))
        n = len(images)
        loss, metrics = self._supervised(logits[:n], distance[:n], images, labels, progress)
        counted = torch.cat([labels != IGNORE, covered])
        disagreement = dual_task(logits, distance, counted, self.options.steepness)
        return loss + weight * disagreement, metrics | {"dual_task": disagreement.item()}

    def _both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes, h, w) and signed distances (n, classes - 1, h, w) from -1 (inside) to 1."""
        logits, heads = self.student.net(images, None, ("distance",))
        size = images.shape[-2:]
        return logits, F.interpolate(heads["distance"].float(), size, mode="bilinear", align_corners=False).tanh()

    def _supervised(self, logits: Tensor, distance: Tensor, images: Tensor, labels: Tensor, progress: float) -> Loss:
        loss, metrics = self.labelled_loss(logits, images, labels, progress)
        inside = torch.stack([labels == c for c in range(1, logits.shape[1])], 1)
        error = masked_mean((distance - signed_distance(inside, self.reach)).square(), labels != IGNORE)
        return loss + self.options.distance_weight * error, metrics | {"distance_error": error.item()}


def dual_task(logits: Tensor, distance: Tensor, counted: Tensor, steepness: float) -> Tensor:
    """Mean squared difference of the probabilities of objects and the masks that signed distances give.

    Args:
        logits: (n, classes, h, w)
        distance: (n, classes - 1, h, w) signed distances to each class but background
        counted: (n, h, w) bool, the pixels that count
        steepness: see `level_set`
    """
    probability = logits.float().softmax(1)[:, 1:]
    return masked_mean((probability - level_set(distance, steepness)).square(), counted)


def masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of (n, k, h, w) over the counted pixels, (n, h, w) bool; 0 where there is none."""
    return (values * counted[:, None]).sum() / (counted.sum() * values.shape[1]).clamp_min(1)
