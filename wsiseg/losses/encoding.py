"""Encodings of a reference label map for a discriminator, so that it cannot be recognised by its sharpness alone.

A one-hot map against a soft one gives the game away: whoever sees a 0.97 knows that it was predicted.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE

Encoding = Literal["raw", "smooth", "scaled", "straight_through", "gumbel"]
LEAST = 0.9  # τ of Luc et al. 2016
SMOOTHING = 0.1  # total probability moved away from the true class by `smooth`


def encode(logits: Tensor, labels: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor]:
    """The two maps that a discriminator is to compare.

    - `raw`: one-hot against soft.
    - `smooth`: one-hot with `SMOOTHING` spread evenly, against soft (label smoothing, Salimans et al. 2016).
    - `scaled`: the prediction with its true class raised to at least `LEAST` and the rest in proportion, against soft
      (Luc et al. 2016): as sharp as the prediction is, wherever that is sure and right.
    - `straight_through`: one-hot against the prediction's own one-hot, with the gradient of the soft one (Bengio et
      al. 2013).
    - `gumbel`: likewise, with classes drawn at random (Jang et al. 2017).

    Args:
        logits: (n, classes, h, w) of the generator
        labels: (n, h, w) int64; where they are `IGNORE`, both maps are the prediction's, so that nothing is learnt
        encoding: which of the above

    Returns:
        (true map, predicted map), both (n, classes, h, w) float32; gradients flow into the predicted one only
    """
    predicted = shown(logits, encoding)
    known = labels.where(labels != IGNORE, torch.zeros_like(labels))
    one_hot = F.one_hot(known, logits.shape[1]).movedim(-1, 1).float()
    if encoding == "smooth":
        true = one_hot * (1 - SMOOTHING) + SMOOTHING / logits.shape[1]
    elif encoding == "scaled":
        true = _scaled(logits.detach().float().softmax(1), one_hot)
    else:
        true = one_hot
    stated = (labels != IGNORE)[:, None]
    return torch.where(stated, true, predicted.detach()), predicted


def shown(logits: Tensor, encoding: Encoding) -> Tensor:
    """The predicted map, (n, classes, h, w) float32, as the discriminator sees it under an encoding."""
    soft = logits.float().softmax(1)
    if encoding == "straight_through":
        hard = F.one_hot(soft.argmax(1), logits.shape[1]).movedim(-1, 1).float()
        return hard + soft - soft.detach()
    if encoding == "gumbel":
        return F.gumbel_softmax(logits.float(), hard=True, dim=1)
    return soft


def _scaled(soft: Tensor, one_hot: Tensor) -> Tensor:
    here = (soft * one_hot).sum(1, keepdim=True)
    raised = here.clamp_min(LEAST)
    rest = (1 - raised) / (1 - here).clamp_min(1e-6)
    return soft * rest * (1 - one_hot) + raised * one_hot
