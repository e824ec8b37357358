"""Self-training in rounds: an ensemble of earlier networks labels the unlabelled crops for the next round.

    round 1     labelled image ─► G ─► cross-entropy + Dice against the annotations
    round r     the same, and
                unlabelled image ─► mean over the last networks, each on four flips ─► confident pixels, classes balanced
                                 └► strong view with CutMix ─► G ─► cross-entropy against them · weight

At the end of each round the EMA joins the ensemble, the oldest member leaves it, and G starts again from its first
weights with a learning rate that rises and falls again: a student that goes on would only keep what it has said itself.
A crop keeps its pseudo-labels of class c with the chance (N_min / N_c)^α, and its background wherever it keeps an object:
rare classes keep all of theirs, and no object is left without its surroundings (after CReST, which samples images). With `alignment`
the ensemble's probabilities are brought to the class frequencies of the labelled crops (CReST+). With `taught_from_start`
the network that training starts from, such as a model of other slides, labels the first round.

Sources: noisy student (Xie et al. 2020), CReST and CReST+ (Wei et al. 2021).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wsiseg.data.crops import Batch
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.bank import ClassBank
from wsiseg.methods.parts.gate import UNSURE, Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.teachers import Ensemble
from wsiseg.methods.parts.views import cutmix, without_padding
from wsiseg.nets.segmentation import SegmentationNet


class SelfTraining(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.first = {k: v.detach().clone() for k, v in self.student.net.module.state_dict().items()}
        self.teacher = Ensemble(ctx.fabric, self.student.ema.net, ctx.options.members)
        if ctx.options.taught_from_start:
            self.ensemble.add(self.student.ema.net)
        self.gate = Confidence(ctx)
        self.bank = ClassBank(len(ctx.classes))
        self.rounds_done = 0

    @property
    def ensemble(self) -> Ensemble:
        """The teacher."""
        assert isinstance(self.teacher, Ensemble)
        return self.teacher

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step, after the end of a round where that is due. Returns all losses and the round."""
        if int(progress * self.options.rounds) > self.rounds_done:
            self._end_round(int(progress * self.options.rounds))
        self.bank.count(batches.labelled.labels)
        metrics = super().update(batches, progress)
        return metrics | {"round": self.rounds_done + 1.0}

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the cross-entropy against the labels of the ensemble."""
        images, labels = self.views.weak(labelled)
        view, target = self._strong_view(unlabelled)
        logits = self.student.net(torch.cat([images, view]))
        loss, metrics = self.labelled_loss(logits[: len(images)], images, labels, progress)
        taught = trusted_cross_entropy(logits[len(images) :], target)
        return loss + weight * taught, metrics | {"self_training": taught.item()} | pseudo_metrics(target)

    def weight(self, progress: float) -> float:
        """As in other methods, but of the progress of this round; 0 before there is an ensemble."""
        return super().weight(self._within(progress)) if self.ensemble else 0.0

    def lr_progress(self, progress: float) -> float:
        """With `restart` the progress of this round."""
        return self._within(progress) if self.options.restart else progress

    def _within(self, progress: float) -> float:
        return progress * self.options.rounds - self.rounds_done

    def _end_round(self, rounds_done: int) -> None:
        self.rounds_done = rounds_done
        self.ensemble.add(self.student.ema.net)
        if self.options.restart:
            self.student.restart(self.first)

    @torch.no_grad()
    def _strong_view(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """A strong view (n, 3, h, w) and its pseudo-labels (n, h, w), below 0 where nothing is to be learnt."""
        image, covered = self.views.plain(unlabelled)
        probability = self.ensemble(image)
        if self.options.alignment:
            self.bank.watch(probability)
            probability = self.bank.aligned(probability, self._alignment_power())
        target = balanced(self.gate(probability), self.bank.keep_rates(self.options.keep_exponent))
        return cutmix(self.views.strong(image), without_padding(target, covered), self.options.cutmix)

    def _alignment_power(self) -> float:
        """From 1 in the first round with pseudo-labels down to `alignment` in the last (CReST+)."""
        last = max(1, self.options.rounds - 2)
        done = min(1.0, max(0, self.rounds_done - 1) / last)
        return float(1 - (1 - self.options.alignment) * done)

    def predictor(self) -> SegmentationNet:
        """The EMA of this round; in the first steps of a round that starts again, that of the round before."""
        early = self.options.restart and self.student.ema.updates < 1 and self.ensemble
        return self.ensemble.members[-1] if early else self.student.ema.net

    def state_dict(self) -> dict[str, Any]:
        """That of all parts, the first weights and the round."""
        return super().state_dict() | {"first": dict(self.first), "rounds_done": self.rounds_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.first = {k: v.to(self.first[k].device) for k, v in state["first"].items()}
        self.rounds_done = state["rounds_done"]


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
