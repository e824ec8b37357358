"""Bundles: all that is needed, nothing that runs."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsiseg.bundle import ModelBundle, Usage, load_bundle, save_bundle
from wsiseg.classes import ClassMap
from wsiseg.errors import BundleError
from wsiseg.inference.engines.torch import TorchEngine
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


ARCHITECTURE_JSON = ARCHITECTURE.to_json()
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "changes",
    [
        {"format": True},
        {"format": "2"},
        {"name": 3},
        {"usage": {"mpp": True}},
        {"usage": {"mpp": 1.0, "batch": -1}},
        {"usage": {"mpp": float("nan")}},
        {"usage": []},
        {"architecture": ARCHITECTURE_JSON | {"std": [0, 1, 1]}},
        {"architecture": ARCHITECTURE_JSON | {"std": [float("nan"), 1, 1]}},
        {"architecture": ARCHITECTURE_JSON | {"mean": [0.5, 0.5]}},
        {"architecture": ARCHITECTURE_JSON | {"classes": 4}},
        {"architecture": ARCHITECTURE_JSON | {"decoder_channels": 10**400}},
        {"architecture": []},
        {"classes": [{"index": 0, "name": "B"}, {"index": 2, "name": "A"}]},
        {"classes": [{"index": 0, "name": "B"}, {"index": 1, "name": "\ud800"}]},
        {"classes": "AB"},
        {"metrics": {"A/dice": float("inf")}},
        {"weights_sha256": "xyz"},
        {"provenance": None},
    ],
)
def test_every_field_of_a_bundle_is_checked(bundle: ModelBundle, changes: dict) -> None:
    assert bundle.path is not None
    damage(bundle.path, **changes)
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle.path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", [DEEP, '{"format": ' + "9" * 5000 + "}", '{"a": ' * 50_000, "{", "", "\x00"])
def test_json_that_nobody_wrote_is_one_sentence(bundle: ModelBundle, text: str) -> None:
    assert bundle.path is not None
    (bundle.path / "model.json").write_text(text)
    with pytest.raises(BundleError, match="damaged") as caught:
        load_bundle(bundle.path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("encoder", ["tu-hf-hub:owner/model", "tu-hf_hub:owner/model", "tu-local-dir:/tmp", "a/b", ""])
def test_an_encoder_is_never_fetched(bundle: ModelBundle, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("something was asked for over the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert bundle.path is not None
    damage(bundle.path, architecture=ARCHITECTURE_JSON | {"encoder": encoder})
    with pytest.raises(BundleError, match="encoder"):
        load_bundle(bundle.path).network()


def rewrite_weights(path: Path, spoil: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights of a bundle, hash and all."""
    file = path / "weights.safetensors"
    state = load_file(file)
    spoil(state)
    save_file(state, file)
    damage(path, weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(bundle: ModelBundle, value: float) -> None:
    assert bundle.path is not None

    def spoil(state: dict[str, torch.Tensor]) -> None:
        state[sorted(state)[3]].flatten()[0] = value

    rewrite_weights(bundle.path, spoil)
    with pytest.raises(BundleError, match="not all finite"):
        load_bundle(bundle.path).network()


def test_a_diverged_network_is_not_saved(bundle: ModelBundle, net: SegmentationNet, tmp_path: Path) -> None:
    about: dict = {"name": "test", "classes": bundle.classes, "usage": bundle.usage, "provenance": {}, "metrics": {}}
    spoilt = copy.deepcopy(net)
    weight = next(spoilt.parameters())
    with torch.no_grad():
        weight.flatten()[0] = 1e6
    with pytest.raises(BundleError, match="16 bits"):
        save_bundle(tmp_path / "bad", spoilt, half=True, **about)
    with torch.no_grad():
        weight.flatten()[0] = float("nan")
    with pytest.raises(BundleError, match="diverged"):
        save_bundle(tmp_path / "bad", spoilt, **about)
    assert not (tmp_path / "bad").exists()


def test_bundles_of_version_0_1_are_read(bundle: ModelBundle, tmp_path: Path) -> None:
    """Format 1: usage without a table of its own for post-processing, other keys, the folder `within`."""
    assert bundle.path is not None
    old = {"mpp": 2.0, "object_above": 0.4, "separate_um": 3.0, "flips": True, "within_margin_um": 5.0}
    for path in (tmp_path / "cascade", tmp_path / "cascade" / "within"):
        shutil.copytree(bundle.path, path)
        damage(path, format=1, usage=old)
    found = load_bundle(tmp_path / "cascade")
    assert found.parent is not None
    for usage in (found.usage, found.parent.usage):
        assert (usage.foreground_threshold, usage.tta, usage.parent_margin_um) == (0.4, True, 5.0)
        assert usage.postprocessing.split_distance_um == 3.0


def test_a_cascade_has_two_models(bundle: ModelBundle, net: SegmentationNet, tmp_path: Path) -> None:
    assert bundle.path is not None
    shutil.copytree(bundle.path, tmp_path / "cascade")
    shutil.copytree(bundle.path, tmp_path / "cascade" / "parent")
    (tmp_path / "cascade" / "parent" / "parent").symlink_to(tmp_path / "cascade" / "parent")  # without an end
    with pytest.raises(BundleError, match="two models"):
        load_bundle(tmp_path / "cascade")


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


def test_a_bundle_of_two_networks_predicts_the_mean_of_their_probabilities(
    tmp_path: Path, net: SegmentationNet
) -> None:
    torch.manual_seed(1)
    other = SegmentationNet(Architecture("resnet18", 3, (0.4,) * 3, (0.3,) * 3, 8)).eval()
    classes = ClassMap(("Background", "A", "B"))
    made = save_bundle(
        tmp_path / "two", net.with_peers(other), name="two", classes=classes, usage=Usage(2.0, 64, 16, 1),
        provenance={}, metrics={},
    )  # fmt: skip
    again = load_bundle(tmp_path / "two")
    assert again == made
    pixels = torch.randint(256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        image = pixels.movedim(-1, 1).float() / 255
        mean = (net(image).softmax(1) + other(image).softmax(1)) / 2
    said = TorchEngine.from_bundle(again, "cpu").probabilities(pixels.numpy())
    assert torch.allclose(torch.from_numpy(said), mean, atol=1e-6)
    assert again.identity["architecture"]["peers"][0]["encoder"] == "resnet18"


@pytest.mark.parametrize("change", [{"classes": 4}, {"peers": [ARCHITECTURE_JSON]}, {"encoder": "hf-hub:a/b"}])
def test_impossible_peers_are_refused(bundle: ModelBundle, change: dict) -> None:
    assert bundle.path is not None
    damage(bundle.path, architecture=ARCHITECTURE_JSON | {"peers": [ARCHITECTURE_JSON | change]})
    with pytest.raises(BundleError, match="No network can be built"):
        load_bundle(bundle.path)
