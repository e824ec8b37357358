"""The weights that training starts from: a class that is added leaves the old ones as they were."""

from __future__ import annotations

from pathlib import Path

import torch

from wsiseg.bundle import save_bundle
from wsiseg.classes import ClassMap
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe
from wsiseg.training.start import build_network
from wsiseg.usage import Usage


def test_a_model_with_one_more_class_begins_as_the_model_it_came_from(tmp_path: Path) -> None:
    grey, spread = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    torch.manual_seed(1)
    old = SegmentationNet(Architecture("resnet18", 2, grey, spread, 16)).eval()
    save_bundle(
        tmp_path / "old", old, name="old", classes=ClassMap(("Background", "A")), usage=Usage(2.0, 64, 16, 2),
        provenance={}, metrics={},
    )  # fmt: skip
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "classes": {"names": ["Background", "A", "B"]},
            "data": {"slides": "none.csv", "mpp": 2.0},
            "model": {
                "encoder": "resnet18", "weights": str(tmp_path / "old"), "decoder_channels": 16, "mean": grey,
                "std": spread,
            },
            "training": {"steps": 1, "batch": 2, "crop": 64},
        }
    )  # fmt: skip
    new, origin = build_network(recipe, 3)
    assert origin.endswith("; B added")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        was, now = old(images), new.eval()(images)
    assert torch.allclose(now[:, :2], was, atol=1e-5)
    assert torch.allclose(now[:, 2], was[:, 0] - 4, atol=1e-5)
