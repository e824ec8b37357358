"""CutMix."""

import torch

from wsiseg.data.cutmix import LEAST, MOST, mix, rectangles


def test_they_are_rectangles_of_the_promised_size() -> None:
    torch.manual_seed(0)
    where = rectangles(500, 64, 1.0)
    share = where.float().mean((1, 2))
    assert share.min() > 0.5 * LEAST
    assert share.max() < 1.2 * MOST
    for one in where[:50]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns[None, :]), "a rectangle"


def test_chance_is_the_fraction_of_images_with_a_rectangle() -> None:
    torch.manual_seed(0)
    assert not rectangles(50, 32, 0.0).any()
    some = rectangles(4000, 16, 0.25).any(2).any(1).float().mean()
    assert abs(some - 0.25) < 0.04


def test_image_and_labels_are_mixed_alike() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (6, 32, 32))
    images = labels[:, None].repeat(1, 3, 1, 1).float() / 5
    where = rectangles(6, 32, 1.0)
    new_images, new_labels = mix(images, where), mix(labels, where)
    assert torch.equal(new_images[:, 0], new_labels.float() / 5)
    assert torch.equal(new_labels[2][where[2]], labels[1][where[2]])
    assert torch.equal(new_labels[2][~where[2]], labels[2][~where[2]])
