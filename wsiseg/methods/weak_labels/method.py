"""Weak labels: of a slide it is only known which classes it has, and the network finds where they are.

    labelled    image ─► G ─► cross-entropy + Dice against the annotations, where there are any
                         └─► class activation ─► is the class in this crop? binary cross-entropy against the annotations
    unlabelled  image ─► G ─► class activation ─► the same against the tags of the slide · class_weight
                image ─► EMA ─► class activation of the tagged classes ─► seeds ─► random walk along similar features
                  └── other stain ─► G ─► cross-entropy against these pseudo-labels · weight

Features are learnt from the pseudo-labels, and the walk follows the features, so that both improve in turn. Classes that the
tags exclude get no seeds, and slides without tags no pseudo-labels.

Sources: features that are learnt from pseudo-labels and refine them: AuxSegNet (Xu et al. 2021); the random walk: Ahn & Kwak
2018; the pooling: Pinheiro & Collobert 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.data.crops import Batch
from wsiseg.errors import RecipeError
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import confident
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.tags import (
    UNKNOWN,
    ClassActivation,
    TagReader,
    classes_seen,
    presence_loss,
    smooth_maximum,
)
from wsiseg.methods.parts.views import without_padding

HEADS = ("activation",)
NEAR = 5  # places that a step of the walk reaches: Ahn & Kwak 2018
MOST_PLACES = 40  # width of the graph of a crop: its matrix has the fourth power of this


class WeakLabels(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        network = ctx.new_network()
        self.classes = len(ctx.classes)
        network.heads["activation"] = ClassActivation(
            network.encoder_channels, self.classes, network.architecture.decoder_channels
        )
        super().__init__(ctx, network)
        self.read_tags = TagReader(ctx.classes, ctx.options.tags)
        self.threshold = torch.full((self.classes,), ctx.options.confidence_threshold)
        tags = [t for stores in ctx.pools.tags.values() for t in stores]
        if tags and not (self.read_tags(tags) == 1).any():
            raise RecipeError(
                "No slide of the split `train` has a tag that names a class: fill in the column `tags` of the slide list, "
                "or say under [method.tags] which tag stands for which class."
            )

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The loss on labelled crops, and what tags teach of the others; no pseudo-labels yet."""
        loss, metrics = self._labelled(batches.labelled, progress)
        if batches.unlabelled is None:
            return loss, metrics
        images = self.views.stain(self.views.plain(batches.unlabelled)[0])
        _, heads = self.student.net(images, None, HEADS)
        tagged = self._presence(heads["activation"], self._known(batches.unlabelled))
        return loss + self.options.class_weight * tagged, metrics | {"tags": tagged.item()}

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """The same, and the cross-entropy against the pseudo-labels."""
        loss, metrics = self._labelled(labelled, progress)
        plain, covered = self.views.plain(unlabelled)
        known = self._known(unlabelled)
        target = without_padding(self._pseudo_labels(plain, known), covered)
        logits, heads = self.student.net(self.views.stain(plain), None, HEADS)
        tagged = self._presence(heads["activation"], known)
        weak = trusted_cross_entropy(logits, target)
        metrics |= {"tags": tagged.item(), "weak_labels": weak.item()} | pseudo_metrics(target)
        return loss + self.options.class_weight * tagged + weight * weak, metrics

    def _labelled(self, labelled: Batch, progress: float) -> Loss:
        images, labels = self.views.weak(labelled)
        logits, heads = self.student.net(images, None, HEADS)
        loss, metrics = self.labelled_loss(logits, images, labels, progress)
        seen = self._presence(heads["activation"], classes_seen(labels, self.classes))
        return loss + self.options.class_weight * seen, metrics | {"classes_seen": seen.item()}

    def _known(self, crops: Batch) -> Tensor:
        return self.read_tags(crops.tags).to(crops.images.device)

    def _presence(self, scores: Tensor, targets: Tensor) -> Tensor:
        return presence_loss(smooth_maximum(scores.float()), targets)

    @torch.no_grad()
    def _pseudo_labels(self, images: Tensor, known: Tensor) -> Tensor:
        """(n, h, w) int64 for crops of slides whose classes are known (n, classes - 1), UNSURE where nothing is."""
        o, net = self.options, self.student.ema.net
        with self.student.fabric.autocast():
            features = net.encode(images)
            decoded, scores = net.decode(features), net.heads["activation"](features)
        decoded = decoded.float()
        activation = F.interpolate(scores.float(), decoded.shape[-2:], mode="bilinear", align_corners=False).sigmoid()
        side = min(MOST_PLACES, decoded.shape[-2]), min(MOST_PLACES, decoded.shape[-1])
        decoded, activation = F.adaptive_avg_pool2d(decoded, side), F.adaptive_avg_pool2d(activation, side)
        grown = spread(
            seeds(activation, known, o.seed_object, o.seed_background), decoded, o.affinity_power, o.affinity_steps
        )
        grown = F.interpolate(grown, images.shape[-2:], mode="bilinear", align_corners=False)
        return confident(grown, self.threshold)


def seeds(activation: Tensor, known: Tensor, least: float, most: float) -> Tensor:
    """(n, classes, h, w): 1 in the class that a place is a seed of, 0 elsewhere.

    An object is seeded where its activation is `least` or more and that of no other class is higher, background where that of
    no class is above `most`.

    Args:
        activation: (n, classes - 1, h, w) from 0 to 1, without background
        known: (n, classes - 1), 1 the class may be there, 0 it is not, UNKNOWN no seeds of any kind
        least, most: of the activation
    """
    objects = activation * (known == 1)[..., None, None]
    highest = objects.amax(1, keepdim=True)
    chosen = (objects >= least) & (objects == highest)
    stated = (known != UNKNOWN).all(1)[:, None, None, None]
    return (torch.cat([highest <= most, chosen], 1) & stated).to(activation)


def spread(seeded: Tensor, features: Tensor, power: float, steps: int) -> Tensor:
    """(n, classes, h, w) part of each class in each place, after a random walk from the seeds along similar features.

    The walk goes from one place to another near it with the chance of max(0, cosine of their features)^power, and seeds
    stay what they are. A place that it reaches from no seed has no class.

    Args:
        seeded: (n, classes, h, w) of 0 and 1
        features: (n, channels, h, w)
        power: the higher, the more alike neighbours must be
        steps: 0 leaves the seeds as they are
    """
    n, classes, h, w = seeded.shape
    places = F.normalize(features - features.mean((2, 3), keepdim=True), dim=1).flatten(2)
    row, column = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    away = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    near = (away <= NEAR).to(places)
    affinity = (places.mT @ places).clamp_min(0) ** power * near
    affinity = affinity / affinity.sum(2, keepdim=True).clamp_min(1e-6)
    first = seeded.flatten(2).mT
    fixed = first.sum(2, keepdim=True) > 0
    now = first
    for _ in range(steps):
        now = torch.where(fixed, first, affinity @ now)
    reached = now.sum(2, keepdim=True)
    return torch.where(reached > 1e-3, now / reached.clamp_min(1e-6), 0.0).mT.reshape(n, classes, h, w)
