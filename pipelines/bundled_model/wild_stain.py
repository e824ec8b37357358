"""A stain that no laboratory has, for training."""

from __future__ import annotations

import numpy as np

from wsiseg.synthetic.stain import LUMEN, VECTORS, Bath, amounts_of, mix_bath


def wild_bath(rng: np.random.Generator, stain: str) -> Bath:
    """Every material takes up what it likes.

    Amounts lie anywhere between those of both stains and beyond, each material's by a factor of its own; the colours
    are those of `stain`, some way off.
    """
    he, pas = amounts_of("he"), amounts_of("pas")
    fraction = rng.uniform(-0.2, 1.2)
    amounts = np.maximum((1 - fraction) * he + fraction * pas, 0)
    amounts = amounts * np.exp(rng.normal(0, 0.3, (len(amounts), 1))) * np.exp(rng.uniform(-0.5, 0.35, 3))
    amounts[LUMEN] = rng.uniform(0, 0.08, 3) if rng.uniform() < 0.3 else he[LUMEN]
    vectors = np.maximum(np.array(VECTORS[stain]) + rng.normal(0, 0.08, (3, 3)), 0.02)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return mix_bath(rng, stain)._replace(amounts=amounts.astype(np.float32), vectors=vectors.astype(np.float32))
