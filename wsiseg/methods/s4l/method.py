"""Self-supervised semi-supervised learning (S⁴L): questions that need no annotations, beside those that do.

    labelled    image ─► G ─► cross-entropy + Dice against the annotations · supervised_weight
    all         image ────────────────────────────────────────────────► G ─► mean features ┐
                  └─ a quarter turn (of 4), one stain stronger or weaker (of 4) ─► G ─► mean features ┴─► which turn? which stain?

The paper asks how a single image was turned, which has an answer where images have an upright. Tissue has none, so the
network sees both crops and tells the turn and the stain from one to the other.

Source: Zhai et al. 2019, with the rotation of Gidaris et al. 2018; the stains are those of Ruifrok & Johnston 2001.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.data.augment import restained
from wsiseg.data.crops import Batch
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.semi import Loss, SemiSupervised

TURNS = 4
CHANGES = ((0, 1), (0, -1), (1, 1), (1, -1))  # stain (haematoxylin, eosin) and sign


class S4L(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        network = ctx.new_network()
        network.heads["pretext"] = PairHead(network.architecture.decoder_channels)
        super().__init__(ctx, network)

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The supervised loss and the pretext tasks on labelled crops alone."""
        plain, labels = self.views.unstained(batches.labelled)
        loss, metrics = self._supervised(plain, labels, progress)
        each, found = self._pretext(plain)
        return loss + each.mean(), metrics | found | {"pretext": each.mean().item()}

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """The supervised loss on labelled crops, and the pretext tasks on all."""
        plain, labels = self.views.unstained(labelled)
        loss, metrics = self._supervised(plain, labels, progress)
        each, found = self._pretext(torch.cat([plain, self.views.plain(unlabelled)[0]]))
        mine, theirs = each[: len(plain)].mean(), each[len(plain) :].mean()
        metrics |= found | {"pretext": mine.item(), "pretext_unlabelled": theirs.item()}
        return loss + mine + weight * theirs, metrics

    def _supervised(self, plain: Tensor, labels: Tensor, progress: float) -> Loss:
        images = self.views.stain(plain)
        loss, metrics = self.labelled_loss(self.student.net(images), images, labels, progress)
        return self.options.supervised_weight * loss, metrics

    def _pretext(self, plain: Tensor) -> Loss:
        """(n,) loss of each crop on both questions, and how often the answers are right."""
        o = self.options
        first = self.views.stain(plain)
        second, turn, change = turned_and_stained(first, o.stain_change)
        _, heads = self.student.net(torch.cat([first, second]), None, ("pretext",))
        answers = heads["pretext"].float()
        which_turn, which_stain = answers[:, :TURNS], answers[:, TURNS:]
        turn, change = turn.to(answers.device), change.to(answers.device)
        loss = o.rotation_weight * F.cross_entropy(which_turn, turn, reduction="none")
        loss = loss + o.stain_weight * F.cross_entropy(which_stain, change, reduction="none")
        return loss, {
            "rotation_accuracy": (which_turn.argmax(1) == turn).float().mean().item(),
            "stain_accuracy": (which_stain.argmax(1) == change).float().mean().item(),
        }


class PairHead(nn.Module):
    """(2 n, channels, h, w) features, those of n crops and then of their second views -> (n, 8): turns, then stains."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, TURNS + len(CHANGES))
        )

    def forward(self, decoded: Tensor) -> Tensor:
        answers: Tensor = self.layers(torch.cat(decoded.mean((2, 3)).chunk(2), 1))
        return answers


def turned_and_stained(images: Tensor, by: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each crop after some quarter turns, with one of its stains stronger or weaker.

    Args:
        images: (n, 3, side, side) from 0 to 1
        by: fraction of the stain

    Returns:
        the crops, (n,) quarter turns from 0 to 3, and (n,) which of `CHANGES`; both int64 on the CPU
    """
    n = len(images)
    turn, change = torch.randint(TURNS, (n,)), torch.randint(len(CHANGES), (n,))
    turned = torch.stack([images.rot90(k, (2, 3)) for k in range(TURNS)])[turn, torch.arange(n)]
    factors = torch.ones(len(CHANGES), 3)
    for row, (stain, sign) in enumerate(CHANGES):
        factors[row, stain] += sign * by
    return restained(turned, factors[change], torch.zeros(n, 3), torch.ones(n, 1)), turn, change
