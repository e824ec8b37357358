"""Trust in predicted objects: where the discriminator doubts, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapely import box
from torch import Tensor, nn

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.errors import BundleError
from wsiseg.inference.trust import STEP, TRUST, WIDEST, _crop, with_trust
from wsiseg.nets.discriminators import DISCRIMINATORS, load_discriminator, save_discriminator
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide


class Net(nn.Module):
    """Two classes, by the red channel."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([image[:, 0], 1 - image[:, 0]], 1) * 8


class Judge(nn.Module):
    """Doubts whatever is blue, by the image alone; one logit for four pixels."""

    def forward(self, image: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        logits = nn.functional.avg_pool2d(6 - 12 * image[:, 2:], 2)
        return logits, logits


def test_an_object_that_the_discriminator_doubts_is_trusted_less() -> None:
    pixels = np.full((400, 600, 3), (230, 230, 0), np.uint8)
    pixels[100:200, 100:200] = (20, 20, 0)
    pixels[100:200, 400:500] = (20, 20, 255)
    slide = Slide(MemoryBackend(pixels, mpp=1.0))
    objects = [LabelledPolygon(box(x, 100, x + 100, 200), "A", measurements={"n": 1.0}) for x in (100, 400)]
    judge: Any = Judge()
    net: Any = Net()
    trusted, doubted = with_trust(slide, objects, net, judge, 2.0)
    assert trusted.measurements["n"] == 1
    assert trusted.measurements[TRUST] > 0.95
    assert doubted.measurements[TRUST] < 0.1
    assert (trusted.polygon, trusted.label) == (objects[0].polygon, "A")


def test_crops_hold_the_object_and_fit_the_networks() -> None:
    small = _crop(100.3, 50.2, 120.9, 80.1)
    assert small.w % STEP == small.h % STEP == 0
    assert small.x < 60
    assert small.right > 160
    huge = _crop(0, 0, 5000, 40)
    assert huge.w == WIDEST
    assert abs(huge.x + huge.w / 2 - 2500) <= 1


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_discriminator_is_read_as_it_was_written(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = DISCRIMINATORS[kind](3, 8).eval()
    save_discriminator(tmp_path / "d.safetensors", net)
    again = load_discriminator(tmp_path / "d.safetensors")
    image, maps = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(image, maps)[0], again(image, maps)[0])


def test_a_discriminator_that_is_not_there_or_damaged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no discriminator"):
        load_discriminator(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not at all")
    with pytest.raises(BundleError, match="damaged"):
        load_discriminator(tmp_path / "bad.safetensors")
