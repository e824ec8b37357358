"""Self-training in rounds: an ensemble of earlier networks labels the unlabelled crops for the next round.

    round 1     labelled image ─► G ─► cross-entropy + Dice against the annotations
    round r     the same, and
                unlabelled image ─► mean over the last networks, each on four flips ─► confident pixels, classes balanced
                                 └► strong view with CutMix ─► G ─► cross-entropy against them · weight

A crop keeps its pseudo-labels of the l-th most frequent of L classes with the chance (N_{L+1-l} / N_1)^alpha, and its
background wherever it keeps an object: the rarest class keeps all of its labels, and no object is left without its
surroundings (CReST, which samples images by that chance). With `t_min` the ensemble's probabilities are brought to the class
frequencies of the labelled crops (CReST+). With `confident_fraction` a crop counts only as a whole, where the ensemble is
confident of nearly all of it (ETCI).

Sources: noisy student (Xie et al. 2020), CReST and CReST+ (Wei et al. 2021), flood segmentation at ETCI (Paul & Ganju 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsiseg.data.crops import Batch
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.bank import ClassBank
from wsiseg.methods.parts.gate import UNSURE, Confidence
from wsiseg.methods.parts.rounds import Rounds
from wsiseg.methods.parts.semi import Loss, pseudo_metrics
from wsiseg.methods.parts.views import cutmix, without_padding


class SelfTraining(Rounds):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.gate = Confidence(ctx)
        self.bank = ClassBank(len(ctx.classes))

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step, with the labelled pixels of each class counted. Returns all losses and the round."""
        self.bank.count(batches.labelled.labels)
        return super().update(batches, progress)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the cross-entropy against the labels of the ensemble."""
        images, labels = self.views.weak(labelled)
        view, target = self._strong_view(unlabelled)
        logits = self.student.net(torch.cat([images, view]))
        loss, metrics = self.labelled_loss(logits[: len(images)], images, labels, progress)
        taught = trusted_cross_entropy(logits[len(images) :], target)
        return loss + weight * taught, metrics | {"self_training": taught.item()} | pseudo_metrics(target)

    @torch.no_grad()
    def _strong_view(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """A strong view (n, 3, h, w) and its pseudo-labels (n, h, w), below 0 where nothing is to be learnt."""
        image, covered = self.views.plain(unlabelled)
        probability = self.ensemble(image)
        if self.options.t_min:
            self.bank.watch(probability)
            probability = self.bank.aligned(probability, self._alignment_power())
        target = whole_crops(self.gate(probability), covered, self.options.confident_fraction)
        target = balanced(target, self.bank.keep_rates(self.options.alpha))
        return cutmix(self.views.strong(image), without_padding(target, covered), self.options.cutmix)

    def _alignment_power(self) -> float:
        """From 1 in the first round with pseudo-labels down to `t_min` in the last (CReST+)."""
        last = max(1, self.options.rounds - 2)
        done = min(1.0, max(0, self.rounds_done - 1) / last)
        return float(1 - (1 - self.options.t_min) * done)


def whole_crops(target: Tensor, covered: Tensor, fraction: float) -> Tensor:
    """Pseudo-labels (n, h, w) of the crops that have one on at least this fraction of their tissue; UNSURE in the others.

    Args:
        target: (n, h, w) int64, below 0 where unsure
        covered: (n, h, w) bool, where a stored tile lies
        fraction: 0 keeps all
    """
    labelled = ((target >= 0) & covered).sum((1, 2)) >= fraction * covered.sum((1, 2))
    return torch.where(labelled[:, None, None], target, torch.full_like(target, UNSURE))


def balanced(target: Tensor, rates: Tensor) -> Tensor:
    """Pseudo-labels with classes left out of single crops at random; background stays wherever an object stays.

    Args:
        target: (n, h, w) int64, below 0 where unsure
        rates: (classes,) chance that a crop keeps its pixels of a class

    Returns:
        (n, h, w) int64, UNSURE where left out
    """
    kept = (torch.rand(len(target), len(rates)) < rates).to(target.device)
    present = torch.stack([(target == c).flatten(1).any(1) for c in range(len(rates))], 1)
    kept[:, 0] |= (kept & present)[:, 1:].any(1)
    keep = kept.gather(1, target.clamp_min(0).flatten(1)).view_as(target)
    return torch.where(keep & (target >= 0), target, torch.full_like(target, UNSURE))
