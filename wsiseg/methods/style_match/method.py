"""StyleMatch: FixMatch with a third view in another slide's stain, and a classifier whose weights are drawn at each step.

    labelled    image ───────────────────────────────────► G ─► cross-entropy + Dice against the annotations
    all         image ─► EMA ─► pseudo-labels where it is confident
                  ├── strong view ───────────────────────► G ─► cross-entropy against them ┐
                  └── same crop in another slide's stain ► G ─► cross-entropy against them ┴─► their sum · weight

G's last layer is a distribution: each weight is normal with a mean and a spread, and both are learnt. A draw at each step
is like an ensemble of classifiers, which few labels cannot overfit all at once. The means predict: EMA and bundle hold an
ordinary network.

Source: Zhou, Loy & Liu 2021. The stain of another slide (after Reinhard et al. 2001) takes the place of their AdaIN
network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from wsiseg.data.crops import Batch
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import cutmix, stain_view, without_padding

NARROW = 4.0  # softplus(-4) = 0.018 is the first standard deviation


class StyleMatch(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        network = ctx.new_network()
        if ctx.options.stochastic:
            network.heads["stochastic"] = StochasticClassifier(network.net.segmentation_head)
        super().__init__(ctx, network)
        self.gate = Confidence(ctx)

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The loss on labelled crops."""
        images, labels = self.views.weak(batches.labelled)
        loss, metrics = self.labelled_loss(self._classified(images), images, labels, progress)
        return loss, metrics | self._spread()

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the cross-entropy of a strong view and of a stain view against the pseudo-labels."""
        images, labels = self.views.weak(labelled)
        strong, strong_targets, stained, targets = self._views(labelled, unlabelled)
        seen = self._classified(torch.cat([images, strong, stained]))
        logits, of_strong, of_stained = seen.split([len(images), len(strong), len(stained)])
        loss, metrics = self.labelled_loss(logits, images, labels, progress)
        strong_loss = trusted_cross_entropy(of_strong, strong_targets)
        stain_loss = trusted_cross_entropy(of_stained, targets)
        metrics |= {"strong_view": strong_loss.item(), "stain_view": stain_loss.item(), **pseudo_metrics(targets)}
        return loss + weight * (strong_loss + stain_loss), metrics | self._spread()

    @torch.no_grad()
    def _views(self, labelled: Batch, unlabelled: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of all n crops a strong view and its pseudo-labels, a stain view and those of the plain crop."""
        (image, covered), (other, other_covered) = self.views.plain(labelled), self.views.plain(unlabelled)
        image, covered = torch.cat([image, other]), torch.cat([covered, other_covered])
        target = without_padding(self.gate(self.teacher(image)), covered)
        slide = torch.cat([labelled.slide, -1 - unlabelled.slide])  # numbers of two pools
        stained = stain_view(image, image, self.options.stain_view, slide[:, None] != slide)
        return *cutmix(self.views.strong(image), target, self.options.cutmix), stained, target

    def _classified(self, images: Tensor) -> Tensor:
        """(n, classes, h, w) logits of one draw of the classifier's weights."""
        if not self.options.stochastic:
            plain: Tensor = self.student.net(images)
            return plain
        logits: Tensor = self.student.net(images, None, ("stochastic",))[1]["stochastic"]
        return logits

    def _spread(self) -> dict[str, float]:
        if not self.options.stochastic:
            return {}
        return {"classifier_spread": self.student.net.module.heads["stochastic"].spread().mean().item()}


class StochasticClassifier(nn.Module):
    """The last convolution of a network's head with weights from N(mean, spread²); the means are those of the head itself.

    forward: the decoder's features -> (n, classes, h, w) logits of one draw.

    Args:
        head: of the network, which owns the means
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head = (head,)  # in a tuple, so that its weights are the network's alone
        self._last = [name for name, part in head.named_modules() if isinstance(part, nn.Conv2d)][-1]
        self.sigma = nn.Parameter(torch.zeros_like(self.mean))

    @property
    def mean(self) -> Tensor:
        """Means of the weights."""
        weight: Tensor = self._head[0].get_parameter(f"{self._last}.weight")
        return weight

    def spread(self) -> Tensor:
        """Standard deviations of the weights."""
        return F.softplus(self.sigma - NARROW)

    def forward(self, decoded: Tensor) -> Tensor:
        noise = torch.randn(self.sigma.shape).to(self.sigma)  # on the CPU, as all randomness of a step
        drawn = {f"{self._last}.weight": self.mean + self.spread() * noise}
        logits: Tensor = functional_call(self._head[0], drawn, (decoded,))
        return logits
