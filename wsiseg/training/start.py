"""The starting weights of a network: random, ImageNet, or those of an earlier model."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsiseg.annotations.formats import file_hash
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.errors import BundleError
from wsiseg.nets.finetune import restrict
from wsiseg.nets.hub import PREFIX, download_weights
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.nets.weights import load_imagenet, normalisation
from wsiseg.recipe import Recipe

HEAD = "net.segmentation_head."  # the one part of the network whose shape depends on the classes
RARE_AT_FIRST = 4.0  # logits by which a class that is added starts below the background: a probability of 2 %
PEERS = "peers."  # other networks of a bundle, which predict along with the first one


REFERENCE_SIZE, REFERENCE_RATES = 32, (6, 12, 18)  # px of the deepest features for which Chen et al. 2018 give these


def build_network(recipe: Recipe, classes: int, encoder: str | None = None) -> tuple[SegmentationNet, str]:
    """The recipe's network with its starting weights, and where those come from.

    `model.weights` is "none", "imagenet", "hf-hub:…", a file with weights of the encoder, or a model bundle, which gives
    everything that it has learnt. Where the recipe adds classes after those of the bundle, the last layer keeps what it has
    learnt of the old ones; where it has other classes, the last layer starts again. Whatever is random comes from torch's
    generator, so that two networks in a row differ.

    Args:
        recipe: with its tables [model] and [training]
        classes: labels, background included
        encoder: in place of the recipe's

    Raises:
        BundleError: weights are missing, damaged, or of another architecture
    """
    model, encoder = recipe.model, encoder or recipe.model.encoder
    start, licence = None, ""
    if model.weights.startswith(PREFIX):
        start, licence = download_weights(model.weights)
    elif model.weights not in ("none", "imagenet"):
        start = Path(model.weights)
    bundle = load_bundle(start) if start is not None and start.is_dir() else None
    rates = model.atrous_rates or (
        bundle.architecture.atrous_rates if bundle else rates_for(recipe.training.crop // model.output_stride)
    )
    mean, std = normalisation(encoder)
    mean, std = model.mean or mean, model.std or std
    net = SegmentationNet(
        Architecture(
            encoder, classes, mean, std, model.decoder_channels, model.output_stride, rates, model.network,
            model.encoder_options,  # type: ignore[arg-type]  # checked by the architecture
        )
    )  # fmt: skip
    origin = "random"
    if bundle is not None:
        origin = _continue(net, bundle, recipe)
    elif model.weights != "none":
        origin = load_imagenet(net.net.encoder, encoder, start)
        if licence:
            origin = f"{model.weights} (licence: {licence}), {origin}"
    restrict(net.net.encoder, model.encoder_training)
    return net, origin


def rates_for(size: int) -> tuple[int, int, int]:
    """Atrous rates for deepest features of so many px: as 6, 12, 18 are to 32 px, so that each reaches real features."""
    a, b, c = (max(1, round(rate * size / REFERENCE_SIZE)) for rate in REFERENCE_RATES)
    return a, b, c


def _continue(net: SegmentationNet, bundle: ModelBundle, recipe: Recipe) -> str:
    """Fill a network with the weights of a bundle; returns a description of them."""
    wanted, found = net.architecture, replace(bundle.architecture, peers=())
    others = [f.name for f in fields(Architecture) if f.name != "classes"]
    others = [name for name in others if getattr(wanted, name) != getattr(found, name)]
    if others:
        told = "; ".join(f"model.{k} is {getattr(wanted, k)}, and {getattr(found, k)} in the bundle" for k in others)
        raise BundleError(
            f"{bundle.path} cannot be trained further by this recipe ({told}): give the recipe the same values."
        )
    state = {k: v for k, v in bundle.network().state_dict().items() if not k.startswith(PEERS)}
    old, new = bundle.classes.names, recipe.classes.names
    if new[: len(old)] == old:
        rest = "" if new == old else f"; {', '.join(new[len(old) :])} added"
        state = {key: _more_rows(value, net.state_dict()[key]) for key, value in state.items()}
    else:
        rest = "; its last layer starts again, because it had other classes"
        state = {key: value for key, value in state.items() if not key.startswith(HEAD)}
    net.load_state_dict(state, strict=new[: len(old)] == old)
    several = len(bundle.architecture.peers)
    first = f"the first of the {several + 1} networks of " if several else ""
    return f"{first}the model {bundle.name!r}, sha256 {bundle.weights_sha256[:12]}{rest}"


def _more_rows(learnt: Tensor, wanted: Tensor) -> Tensor:
    """A tensor of the last layer with rows for further classes, which start as a rare kind of background."""
    if learnt.shape == wanted.shape:
        return learnt
    added = learnt[:1].expand(len(wanted) - len(learnt), *learnt.shape[1:])
    return torch.cat([learnt, added - RARE_AT_FIRST if learnt.ndim == 1 else added])


def start_identity(recipe: Recipe) -> dict[str, Any]:
    """What of `model.weights` decides a run: where on this machine the file or the bundle lies does not."""
    weights = recipe.model.weights
    if weights in ("imagenet", "none"):
        return {}
    if weights.startswith(PREFIX):
        return {"weights": weights}
    path = Path(weights)
    sha256 = load_bundle(path).weights_sha256 if path.is_dir() else file_hash(path) if path.exists() else ""
    return {"weights": path.name, "weights_sha256": sha256}
