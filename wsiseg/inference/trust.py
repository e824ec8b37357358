"""How far each predicted object can be trusted, as a discriminator sees it.

The discriminator of the adversarial method has learnt, on tiles that the segmentation network never saw, which pixels of
a predicted map are right. Its mean over an object sorts a review list: the objects that a person should look at first
come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import ANY, Rasteriser
from wsiseg.data.augment import to_float
from wsiseg.geometry import Box
from wsiseg.nets.discriminators import Discriminator
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.slides.slide import Slide

TRUST = "Trust"  # name of the measurement
MARGIN, STEP, WIDEST = 48, 16, 1024  # px around an object; crops are whole multiples of STEP; of a crop at most


@torch.inference_mode()
def with_trust(
    slide: Slide, objects: Iterable[LabelledPolygon], net: SegmentationNet, judge: Discriminator, mpp: float
) -> Iterator[LabelledPolygon]:
    """The objects in their order, each with the measurement `TRUST`.

    It is the mean over the object's pixels of the discriminator's probability that the predicted class is right; the
    discriminator weighs right and wrong pixels alike, so it ranks objects and is no probability of an error. Of an object
    wider than `WIDEST` px the middle is judged.

    Args:
        slide: that the objects lie on
        objects: in its level-0 pixels
        net: the model's network, in eval mode
        judge: the discriminator that learnt beside it, in eval mode
        mpp: µm/px of both
    """
    frame = slide.frame.at(mpp)
    across, down = slide.frame.scale_to(frame)
    for found in objects:
        left, top, right, bottom = found.polygon.bounds
        box = _crop(left * across, top * down, right * across, bottom * down)
        image = to_float(torch.from_numpy(slide.read(box, frame)[None]))
        probability = net(image).float().softmax(1)
        score = F.interpolate(judge(image, probability)[0], size=box.shape, mode="bilinear", align_corners=False)
        inside = Rasteriser([replace(found, label="Object")], ANY, frame, slide.frame).read(box) == 1
        value = score[0, 0].sigmoid().numpy()[inside]
        trust = float(value.mean()) if value.size else float(score[0, 0].sigmoid().mean())
        yield replace(found, measurements={**found.measurements, TRUST: round(trust, 4)})


def _crop(left: float, top: float, right: float, bottom: float) -> Box:
    """A box around these bounds, with a margin, whose sides are multiples of `STEP`."""
    sides = [
        int(min(WIDEST, np.ceil((high - low + 2 * MARGIN) / STEP) * STEP))
        for low, high in ((left, right), (top, bottom))
    ]
    x, y = (round((low + high - side) / 2) for low, high, side in zip((left, top), (right, bottom), sides, strict=True))
    return Box(x, y, *sides)
