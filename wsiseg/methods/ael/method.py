"""Adaptive equalisation learning (AEL): the worse a class is learnt, the more often it is shown and the more it counts.

    labelled    image ─► objects of a badly learnt class pasted in ─► G ─► cross-entropy + Dice against the annotations
                                                                      └──► confidence bank: mean probability of each class
    unlabelled  image ─► EMA ─► pseudo-labels and their probabilities ┐
                  └► strong view ─────────────────────────────────────┴► rectangle around a badly learnt class (CutMix)
                                                    ─► G ─► cross-entropy on sampled pixels, weighted by probability · weight

The bank knows how well each class is learnt, and everything follows from it: which class is copied and pasted, around
which one a rectangle is cut, on which ones crops are centred, and which fraction of the pixels predicted as a class takes
part in the unlabelled loss. There is no threshold: a pseudo-label counts by its probability.

Source: Hu et al. 2021. Their bank of images for CutMix holds all unlabelled images; here it is the batch, whose crops the
teacher chooses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Batch
from wsiseg.data.cutmix import rectangles
from wsiseg.losses.segmentation import cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.bank import ClassBank
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import drawn, without_padding

LEAST = 1e-4  # fraction of a crop that a class must cover to be taken from it
NEVER = 1e-9  # weight of what is drawn only if there is nothing else


class AEL(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.gate = Confidence(ctx)
        self.bank = ClassBank(len(ctx.classes), ctx.options.bank_memory)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step, for which crops are chosen by what the bank knows. Returns all losses and the least confidence."""
        self.chooser.favoured = self._objects()
        metrics = super().update(batches, progress)
        return metrics | {"least_confidence": self.bank.confidence[1:-1].min().item()}

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The loss on labelled crops."""
        images, labels = self._pasted(batches.labelled)
        return self._labelled(self.student.net(images), images, labels, progress)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the weighted cross-entropy on sampled pixels of the strong view."""
        images, labels = self._pasted(labelled)
        view, target, probability = self._mixed(unlabelled)
        logits = self.student.net(torch.cat([images, view]))
        loss, metrics = self._labelled(logits[: len(images)], images, labels, progress)
        predicted = logits[len(images) :]
        counted = probability**self.options.reweighting * self._sampled(predicted)
        taught = cross_entropy(predicted, torch.where(target >= 0, target, IGNORE), counted)
        metrics |= {"equalised": taught.item(), **pseudo_metrics(target)}
        return loss + weight * taught, metrics

    def _labelled(self, logits: Tensor, images: Tensor, labels: Tensor, progress: float) -> Loss:
        self.bank.assess(logits.detach().float().softmax(1), labels)
        return self.labelled_loss(logits, images, labels, progress)

    def _objects(self) -> Tensor:
        """(classes,) chance of each class to be pasted or drawn; none of background."""
        chances = self.bank.chances(self.options.paste_power)
        chances[0] = 0
        return chances

    def _pasted(self, labelled: Batch) -> tuple[Tensor, Tensor]:
        """Weak views (n, 3, h, w) and labels (n, h, w), with a badly learnt class of another crop pasted in."""
        images, labels = self.views.weak(labelled)
        classes = drawn(self._objects().expand(len(images), -1)).to(labels.device)
        donor, _ = donors(labels, classes, len(self._objects()))
        now = (torch.rand(len(images)) < self.options.paste).to(labels.device)
        where = (labels[donor] == classes[:, None, None]) & now[:, None, None]
        return torch.where(where[:, None], images[donor], images), torch.where(where, labels[donor], labels)

    @torch.no_grad()
    def _mixed(self, unlabelled: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A strong view (n, 3, h, w), its pseudo-labels (n, h, w), below 0 where unsure, and their probabilities."""
        image, covered = self.views.plain(unlabelled)
        said = self.teacher(image)
        target = without_padding(self.gate(said), covered)
        probability = said.gather(1, target.clamp_min(0)[:, None])[:, 0]
        chances = self.bank.chances()
        classes = drawn(chances.expand(len(image), -1)).to(target.device)
        donor, place = donors(target, classes, len(chances))
        side = image.shape[-1]
        centre = (place // side).cpu(), (place % side).cpu()
        where = rectangles(len(image), side, self.options.cutmix, centre).to(image.device)
        view = self.views.strong(image)
        view = torch.where(where[:, None], view[donor], view)
        return view, torch.where(where, target[donor], target), torch.where(where, probability[donor], probability)

    def _sampled(self, logits: Tensor) -> Tensor:
        """(n, h, w) 1 or 0: of the pixels predicted as each class a fraction, the larger the worse it is learnt."""
        rates = self.bank.needs(self.options.equalisation).to(logits)
        predicted = logits.argmax(1)
        return (torch.rand(predicted.shape).to(logits) < rates[predicted]).float()


def donors(labels: Tensor, classes: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """For each crop another one that holds its class, and a pixel of that class there; any where there is none.

    Args:
        labels: (n, h, w) int64; what is no class has a number below 0 or from `number` on
        classes: (n,) the class that each crop is to get
        number: of all classes

    Returns:
        (n,) the crop, and (n,) the pixel as row · w + column
    """
    holds = torch.stack([(labels == c).float().mean((1, 2)) > LEAST for c in range(number)])
    other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    donor = drawn((holds[classes] & other).double() + NEVER)
    return donor, drawn((labels[donor] == classes[:, None, None]).flatten(1).double() + NEVER / labels[0].numel())
