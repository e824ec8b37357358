"""Domain randomisation: shapes, chance, and that labels follow pixels and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsiseg.classes import IGNORE
from wsiseg.data.randomise import (
    Palette,
    Warp,
    isolate,
    mosaic,
    needle,
    palette_of,
    paste,
    refocus,
    restain,
    smooth_noise,
    warp,
)

PALETTE = Palette(np.array([0.95, 0.94, 0.96]), np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]))


def tissue(side: int, seed: int = 0) -> torch.Tensor:
    """A picture of two stains: nuclei as dots, the other stain in waves."""
    rng = np.random.default_rng(seed)
    nuclei = torch.from_numpy((rng.random((side, side)) > 0.9).astype(np.float32))
    other = 0.4 + 0.2 * smooth_noise(side, 6, rng).clamp(-1, 1)
    stains = torch.tensor(PALETTE.stains, dtype=torch.float32)
    density = nuclei[None] * stains[0][:, None, None] + other[None] * stains[1][:, None, None]
    return torch.tensor(PALETTE.white, dtype=torch.float32)[:, None, None] * (-density).exp()


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (np.hypot(x, y) < radius).astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_warp_moves_labels_with_pixels(seed: int) -> None:
    """What is dark is labelled, before and after, whatever the turn, the size and the bend."""
    how = Warp(64)
    rng = np.random.default_rng(seed)
    label = np.roll(disc(how.side, 30), (20, -14), (0, 1))
    label[:, : how.side // 2 - 60] = 2
    grey = np.array([250, 40, 140], np.uint8)[label]
    pixels, moved = warp(np.repeat(grey[..., None], 3, 2), label, how, rng)
    assert pixels.shape == (3, 64, 64)
    assert moved.shape == (64, 64)
    assert moved.dtype == np.uint8
    seen = np.abs(pixels[0].numpy()[..., None] * 255 - [250, 40, 140]).argmin(-1)
    inner = np.ones_like(moved, bool)  # a pixel on a border is a mixture: look at the others
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(moved, step, axis) == moved
    inner[[0, -1]] = inner[:, [0, -1]] = False
    assert inner.sum() > 1500
    assert (seen[inner] == moved[inner]).mean() > 0.995


def test_warp_needs_no_corner_from_outside() -> None:
    how = Warp(48)
    image, label = np.full((how.side, how.side, 3), 90, np.uint8), np.zeros((how.side, how.side), np.uint8)
    for seed in range(40):
        pixels, moved = warp(image, label, how, np.random.default_rng(seed))
        assert not (moved == IGNORE).any(), seed
        assert torch.allclose(pixels, torch.tensor(90 / 255), atol=1e-5)


def test_warp_keeps_pixels_sharp() -> None:
    """Averages of finer samples keep far more fine contrast than a bilinear turn of the final pixels would."""
    how = Warp(128, smallest=1.0, largest=1.0, stretch=1.0, bend=0.0)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (how.side, how.side, 1), np.uint8).repeat(3, 2)
    plain = image[: how.side // 2 * 2, : how.side // 2 * 2, 0].reshape(how.side // 2, 2, -1, 2).mean((1, 3)) / 255
    for seed in range(4):
        pixels, _ = warp(image, image[..., 0] * 0, how, np.random.default_rng(seed))
        assert pixels[0].numpy().std() > 0.6 * plain.std()


@pytest.mark.parametrize("change", ["restain", "refocus"])
def test_colours_leave_labels_and_shape_alone(change: str) -> None:
    image, label = tissue(64), disc(64, 20)
    before = label.copy()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        out = restain(image, label, PALETTE, rng) if change == "restain" else refocus(image, rng)
        assert out.shape == image.shape
        assert out.dtype == torch.float32
        assert torch.isfinite(out).all()
        assert out.min() >= 0
        assert out.max() <= 1
    assert (label == before).all()


def test_restain_reaches_far_and_keeps_structure() -> None:
    """Mean colours spread over most of what is possible; nuclei stay where they were."""
    image, label = tissue(96), np.zeros((96, 96), np.uint8)
    made = [restain(image, label, PALETTE, np.random.default_rng(seed)) for seed in range(60)]
    mean = np.array([m.mean((1, 2)).numpy() for m in made])
    assert (mean.std(0) > 0.08).all()
    nuclei = (image[0] < 0.6).numpy()
    kept = [abs(np.corrcoef(m.mean(0).numpy().ravel(), nuclei.ravel())[0, 1]) > 0.15 for m in made]
    assert np.mean(kept) > 0.8


def test_restain_makes_objects_lighter_and_darker() -> None:
    image, label = tissue(96), disc(96, 25)
    inside = torch.from_numpy(label > 0)
    gap = []
    for seed in range(60):
        out = restain(image, label, PALETTE, np.random.default_rng(seed)).mean(0)
        gap.append(float(out[inside].mean() - out[~inside].mean()))
    assert min(gap) < -0.03
    assert max(gap) > 0.03


def test_needle_puts_glass_and_background() -> None:
    image, label = tissue(128), np.ones((128, 128), np.uint8)
    label[:8] = IGNORE
    seen = set()
    for seed in range(10):
        out, marks = needle(image, label, PALETTE.white, 2.0, np.random.default_rng(seed))
        glass = ((out - torch.tensor(PALETTE.white, dtype=torch.float32)[:, None, None]).abs().max(0)[0] < 1e-4).numpy()
        assert (marks[glass & (label != IGNORE)] == 0).all()
        assert (marks[label == IGNORE] == IGNORE).all()
        seen.add(bool(glass.any()))
    assert True in seen


def test_paste_brings_objects_and_their_labels() -> None:
    onto, label = tissue(96, 1), np.zeros((96, 96), np.uint8)
    source, marks = tissue(96, 2), 2 * disc(96, 15)
    out, mixed = paste((onto, label), (source, marks), np.random.default_rng(3))
    assert (mixed[marks == 2] == 2).all()
    assert (mixed[marks == 0] == 0).all()
    changed = ((out - onto).abs().max(0)[0] > 1e-4).numpy()
    assert changed[marks == 2].mean() > 0.9
    assert not changed.all()


def test_same_chance_same_crop() -> None:
    """All chance comes from the generator: torch's own state is neither read nor moved."""

    def crop(seed: int) -> tuple[torch.Tensor, np.ndarray]:
        rng = np.random.default_rng((7, 3, seed))
        how = Warp(32)
        fine = np.random.default_rng(0).integers(0, 256, (how.side, how.side, 3), np.uint8)
        image, label = warp(fine, disc(how.side, 20), how, rng)
        image, label = needle(image, label, PALETTE.white, 2.0, rng)
        return refocus(restain(image, label, PALETTE, rng), rng), label

    state = torch.random.get_rng_state()
    first, again, other = crop(1), crop(1), crop(2)
    assert torch.equal(first[0], again[0])
    assert (first[1] == again[1]).all()
    assert not torch.equal(first[0], other[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_palette_finds_the_stains() -> None:
    pixels = (tissue(200).permute(1, 2, 0).reshape(-1, 3) * 255).round().numpy().astype(np.uint8)
    glass = np.tile((PALETTE.white * 255).round().astype(np.uint8), (4000, 1))
    found = palette_of(np.concatenate([pixels, glass]))
    assert np.abs(found.white - PALETTE.white).max() < 0.02
    assert (found.stains * PALETTE.stains).sum(1).min() > 0.95


def test_isolate_leaves_objects_of_the_first_class_alone_on_glass() -> None:
    image = tissue(128)
    label = np.roll(disc(128, 18), -30, 1) + 2 * np.roll(disc(128, 18), 30, 1)
    white = torch.tensor(PALETTE.white, dtype=torch.float32)[:, None, None]
    for seed in range(8):
        out, marks = isolate(image, label, PALETTE.white, 2.0, np.random.default_rng(seed))
        glass = ((out - white).abs().max(0)[0] < 1e-4).numpy()
        assert (marks == 1).any()
        assert not (marks == 2).any(), "a smooth scar on glass looks like glass"
        assert glass.mean() > 0.5
        assert (marks[glass] == 0).all()
    same, marks = isolate(image, label * 0, PALETTE.white, 2.0, np.random.default_rng(0))
    assert torch.equal(same, image)


@pytest.mark.parametrize("corners", [False, True])
def test_mosaic_is_white_and_background(corners: bool) -> None:
    image, label = tissue(96), np.ones((96, 96), np.uint8)
    shapes = set()
    for seed in range(30):
        out, marks = mosaic(image, label, np.random.default_rng(seed), corners=corners)
        white = (out == 1).all(0).numpy()
        assert (marks[white] == 0).all()
        assert (marks[~white] == 1).all()
        straight = white.all(0).any() or white.all(1).any()
        shapes.add((bool(straight), bool(white[0, 0] + white[0, -1] + white[-1, 0] + white[-1, -1] == 1)))
    assert (len(shapes) > 1) == corners


def test_no_sclerotic_object_is_empty() -> None:
    """With `soften`, a scar that took no stain is given some, so that a lumen is never called one."""
    image = tissue(96)
    label = 2 * disc(96, 25)
    inside = torch.from_numpy(label == 2)
    image = torch.where(inside, torch.tensor(PALETTE.white, dtype=torch.float32)[:, None, None], image)
    for soften, least in ((0.0, 0), (0.1, 0.8)):
        darker = []
        for seed in range(40):
            out = restain(image, label, PALETTE, np.random.default_rng(seed), soften=soften)
            darker.append(bool(out[:, inside].mean() < out.amax() - 0.05))
        assert np.mean(darker) >= least
    assert np.mean(darker) > 0.8


def test_a_grazing_strip_cuts_along_an_object() -> None:
    image, label = tissue(128), disc(128, 12)

    def cut(graze: float) -> float:
        kept = []
        for seed in range(60):
            _, marks = needle(image, label, PALETTE.white, 2.0, np.random.default_rng(seed), graze=graze)
            kept.append((marks == 1).sum() / (label == 1).sum())
        return float(np.mean([(0.05 < k < 0.95) for k in kept]))

    assert cut(1.0) > 1.5 * max(cut(0.0), 0.05)
