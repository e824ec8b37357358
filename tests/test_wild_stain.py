"""Stains that no laboratory has."""

import numpy as np

from pipelines.bundled_model.wild_stain import wild_bath
from wsiseg.synthetic.stain import mix_bath


def test_wild_stains_vary_more_than_usual_ones() -> None:
    def spread(make) -> float:  # type: ignore[no-untyped-def]
        baths = [make(np.random.default_rng(seed), "he") for seed in range(40)]
        assert all(np.isfinite(b.amounts).all() and (b.amounts >= 0).all() for b in baths)
        assert all(np.allclose(np.linalg.norm(b.vectors, axis=1), 1, atol=1e-4) for b in baths)
        return float(np.std([b.amounts for b in baths], axis=0).mean())

    assert spread(wild_bath) > 1.5 * spread(mix_bath)


def test_same_chance_same_stain() -> None:
    one, other = (wild_bath(np.random.default_rng(4), "pas") for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
