"""A crop in the stain of another."""

from __future__ import annotations

import torch

from wsiseg.data.restain import PALE, in_stain_of, without_stain


def crops(red: float, green: float, blue: float, seed: int) -> torch.Tensor:
    """Tissue of this mean optical density with structure, glass in the upper quarter."""
    noise = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    density = torch.tensor([red, green, blue])[:, None, None] * (0.5 + noise)
    density[:, :, :8] = 0
    return (-density).exp()


def stain_of(image: torch.Tensor) -> torch.Tensor:
    density = -image[0].log()
    return density[:, density.mean(0) > PALE].mean(1)


def test_tissue_takes_the_colours_of_the_other_and_glass_stays() -> None:
    mine, other = crops(0.3, 0.9, 0.4, 0), crops(0.8, 0.5, 0.9, 1)
    changed = in_stain_of(mine, other)
    assert torch.allclose(stain_of(changed), stain_of(other), rtol=0.05)
    assert torch.allclose(changed[:, :, :8], mine[:, :, :8], atol=1e-6)
    same = torch.corrcoef(torch.stack([changed[0, 1, 8:].flatten(), mine[0, 1, 8:].flatten()]))
    assert same[0, 1] > 0.99, "the structure is the same"
    assert torch.allclose(in_stain_of(mine, mine), mine, atol=1e-4)


def test_glass_neither_changes_nor_lends() -> None:
    tissue, glass = crops(0.3, 0.9, 0.4, 0), torch.ones(1, 3, 32, 32)
    assert torch.allclose(in_stain_of(glass, tissue), glass)
    assert torch.allclose(in_stain_of(tissue, glass), tissue, atol=1e-6)


def test_nothing_of_the_stain_is_left() -> None:
    one, other = without_stain(crops(0.3, 0.9, 0.4, 0)), without_stain(crops(0.8, 0.5, 0.9, 0))
    assert torch.allclose(one, other, atol=0.05), "the same structure in two stains"
    assert one.std() > 0.1
