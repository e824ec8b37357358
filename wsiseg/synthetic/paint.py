"""How much of each stain a position takes up: cytoplasm, membranes, lumina; everything but the nuclei."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from wsiseg.synthetic import stain
from wsiseg.synthetic.anatomy import ARTERY, DILATED, GLASS, GLOMERULUS, SCLEROTIC, STROMA, TUBULE
from wsiseg.synthetic.ground import CROWD, FOLD, TISSUE, level
from wsiseg.synthetic.locate import OUTSIDE, where
from wsiseg.synthetic.texture import LATTICE, pick, ramp, sample


@njit(cache=True, nogil=True)
def blend(under, over, cover):
    """A mixture of stains that covers another to a fraction."""
    return (
        under[0] + (over[0] - under[0]) * cover,
        under[1] + (over[1] - under[1]) * cover,
        under[2] + (over[2] - under[2]) * cover,
    )


@njit(cache=True, nogil=True)
def stuff(amounts, material):
    """The stains of a material."""
    return amounts[material, 0], amounts[material, 1], amounts[material, 2]


@njit(cache=True, nogil=True)
def tuft_depth(x, y, p, w):
    """µm inside the tuft of a glomerulus, its lobes and clefts included; negative in Bowman's space."""
    dx, dy = x - p.x - p.core_x, y - p.y - p.core_y
    far = math.sqrt(dx * dx + dy * dy) + 1e-9
    lobe = 1 + p.lobe_size * math.cos(p.lobes * math.atan2(dy, dx) + p.lobe_phase)
    # the tuft follows the outline of the capsule around it
    inside = p.core_r * lobe - far
    ragged = sample(w.smooth, x / 2.2 + p.shift, y / 2.2)
    inside += 2.2 * ragged
    cleft = sample(w.edge, x / 2.6 + p.shift, y / 2.6 - p.shift)  # borders of lobes about 40 µm wide
    if cleft < 0.05 and inside < 22:
        inside -= (0.05 - cleft) * 130 * (1 - max(inside, 0.0) / 22)
    return inside


@njit(cache=True, nogil=True)
def tuft(x, y, p, w, amounts, edge):
    """Capillary loops, their walls and the mesangium between them."""
    u, v = x / 0.72 + p.shift, y / 0.72 - 2 * p.shift
    border = sample(w.edge, u, v) + 0.05 * sample(w.smooth, u / 1.6, v / 1.6)
    tint = pick(w.tint, u, v)
    stalk = sample(w.smooth, x / 3.1 - p.shift, y / 3.1)  # where the mesangium is broad
    open_ = 0.11 + 0.14 * p.mood + 0.05 * stalk
    solid = blend(stuff(amounts, stain.MESANGIUM), stuff(amounts, stain.LOOP_WALL), ramp(border - open_ + 0.10, 0.06))
    if tint < 0.06 + 0.4 * p.mood * p.mood and stalk > -0.9:
        inner = stuff(amounts, stain.RED_CELL)
    else:
        inner = blend(stuff(amounts, stain.LOOP), stuff(amounts, stain.MESANGIUM), 0.45 * tint)
    return blend(solid, inner, ramp(border - open_, 0.05 + 0.05 * edge))


@njit(cache=True, nogil=True)
def glomerulus(x, y, s, p, w, amounts, edge):
    capsule = stuff(amounts, stain.CAPSULE)
    depth = tuft_depth(x, y, p, w)
    space = stuff(amounts, stain.LUMEN)
    haze = sample(w.smooth, x / 2.8 + p.shift, y / 2.8) - 1.3
    if haze > 0:
        space = blend(space, stuff(amounts, stain.CAST), min(0.35, 0.3 * haze))
    inside = blend(space, tuft(x, y, p, w, amounts, edge), ramp(depth, edge))
    rim = blend(inside, stuff(amounts, stain.LOOP_WALL), 0.5 * ramp(1.6 - abs(depth - 0.8), 1.0 + edge))
    return blend(rim, capsule, ramp(p.wall - s, edge))


