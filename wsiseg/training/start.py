"""What a network knows before its first step: nothing, ImageNet, or all that an earlier model has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsiseg.annotations.formats import file_hash
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.errors import BundleError
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.nets.weights import load_imagenet, normalisation
from wsiseg.recipe import Recipe

HEAD = "net.segmentation_head."  # the one part of the network whose shape depends on the classes


def build_generator(recipe: Recipe, classes: int) -> tuple[SegmentationNet, str]:
    """The recipe's network with its starting weights, and where those come from.

    `model.weights` is "none", "imagenet", a file with weights of the encoder, or a model bundle. A bundle gives
    everything that it has learnt; where the recipe has other classes, all but the last layer, which then starts anew.

    Raises:
        BundleError: weights are missing, damaged, or of another architecture
    """
    model = recipe.model
    mean, std = normalisation(model.encoder)
    generator = SegmentationNet(
        Architecture(model.encoder, classes, mean, std, model.decoder_channels, model.output_stride)
    )
    if model.weights == "none":
        return generator, "random"
    start = None if model.weights == "imagenet" else Path(model.weights)
    if start is not None and start.is_dir():
        return generator, _continue(generator, load_bundle(start), recipe)
    return generator, load_imagenet(generator.net.encoder, model.encoder, start)


def _continue(generator: SegmentationNet, bundle: ModelBundle, recipe: Recipe) -> str:
    """Fill a network with what a bundle has learnt; tells what that was."""
    wanted, found = generator.architecture.to_json(), bundle.architecture.to_json()
    others = [key for key in wanted if key != "classes" and wanted[key] != found[key]]
    if others:
        told = "; ".join(f"model.{key} is {wanted[key]}, and {found[key]} in the bundle" for key in others)
        raise BundleError(f"{bundle.path} cannot be trained further by this recipe ({told}): write the same there.")
    state = bundle.network().state_dict()
    same = bundle.classes.names == recipe.classes.names
    if not same:
        state = {key: value for key, value in state.items() if not key.startswith(HEAD)}
    generator.load_state_dict(state, strict=same)
    rest = "" if same else "; its last layer starts anew, for it had other classes"
    return f"the model {bundle.name!r}, sha256 {bundle.weights_sha256[:12]}{rest}"


def start_identity(recipe: Recipe) -> dict[str, Any]:
    """What of `model.weights` decides a run: where on this machine the file or the bundle lies does not."""
    weights = recipe.model.weights
    if weights in ("imagenet", "none"):
        return {}
    path = Path(weights)
    sha256 = load_bundle(path).weights_sha256 if path.is_dir() else file_hash(path) if path.exists() else ""
    return {"weights": path.name, "weights_sha256": sha256}
