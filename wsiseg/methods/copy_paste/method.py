"""Bidirectional copy-paste: labelled and unlabelled tissue in one crop, so that what is known spreads to what is not.

    labelled x   ─► stain of some u ─┐  square of x in u ─► G ─┬─► cross-entropy + Dice on x against the annotations
    unlabelled u ─► stain of some x ─┴─ square of u in x ─► G ─┴─► the same on u against the pseudo-labels · weight
                └─► EMA ─► pseudo-labels where it is confident enough for their class

Between slides of two stains the borders of the squares would give each side away, so now and then a crop takes on the
stain of one of the other side. The thresholds follow the teacher: low while it is unsure, and lower for the classes that it
has learnt worse. With `choose_every` unlabelled crops come from where the teacher sees objects.

Sources: BCP (Bai et al. 2023), whose two directions, square and weight these are; stain view in place of the style transfer
of StyleMatch (Zhou et al. 2021), after Reinhard et al. 2001; thresholds after FreeMatch (Wang et al. 2023) and FlexMatch
(Zhang et al. 2021). BCP pastes among labelled crops in a stage of its own first; here `unlabelled_start` comes before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Batch
from wsiseg.data.cutmix import squares
from wsiseg.losses.segmentation import soft_dice, trusted_cross_entropy
from wsiseg.methods.context import Context
from wsiseg.methods.parts.gate import UNSURE, Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import stain_view, without_padding


class CopyPaste(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.gate = Confidence(ctx)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Cross-entropy and Dice on both kinds of tissue, in crops that hold both."""
        o = self.options
        images, labels = self.views.weak(labelled)
        plain, covered = self.views.plain(unlabelled)
        targets = without_padding(self.gate(self.teacher(plain)), covered)
        other = stain_view(self.views.strong(plain), images, o.stain_view)
        images = stain_view(images, plain, o.stain_view)
        inside = squares(len(images), images.shape[-1], o.pasted_width, o.cutmix).to(images.device)
        seen, known, taught = paste_both_ways((images, labels), (other, targets), inside)
        logits = self.student.net(seen)
        loss, metrics = self.labelled_loss(logits, seen, known, progress)
        # The mean over the pixels of unlabelled crops, which are half of all.
        ce = 2 * trusted_cross_entropy(logits, taught)
        dice = soft_dice(logits, torch.where(taught >= 0, taught, IGNORE))
        metrics |= {"copy_paste": ce.item(), "copy_paste_dice": dice.item(), **pseudo_metrics(targets)}
        metrics["threshold"] = self.gate.bank.thresholds()[1:].mean().item()
        return loss + weight * (ce + o.dice * dice), metrics


def paste_both_ways(
    labelled: tuple[Tensor, Tensor], unlabelled: tuple[Tensor, Tensor], inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The inside of labelled crops in unlabelled ones, and the reverse (Bai et al. 2023).

    Args:
        labelled: images (n, 3, h, w) and labels (n, h, w)
        unlabelled: images (n, 3, h, w) and pseudo-labels (n, h, w), below 0 where unsure
        inside: (n, h, w) bool, what is pasted

    Returns:
        images (2 n, 3, h, w); labels (2 n, h, w), IGNORE on unlabelled tissue; pseudo-labels (2 n, h, w), UNSURE on
        labelled tissue
    """
    (x, y), (u, q) = labelled, unlabelled
    of_labelled = torch.cat([inside, ~inside])
    images = torch.where(of_labelled[:, None], torch.cat([x, x]), torch.cat([u, u]))
    labels = torch.where(of_labelled, torch.cat([y, y]), IGNORE)
    return images, labels, torch.where(of_labelled, UNSURE, torch.cat([q, q]))