@njit(cache=True, nogil=True)
def sclerotic(x, y, s, p, w, amounts, edge):
    fibre = sample(w.smooth, x / 1.3 + p.shift, y / 2.4)
    broad = sample(w.smooth, x / 4.5, y / 4.5 + p.shift)
    body = blend(stuff(amounts, stain.HYALINE), stuff(amounts, stain.COLLAGEN), ramp(0.7 * broad + 0.7 * fibre, 2.0))
    body = blend(body, stuff(amounts, stain.LUMEN), 0.10 + 0.12 * ramp(fibre, 2.0))
    ghost = sample(w.edge, x / 0.9 + p.shift, y / 0.9)  # folded remains of the loops
    body = blend(body, stuff(amounts, stain.MEMBRANE), (0.10 + 0.15 * p.mood) * ramp(0.09 - ghost + 0.03 * fibre, 0.16))
    crack = sample(w.smooth, x / 1.7 - p.shift, y / 1.7) - 2.0 - p.mood
    body = blend(body, stuff(amounts, stain.LUMEN), ramp(crack, 0.3))
    ring = abs(s - p.wall - 1.5 - 2 * p.mood)  # a slit is sometimes left of the space
    if p.mood > 0.55:
        body = blend(body, stuff(amounts, stain.LUMEN), 0.8 * ramp(1.3 + 0.8 * broad - ring, edge))
    return blend(body, stuff(amounts, stain.CAPSULE), ramp(p.wall - s, edge))


@njit(cache=True, nogil=True)
def vessel(x, y, s, p, w, amounts, edge):
    layer = sample(w.smooth, s / 0.45 + p.shift, (x + y) / 5)
    wander = sample(w.smooth, x / 1.7, y / 1.7 - p.shift)
    wall = p.wall * (1 + 0.08 * wander)
    body = blend(
        stuff(amounts, stain.MUSCLE), stuff(amounts, stain.COLLAGEN), ramp(layer + 2 - 6 * s / (p.wall + 1), 2.0)
    )
    if p.kind == ARTERY and p.mood > 0.6:  # a thickened, glassy intima
        body = blend(body, stuff(amounts, stain.HYALINE), ramp(s - 0.55 * p.wall, 6))
    lumen = stuff(amounts, stain.LUMEN)
    if p.mood < 0.5:
        u, v = x / 0.4 + p.shift, y / 0.4
        crowded = sample(w.smooth, x / 4 + p.shift, y / 4) + 1.5 - 4 * p.mood
        cell = ramp(sample(w.edge, u, v) - 0.06, 0.05 + 0.06 * edge) * (0.55 + 0.45 * pick(w.tint, u, v))
        lumen = blend(lumen, stuff(amounts, stain.RED_CELL), cell * ramp(crowded, 1.0))
    elastic = ramp(1.2 - abs(s - wall + 1.5), 1.0 + edge)
    body = blend(body, stuff(amounts, stain.MEMBRANE), 0.6 * elastic)
    return blend(body, lumen, ramp(s - wall, edge))


@njit(cache=True, nogil=True)
def dilated(x, y, s, p, w, amounts, edge):
    """A wide tubule with a cast or a clump of cells in it: a space and a ball, much like a glomerulus."""
    grain = sample(w.smooth, x / 0.8, y / 0.8 + p.shift)
    body = blend(stuff(amounts, stain.DISTAL), stuff(amounts, stain.PROXIMAL), 0.5 + 0.2 * grain)
    body = blend(body, stuff(amounts, stain.MEMBRANE), ramp(1.3 - s, edge))
    depth = tuft_depth(x, y, p, w)
    if p.mood < 0.25:
        content = stuff(amounts, stain.LUMEN)
    elif p.mood < 0.6:
        content = blend(stuff(amounts, stain.CAST), stuff(amounts, stain.HYALINE), 0.4 + 0.2 * grain)
    else:
        clump = sample(w.edge, x / 0.7 + p.shift, y / 0.7) + 0.06 * grain
        content = blend(stuff(amounts, stain.MESANGIUM), stuff(amounts, stain.LUMEN), 0.75 * ramp(0.07 - clump, 0.14))
        content = blend(content, stuff(amounts, stain.PROXIMAL), 0.35 * ramp(grain, 2.0))
    inside = blend(stuff(amounts, stain.LUMEN), content, ramp(depth, edge + 0.5))
    return blend(body, inside, ramp(s - p.wall - grain, edge))


@njit(cache=True, nogil=True)
def tubule_wall(roll):
    """Thickness of the epithelium in µm; a tubule's dice roll decides what it is."""
    if roll < 0.58:
        return 12.0 + 8 * roll  # proximal
    if roll < 0.88:
        return 7.5  # distal and collecting
    if roll < 0.95:
        return 5.0  # atrophic
    return 60.0  # cut along its wall: no lumen at all


