"""Augmentation: image and labels move together, nothing else moves."""

import pytest
import torch

from wsiseg.classes import IGNORE
from wsiseg.data.augment import Augmenter, to_float

PLAIN = {"rotate": False, "scale": 1.0, "stain": 0.0, "brightness": 0.0}


def picture(side: int = 65) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels are drawn in the image, too: grey level 40 · label."""
    labels = torch.zeros(3, side, side, dtype=torch.uint8)
    labels[:, 10:30, 20:50] = 1
    labels[:, 40:55, 5:25] = 2
    return (labels * 40)[..., None].expand(-1, -1, -1, 3).contiguous(), labels


@pytest.mark.parametrize("changes", [{}, {"rotate": True}, {"scale": 1.5}, {"rotate": True, "scale": 1.3}])
def test_labels_follow_the_image(changes: dict) -> None:
    images, labels = picture()
    for seed in range(5):
        torch.manual_seed(seed)
        image, label = Augmenter(crop=33, **{**PLAIN, **changes})(images, labels)
        assert image.shape == (3, 3, 33, 33)
        assert label.shape == (3, 33, 33)
        drawn = (image[:, 0] * 255 / 40).round().long()
        inside = label != IGNORE
        assert (drawn == label)[inside].float().mean() > 0.93, "but for edges, where the image is interpolated"


def test_flips_and_quarter_turns_are_exact() -> None:
    images, labels = picture(64)
    torch.manual_seed(1)
    image, label = Augmenter(crop=64, **PLAIN)(images, labels)
    assert torch.equal((image[:, 0] * 255 / 40).round().long(), label)
    wanted = [torch.rot90(x, k) for x in (labels[0], labels[0].flip(1)) for k in range(4)]
    assert all(any(torch.equal(one, w.long()) for w in wanted) for one in label)


def test_outside_is_white_and_ignored() -> None:
    images, labels = picture(32)
    torch.manual_seed(0)
    image, label = Augmenter(crop=64, **PLAIN)(images, labels)
    assert (label[:, 0] == IGNORE).all()
    assert (image[:, :, 0] == 1).all()


def test_stain_jitter_stays_in_range_and_changes_colour_not_place() -> None:
    images, labels = picture()
    torch.manual_seed(0)
    plain, _ = Augmenter(crop=65, **PLAIN)(images, labels)
    torch.manual_seed(0)
    jittered, same = Augmenter(crop=65, **{**PLAIN, "stain": 0.1, "brightness": 0.1})(images, labels)
    assert jittered.min() >= 0
    assert jittered.max() <= 1
    assert not torch.allclose(plain, jittered)
    for n in range(3):
        for value in (0, 1, 2):
            spread = jittered[n][:, same[n] == value].std(1)
            assert (spread < 0.05).all(), "one colour stays one colour"


def test_the_same_seed_does_the_same() -> None:
    images, labels = picture()
    made = []
    for _ in range(2):
        torch.manual_seed(9)
        made.append(Augmenter(33, True, 1.2, 0.1, 0.1)(images, labels))
    assert torch.equal(made[0][0], made[1][0])


def test_pixels_become_floats() -> None:
    out = to_float(torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8))
    assert out.flatten().tolist() == [0, pytest.approx(128 / 255), 1]


def test_blur_keeps_the_light_and_takes_the_edges_of_half_of_the_images() -> None:
    images, labels = picture(64)
    images, labels = images.repeat(20, 1, 1, 1), labels.repeat(20, 1, 1)
    torch.manual_seed(0)
    sharp, _ = Augmenter(crop=64, **PLAIN)(images, labels)
    soft = Augmenter(crop=64, **PLAIN, blur=2.0).stain_jitter(sharp)

    def edges(x: torch.Tensor) -> torch.Tensor:
        return (x[..., 1:] - x[..., :-1]).abs().amax((1, 2, 3))

    assert torch.allclose(soft.mean((1, 2, 3)), sharp.mean((1, 2, 3)), atol=0.01)
    blurred = edges(soft) < 0.95 * edges(sharp)
    assert 0.25 < blurred.float().mean() < 0.75
    assert torch.allclose(soft[~blurred], sharp[~blurred], atol=0.02)
    flat = torch.full((4, 3, 20, 20), 0.6)
    assert torch.allclose(Augmenter(crop=20, **PLAIN, blur=3.0).stain_jitter(flat), flat, atol=1e-5), (
        "borders are not dark"
    )
