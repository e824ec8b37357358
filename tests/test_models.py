"""The bundled models: which are taken by default, and what they say of themselves."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from wsiseg.bundle import load_bundle
from wsiseg.cli import wsiseg
from wsiseg.models import BUNDLED, DEMONSTRATION, KIDNEY, default_models


def said(*words: str) -> str:
    done = CliRunner().invoke(wsiseg, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("mpp", [0.1, 0.25, 0.5])
def test_fine_slides_get_nuclei_inside_glomeruli(mpp: float) -> None:
    assert default_models(mpp) == (DEMONSTRATION, KIDNEY)


@pytest.mark.parametrize("mpp", [0.51, 1.0, 2.0, 4.0])
def test_coarse_slides_get_glomeruli_alone(mpp: float) -> None:
    assert default_models(mpp) == (KIDNEY, None)


def test_the_kidney_model_is_small_and_says_where_it_comes_from() -> None:
    bundle = load_bundle(KIDNEY)
    assert bundle.classes.names == ("Background", "Glomerulus", "Sclerotic glomerulus")
    assert 2.0 <= bundle.usage.mpp <= 2.5
    assert sum(f.stat().st_size for f in KIDNEY.rglob("*")) < 25e6
    text = str(bundle.provenance)
    assert "MIT" in text
    assert "Vanderbilt" in text
    assert "kidney-0" not in text, "no slide without a licence is behind shipped weights"
    bundle.network()


def test_list_names_each_with_its_classes() -> None:
    text = said("models", "list")
    for name in BUNDLED:
        assert name in text
    assert "Sclerotic glomerulus" in text
    assert "Podocyte" in text


def test_show_is_a_card_with_data_licence_and_limits() -> None:
    text = said("models", "show", "kidney-glomeruli")
    for word in ("2.25 µm/px", "HuBMAP", "licence: MIT", "licence: CC0", "not for diagnosis", "Limits:"):
        assert word in text
    assert said("models", "show", str(DEMONSTRATION)).startswith(load_bundle(DEMONSTRATION).name)
