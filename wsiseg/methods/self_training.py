"""Self-training in rounds: an ensemble of earlier networks labels the unlabelled slides for the next round.

    round 1     labelled image ─► G ─► cross-entropy + Dice against the outlines
    round r     the same, and
                unlabelled image ─► mean over the last networks, each on four flips ─► sure pixels, classes balanced
                                 └► distorted, with pieces of another image ─► G ─► cross-entropy against them · weight

At the end of each round the averaged network joins the ensemble, and the oldest one leaves it: a teacher that stands
still for a round cannot drift along with its pupil. Pixels that the ensemble is unsure of teach nothing. Of the pseudo-
labels of class c, a share of (N_min / N_c)^α is kept, crop by crop: rare classes keep all theirs, and background, which
a network is surest of, does not drown them (after CReST, Wei et al. 2021, which samples whole images).

Sources: noisy student (Xie et al. 2020), CReST (Wei et al. 2021).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from wsiseg.classes import ClassMap
from wsiseg.data.augment import Augmenter
from wsiseg.data.mix import mixed, pieces
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.consistency import pseudo_labels
from wsiseg.methods.method import Batch, per_class
from wsiseg.methods.supervised import Supervised
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))  # axes of (n, channels, h, w)


class SelfTraining(Supervised):
    """Learns from labelled and unlabelled batches; see the module's docstring."""

    def __init__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> None:
        super().__init__(recipe, classes, fabric, generator)
        self.own = recipe.method.self_training
        self.sure = per_class(self.own.confidence, classes, "method.self_training.confidence")
        cut = recipe.augment
        self.strong = Augmenter(
            recipe.training.crop, cut.rotate, cut.scale, self.own.stain, self.own.brightness, self.own.blur
        )
        self.ensemble: list[nn.Module] = []
        self.rounds_done = 0
        self.seen = torch.zeros(len(classes), dtype=torch.float64)  # labelled pixels of each class so far

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """One step. Returns all losses, the round, and the share of unlabelled pixels that taught."""
        if int(progress * self.own.rounds) > self.rounds_done:
            self._end_round(int(progress * self.own.rounds))
        self.set_rate(progress)
        self.net.train()
        images, labels = self.augment(*labelled)
        self.seen += torch.stack([(labels == c).sum() for c in range(len(self.seen))]).cpu()
        if unlabelled is None or not self.ensemble:
            loss, figures = self.labelled_loss(self.net(images), images, labels, progress)
        else:
            view, target = self._view(unlabelled)
            logits = self.net(torch.cat([images, view]))
            loss, figures = self.labelled_loss(logits[: len(images)], images, labels, progress)
            taught = trusted_cross_entropy(logits[len(images) :], target)
            loss = loss + self.own.weight * taught
            figures |= {"self_training": taught.item(), "pseudo_labelled": (target >= 0).float().mean().item()}
        self.learn(loss)
        return {"loss": loss.item(), "round": self.rounds_done + 1.0, **figures}

    def _end_round(self, rounds_done: int) -> None:
        self.rounds_done = rounds_done
        self.ensemble = [*self.ensemble, deepcopy(self.average.net)][-self.own.members :]

    @torch.no_grad()
    def _view(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """A strong view (n, 3, h, w) and its pseudo-labels (n, h, w), below 0 where nothing is to be learnt."""
        image, _ = self.augment.turn(*unlabelled)
        target = balanced(pseudo_labels(self._believed(image), self.sure), self.keep_rates())
        where = pieces(len(image), image.shape[-1], self.own.cutmix).to(image.device)
        return mixed(self.strong.restain(image), where), mixed(target, where)

    def _believed(self, image: Tensor) -> Tensor:
        """Mean probabilities of the ensemble over four flips, (n, classes, h, w)."""
        said = [self.probabilities(net, image.flip(f)).flip(f) for net in self.ensemble for f in FLIPS]
        return torch.stack(said).mean(0)

    def keep_rates(self) -> Tensor:
        """(classes,) share of each class's pseudo-labels to keep: (N_min / N_c)^α over the classes seen so far."""
        least = self.seen.where(self.seen > 0, self.seen.max()).min()
        return ((least / self.seen.clamp_min(1)) ** self.own.alpha).clamp_max(1.0)

    def state_dict(self) -> dict[str, Any]:
        """That of the supervised part, the ensemble, the round, and the pixels seen."""
        own = {"ensemble": [net.state_dict() for net in self.ensemble], "rounds": self.rounds_done, "seen": self.seen}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.ensemble = []
        for member in state["ensemble"]:
            net = deepcopy(self.average.net)
            net.load_state_dict(member)
            self.ensemble.append(net)
        self.rounds_done, self.seen = state["rounds"], state["seen"].clone()


def balanced(target: Tensor, rates: Tensor) -> Tensor:
    """Pseudo-labels with whole classes left out of single crops at random.

    Args:
        target: (n, h, w) int64, below 0 where unsure
        rates: (classes,) chance that a crop keeps its pixels of a class

    Returns:
        (n, h, w) int64, -1 where left out
    """
    kept = (torch.rand(len(target), len(rates)) < rates).to(target.device)
    known = target.clamp_min(0)
    keep = kept.gather(1, known.flatten(1)).view_as(target)
    return torch.where(keep & (target >= 0), target, torch.full_like(target, -1))
