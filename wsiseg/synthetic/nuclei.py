"""Nuclei: candidates on a fine jittered lattice, kept or dropped depending on the structure at their position.

A candidate depends on its lattice cell and the slide's seed alone, so a box can list its nuclei without knowing any
other box. Colour and size overlap between the classes; what makes a podocyte is its place at the edge of the tuft.

A nucleus is an ellipsoid, and the section a slab: its centre lies anywhere from half its height above the section to
half its height below. What the slab holds of it is seen from above as a profile: the widest part in the slab. So the
profiles outnumber the centres in the slab by (thickness + height) / thickness, and caps are smaller and paler than
whole nuclei (Abercrombie, Anat. Rec. 94, 1946). Caps thinner than `LOST` leave no trace on the slide.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from wsiseg.synthetic.anatomy import ARTERY, DILATED, GLOMERULUS, SCLEROTIC, STROMA, TUBULE, VEIN
from wsiseg.synthetic.ground import CROWD, SCAR, level
from wsiseg.synthetic.locate import where
from wsiseg.synthetic.paint import blend, stuff, tubule_wall, tuft_depth
from wsiseg.synthetic.stain import NUCLEUS, PALE_NUCLEUS
from wsiseg.synthetic.texture import LATTICE, dice, ramp, sample

RASTER = 6.4  # µm between two candidates
REACH = 16.0  # µm: no nucleus is drawn farther from its candidate's cell
LOST = 0.4  # µm in the section: a thinner cap is not seen
OPAQUE = 1.8  # µm in the section from which on a nucleus shows its full colour
USUAL_THICKNESS, USUAL_HEIGHT = 3.0, 6.6  # µm: the fractions in `settle` are for these

NUCLEI = np.dtype(
    [
        ("x", "f8"), ("y", "f8"),  # centre, µm
        ("a", "f8"), ("b", "f8"),  # half axes of the profile, µm
        ("c", "f8"), ("s", "f8"),  # direction of the long axis, cos and sin
        ("pale", "f8"),  # 0 dark to 1 pale
        ("podocyte", "i8"),
        ("profile", "i8"),  # the glomerulus that holds a podocyte, place among the profiles; -1 for other nuclei
        ("z", "f8"), ("h", "f8"),  # centre below the upper face of the section, half height, µm
        ("ink", "f8"),  # 0 to 1: a thin cap is paler
    ]
)  # fmt: skip


@njit(cache=True, nogil=True)
def measure(x, y, w):
    """(kind, µm inside what matters for nuclei, which): the tuft in a glomerulus, the outline elsewhere."""
    kind, s, i = where(x, y, w)
    if kind == GLOMERULUS:
        p = w.profiles[i]
        depth = tuft_depth(x, y, p, w)
        if s < p.wall + 2.5 or depth < -2:
            return kind, -s, i  # the capsule's side of the space
        return kind, depth, i
    return kind, s, i


@njit(cache=True, nogil=True)
def slope(x, y, w):
    """Unit vector that points inwards; (1, 0) where that has no meaning."""
    kind, left, _ = measure(x - 1, y, w)
    kind_r, right, _ = measure(x + 1, y, w)
    kind_t, above, _ = measure(x, y - 1, w)
    kind_b, below, _ = measure(x, y + 1, w)
    if kind != kind_r or kind_t != kind_b or kind != kind_t:
        return 1.0, 0.0
    gx, gy = right - left, below - above
    size = math.sqrt(gx * gx + gy * gy)
    if size < 0.2 or size > 6:
        return 1.0, 0.0
    return gx / size, gy / size


@njit(cache=True, nogil=True)
def settle(kind, s, i, x, y, roll, w):
    """(kept, ring or nan, long, short, pale, podocyte, lies along the border) for a candidate.

    `ring` is the depth in µm to which the nucleus is moved.
    """
    no = math.nan
    if kind == TUBULE:
        dice_roll = w.lattice[i // LATTICE, i % LATTICE, 3]
        wall = tubule_wall(dice_roll)
        if wall > 50:
            return roll < 0.42, no, 3.5, 3.1, 0.4, 0, 0
        ring = 5.2 if wall > 10 else (4.2 if wall > 6 else 3.4)
        kept = abs(s - ring) < 3.4 and roll < (0.42 if wall > 10 else 0.55)
        return kept, ring + 3 * roll - 0.8, 3.4, 2.9, 0.35 if wall > 10 else 0.25, 0, 0
    if kind == STROMA:
        crowd, scar = level(w.planes, CROWD, x, y), level(w.planes, SCAR, x, y)
        if roll < 0.85 * crowd:
            return True, no, 2.8, 2.6, 0.0, 0, 0
        return 0.2 < roll < 0.42 + 0.15 * scar, no, 4.6, 1.7, 0.1, 0, 1
    if kind == GLOMERULUS:
        if s < -0.5:  # the capsule's own cells, flat
            return abs(-s - w.profiles[i].wall - 1.2) < 2.5 and roll < 0.22, no, 4.6, 1.5, 0.1, 0, 1
        if s < 6.5:
            return roll < 0.42, 3.1, 4.2, 3.1, 0.75, 1, 1
        return roll < 0.30 + 0.22 * (1 - w.profiles[i].mood), no, 3.2, 2.4, 0.2, 0, 0
    if kind == SCLEROTIC:
        return roll < 0.09, no, 3.2, 2.2, 0.1, 0, 0
    if kind in (ARTERY, VEIN):
        wall = w.profiles[i].wall
        if s < wall - 2:
            return roll < 0.26, no, 5.2, 1.7, 0.25, 0, 1
        return abs(s - wall) < 3 and roll < 0.4, wall - 0.5, 4.2, 1.5, 0.1, 0, 1
    if kind == DILATED:
        p = w.profiles[i]
        if s < p.wall:
            return roll < 0.6, 0.55 * p.wall, 3.4, 2.9, 0.3, 0, 0
        return p.mood >= 0.6 and roll < 0.42 and tuft_depth(x, y, p, w) > 2, no, 3.3, 2.8, 0.3, 0, 0
    return False, no, 0.0, 0.0, 0.0, 0, 0


@njit(cache=True, nogil=True)
def list_nuclei(x0, y0, x1, y1, w):
    """The nuclei that can touch the box [x0, x1) × [y0, y1) in µm, always in the order of their lattice cells."""
    left, right = math.floor((x0 - REACH) / RASTER), math.ceil((x1 + REACH) / RASTER)
    top, bottom = math.floor((y0 - REACH) / RASTER), math.ceil((y1 + REACH) / RASTER)
    found = np.empty(max(0, (right - left) * (bottom - top)), NUCLEI)
    n, thick = 0, w.thickness
    more = (thick + USUAL_HEIGHT) / (USUAL_THICKNESS + USUAL_HEIGHT)  # profiles in a thicker section
    for j in range(top, bottom):
        for i in range(left, right):
            x = (i + 0.08 + 0.84 * dice(i, j, w.seed, 1)) * RASTER
            y = (j + 0.08 + 0.84 * dice(i, j, w.seed, 2)) * RASTER
            kind, s, which = measure(x, y, w)
            kept, ring, a, b, pale, podocyte, along = settle(kind, s, which, x, y, dice(i, j, w.seed, 3) / more, w)
            if not kept:
                continue
            size = 0.74 + 0.5 * dice(i, j, w.seed, 4)
            h = math.sqrt(a * b) * size * (0.85 + 0.3 * dice(i, j, w.seed, 8))
            z = dice(i, j, w.seed, 7) * (thick + 2 * h) - h
            held = min(thick, z + h) - max(0.0, z - h)
            if held < LOST:
                continue
            beyond = max(0.0, -z, z - thick) / h  # how far from the middle the section cuts it
            shown = size * math.sqrt(1 - beyond * beyond)
            gx, gy = slope(x, y, w)
            if not math.isnan(ring) and (gx != 1.0 or gy != 0.0):
                x, y = x + gx * (ring - s), y + gy * (ring - s)
            if along == 0:
                turn = 6.2831853 * dice(i, j, w.seed, 5)
                gx, gy = math.cos(turn), math.sin(turn)
            nucleus = found[n]
            nucleus.x, nucleus.y, nucleus.a, nucleus.b = x, y, a * shown, b * shown
            nucleus.c, nucleus.s = -gy, gx  # across the slope
            nucleus.pale = min(1.0, max(0.0, pale + 0.5 * (dice(i, j, w.seed, 6) - 0.5)))
            nucleus.podocyte = podocyte
            nucleus.profile = which if podocyte else -1
            nucleus.z, nucleus.h, nucleus.ink = z, h, min(1.0, held / OPAQUE)
            n += 1
    return found[:n]


@njit(cache=True, nogil=True)
def stamp(out, nuclei, left, top, step, w, amounts):
    """Draws nuclei into the stains of a box; see `paint` for its coordinates."""
    rows, cols = out.shape[0], out.shape[1]
    edge = max(0.8, step)
    dark, light = stuff(amounts, NUCLEUS), stuff(amounts, PALE_NUCLEUS)
    for n in range(nuclei.shape[0]):
        p = nuclei[n]
        reach = p.a + edge
        r0 = max(0, math.floor((p.y - reach) / step) - top)
        r1 = min(rows, math.floor((p.y + reach) / step) + 2 - top)
        c0 = max(0, math.floor((p.x - reach) / step) - left)
        c1 = min(cols, math.floor((p.x + reach) / step) + 2 - left)
        for r in range(r0, r1):
            dy = (top + r + 0.5) * step - p.y
            for c in range(c0, c1):
                dx = (left + c + 0.5) * step - p.x
                u, v = (dx * p.c + dy * p.s) / p.a, (dy * p.c - dx * p.s) / p.b
                q = math.sqrt(u * u + v * v)
                cover = ramp((1 - q) * p.b, edge) * p.ink
                if cover <= 0:
                    continue
                body = blend(dark, light, p.pale * ramp(0.75 - q, 0.5))
                clot = 1 + 0.22 * sample(w.grain, (dx + p.x) / 0.55, (dy + p.y) / 0.55)
                for k in range(3):
                    out[r, c, k] += (body[k] * clot - out[r, c, k]) * cover * 0.93
