"""Output-space adaptation: maps of unlabelled slides must look like those of labelled ones, whatever the stain is.

    labelled x   ─► G ─► map ─► cross-entropy + Dice against the annotations
    unlabelled u ─► G ─► map ─► weight · gan_loss(D(u, map)): D should take u for a labelled slide
    D            (x, map of x) against (u, map of u): which of the two kinds of slide is it?
    consistency  u ─► EMA ─► pseudo-labels for u in the stain of some x      · consistency_weight

Two stains look different, and glomeruli are round in both: what differs between the maps is what G gets wrong on the
unlabelled slides. D's gradient reaches G through these alone, and labelled slides never learn to look like the others.
D sees the crop without its stain, which alone would tell the two kinds apart and teach G nothing.

Sources: AdaptSegNet (Tsai et al. 2018; one discriminator, on the final map), ADVENT (Vu et al. 2019; self-information), image
and map together as in s4GAN (Mittal et al. 2021); stain view as in StyleMatch (Zhou et al. 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsiseg.data.crops import Batch
from wsiseg.data.restain import without_stain
from wsiseg.losses.adversarial import discriminator_loss, generator_loss
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.critic import Critic
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import cutmix, stain_view, without_padding
from wsiseg.methods.schedule import rampup


class Adaptation(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.critic = Critic(ctx)
        self.gate = Confidence(ctx)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """D's step, then the labelled and the adversarial loss of the same maps, and consistency where asked for."""
        o = self.options
        images, labels = self.views.weak(labelled)
        plain, covered = self.views.plain(unlabelled)
        other = self.views.stain(plain)
        if o.consistency_weight:
            targets = without_padding(self.gate(self.teacher(plain)), covered)
            other, targets = cutmix(stain_view(self.views.strong(plain), images, o.stain_view), targets, o.cutmix)
            images = stain_view(images, plain, o.stain_view)
        n, seen = len(images), torch.cat([images, other])
        logits = self.student.net(seen)
        shown, maps = self._for_critic(seen, logits)
        metrics = self.learn_critic(shown, maps.detach(), n)
        loss, parts = self.labelled_loss(logits[:n], images, labels, progress)
        judged, _ = self.critic.judge(shown[n:], maps[n:])
        adversarial = generator_loss(judged, o.gan_loss)
        loss = loss + weight * adversarial
        metrics |= {**parts, "adversarial_unlabelled": adversarial.item()}
        if o.consistency_weight:
            consistency = trusted_cross_entropy(logits[n:], targets)
            loss = loss + o.consistency_weight * rampup(progress, o.unlabelled_start, o.rampup) * consistency
            metrics |= {"consistency": consistency.item(), **pseudo_metrics(targets)}
        return loss, metrics

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """D learns from the first step on, so that it knows something when G is to learn from it."""
        if batches.unlabelled is None:
            return super().loss_before(batches, progress)
        return self.loss(batches.labelled, batches.unlabelled, 0.0, progress)

    def learn_critic(self, images: Tensor, maps: Tensor, labelled: int) -> dict[str, float]:
        """D's step. Gives its loss, and its AUC and accuracy on these crops before it learns from them.

        Args:
            images, maps: what it sees of all crops
            labelled: how many of them, from the first on, are of labelled slides
        """
        judged = self.critic(images, maps)
        first = torch.zeros_like(judged, dtype=torch.bool)
        first[:labelled] = True
        self.critic.measure(judged, first)
        middle = 0.5 if self.options.gan_loss == "lsgan" else 0.0
        accuracy = ((judged > middle) == first).float().mean().item()
        loss = discriminator_loss(judged[:labelled], judged[labelled:], self.options.gan_loss)
        metrics = self.critic.learn(loss, images[:labelled], maps[:labelled])
        return metrics | {"discriminator_accuracy": accuracy}

    def _for_critic(self, images: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What D sees of crops: images (n, 3, h, w) and maps (n, classes, h, w), with gradients into the logits."""
        log_probability = logits.float().log_softmax(1)
        maps, sees = log_probability.exp(), self.options.discriminator_sees
        if sees == "image_and_map":
            return without_stain(images), maps
        if sees == "information":
            maps = -maps * log_probability / math.log(logits.shape[1])
        return torch.full_like(images, 0.5), maps

    def remarks(self) -> tuple[str, ...]:
        """A warning where D knows nothing."""
        return self.critic.remark()
