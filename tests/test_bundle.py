"""Bundles: all that is needed, nothing that runs."""

import json
from pathlib import Path

import pytest
import torch

from wsiseg.bundle import ModelBundle, Usage, load_bundle, save_bundle
from wsiseg.classes import ClassMap
from wsiseg.errors import BundleError
from wsiseg.nets.segmentation import Architecture, SegmentationNet

ARCHITECTURE = Architecture("tu-tf_efficientnet_lite0", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 16)


@pytest.fixture(scope="module")
def net() -> SegmentationNet:
    torch.manual_seed(0)
    return SegmentationNet(ARCHITECTURE).eval()


@pytest.fixture
def bundle(tmp_path: Path, net: SegmentationNet) -> ModelBundle:
    return save_bundle(
        tmp_path / "model", net, name="test", classes=ClassMap(("Background", "A", "B")), usage=Usage(mpp=2.0),
        provenance={"slides": ["a"]}, metrics={"A/dice": 0.5},
    )  # fmt: skip


def test_a_bundle_comes_back_with_the_same_network(bundle: ModelBundle, net: SegmentationNet) -> None:
    assert bundle.path is not None
    assert sorted(p.name for p in bundle.path.iterdir()) == ["model.json", "weights.safetensors"]
    again = load_bundle(bundle.path)
    assert again == bundle
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.network()(image), net(image))


def test_half_precision_is_half_the_size(bundle: ModelBundle, net: SegmentationNet, tmp_path: Path) -> None:
    half = save_bundle(
        tmp_path / "half", net, name="test", classes=bundle.classes, usage=bundle.usage, provenance={}, metrics={},
        half=True,
    )  # fmt: skip
    sizes = [(b.path / "weights.safetensors").stat().st_size for b in (half, bundle)]
    assert sizes[0] < 0.55 * sizes[1]
    assert next(half.network().parameters()).dtype == torch.float32
    assert half.identity != bundle.identity


def damage(path: Path, **changes) -> None:
    value = json.loads((path / "model.json").read_text())
    value.update(changes)
    (path / "model.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"usage": {"mpp": 1, "tiles": 3}}, "damaged"),
        ({"classes": []}, "damaged|needs 2"),
        ({"architecture": {"name": "UNet"}}, "'UNet' is unknown"),
        ({"weights_sha256": "0" * 64}, "not the file that model.json describes"),
    ],
)
def test_a_damaged_bundle_is_one_sentence(bundle: ModelBundle, changes: dict, message: str) -> None:
    assert bundle.path is not None
    damage(bundle.path, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(bundle.path).network()
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_or_torn(bundle: ModelBundle) -> None:
    assert bundle.path is not None
    weights = bundle.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleError, match="not the file"):
        bundle.network()
    weights.unlink()
    with pytest.raises(BundleError, match="cannot be used"):
        bundle.network()


def test_no_bundle_says_where_bundles_come_from(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="wsiseg train"):
        load_bundle(tmp_path / "nothing")


def test_no_pickle_is_loaded(bundle: ModelBundle) -> None:
    """A pickle in the place of the weights is refused before anyone looks inside."""
    assert bundle.path is not None
    torch.save({"net": torch.zeros(1)}, bundle.path / "weights.safetensors")
    with pytest.raises(BundleError):
        load_bundle(bundle.path).network()


@pytest.mark.parametrize("encoder", ["xception", "no-such-encoder"])
def test_an_encoder_that_cannot_be_used_says_which_can(encoder: str) -> None:
    with pytest.raises(BundleError, match="tu-xception65"):
        SegmentationNet(Architecture(encoder, 3, (0.5,) * 3, (0.5,) * 3))


def test_the_source_papers_encoder_is_possible() -> None:
    with torch.device("meta"):
        net = SegmentationNet(Architecture("tu-xception65", 4, (0.5,) * 3, (0.5,) * 3))
        assert net(torch.rand(2, 3, 128, 128)).shape == (2, 4, 128, 128)