@njit(cache=True, nogil=True)
def tubule(x, y, s, cell, w, amounts, edge):
    roll = w.lattice[cell // LATTICE, cell % LATTICE, 3]
    grain = sample(w.smooth, x / 0.9, y / 0.9)
    broad = sample(w.smooth, x / 2.3 + w.shift, y / 2.3)
    if roll < 0.58:
        body = blend(stuff(amounts, stain.PROXIMAL), stuff(amounts, stain.DISTAL), 0.25 + 0.13 * grain + 0.13 * broad)
        body = blend(body, stuff(amounts, stain.BRUSH), ramp(s - tubule_wall(roll) + 2.6 - broad, 2.0))
    elif roll < 0.88:
        body = blend(stuff(amounts, stain.DISTAL), stuff(amounts, stain.LUMEN), 0.18 + 0.12 * grain)
    else:
        body = blend(stuff(amounts, stain.DISTAL), stuff(amounts, stain.PROXIMAL), 0.35 + 0.15 * grain)
    border = pick(w.tint, x / 0.8 + 31, y / 0.8)
    body = blend(body, stuff(amounts, stain.DISTAL), 0.25 * border)
    thick = 3.2 if 0.88 <= roll < 0.95 else 1.1
    body = blend(body, stuff(amounts, stain.MEMBRANE), ramp(thick - s, edge))
    lumen = stuff(amounts, stain.LUMEN)
    froth = broad + grain - 1.4
    if froth > 0:
        lumen = blend(lumen, stuff(amounts, stain.BRUSH), min(0.5, 0.4 * froth))
    if 0.50 < roll < 0.54 or 0.90 < roll < 0.93:
        lumen = blend(lumen, stuff(amounts, stain.CAST), 0.8)
    return blend(body, lumen, ramp(s - tubule_wall(roll) - 1.3 * grain - 1.8 * broad, edge))


@njit(cache=True, nogil=True)
def stroma(x, y, s, w, amounts, edge):
    fibre = sample(w.smooth, x / 1.9 + y / 4, y / 0.8)
    broad = sample(w.smooth, x / 3.7, y / 3.7 + w.shift)
    body = blend(stuff(amounts, stain.INTERSTITIUM), stuff(amounts, stain.COLLAGEN), ramp(fibre + broad, 3))
    crowd = level(w.planes, CROWD, x, y)
    body = blend(body, stuff(amounts, stain.INFILTRATE), 0.7 * crowd)
    slit = broad + 0.35 * fibre - 0.55 - 2.5 * crowd  # capillaries, and where the section shrank
    inner = stuff(amounts, stain.LUMEN)
    if pick(w.tint, x / 0.6, y / 0.6 + w.shift) > 0.8:
        inner = stuff(amounts, stain.RED_CELL)
    body = blend(body, inner, ramp(slit, 0.25) * ramp(-s - 0.9, edge))
    return blend(body, stuff(amounts, stain.MEMBRANE), 0.75 * ramp(s + 0.8, edge))


@njit(cache=True, nogil=True)
def paint(left, top, step, rows, cols, w, amounts, has_fold):
    """Stains, float32 (rows, cols, 3), at the centres of the samples (left + c, top + r) of `step` µm each."""
    out = np.zeros((rows, cols, 3), np.float32)
    edge = max(0.9, step)
    for r in range(rows):
        y = (top + r + 0.5) * step
        for c in range(cols):
            x = (left + c + 0.5) * step
            if level(w.planes, TISSUE, x, y) < OUTSIDE - 150:
                continue
            kind, s, i = where(x, y, w)
            if kind == GLASS:
                continue
            if kind == TUBULE:
                mix = tubule(x, y, s, i, w, amounts, edge)
            elif kind == STROMA:
                mix = stroma(x, y, s, w, amounts, edge)
            elif kind == GLOMERULUS:
                mix = glomerulus(x, y, s, w.profiles[i], w, amounts, edge)
            elif kind == SCLEROTIC:
                mix = sclerotic(x, y, s, w.profiles[i], w, amounts, edge)
            elif kind == DILATED:
                mix = dilated(x, y, s, w.profiles[i], w, amounts, edge)
            else:
                mix = vessel(x, y, s, w.profiles[i], w, amounts, edge)
            thick = 1 + 0.09 * sample(w.smooth, x / 19, y / 19 - w.shift) + 0.10 * sample(w.grain, x / 0.8, y / 0.8)
            if has_fold:
                thick *= 1 + 1.1 * ramp(level(w.planes, FOLD, x, y) + 3 * sample(w.smooth, x / 4, y / 4), 3.0)
            out[r, c, 0], out[r, c, 1], out[r, c, 2] = mix[0] * thick, mix[1] * thick, mix[2] * thick
    return out
