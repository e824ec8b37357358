"""ModelBundle: a trained network with all that is needed to use it, as a folder of safetensors and JSON.

    BUNDLE/
      model.json            what it is: classes, µm/px, tile, architecture, provenance, metrics
      weights.safetensors   the network's weights; their SHA-256 stands in model.json
      within/               perhaps another bundle, whose objects are found first: this one works only inside them

Nothing in a bundle is ever executed; no pickle is loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wsiseg import __version__
from wsiseg.atomic import translate_os_errors
from wsiseg.classes import ClassMap
from wsiseg.errors import BundleError
from wsiseg.nets.segmentation import Architecture, SegmentationNet

FORMAT = 1
RENAMED = {"object_above": "foreground_threshold", "separate_um": "split_distance_um"}  # keys of version 0.1


@dataclass(frozen=True, slots=True)
class Usage:
    """How the network is to be used.

    Attributes:
        mpp: µm/px it was trained at
        tile: px, width of the tiles it is given
        overlap: px that neighbouring tiles share
        batch: tiles in one forward pass; fixed, because results can depend on it in their last bits
        min_object_um2: smaller objects are left out
        min_hole_um2: smaller holes are filled
        foreground_threshold: probability of all classes but background together above which they win; see
            `wsiseg.inference.blend.to_labels`
        flips: take the mean over four flips of each tile
        whole_objects: touching pixels of several classes are one object, see `wsiseg.stores.objects.objects_of`
        split_distance_um: touching objects are taken apart, see `wsiseg.annotations.split.split_touching`
        within_margin_um: around the objects of the bundle's `within`
        scaled_decoding: it learnt from pixels that the decoder may have shrunk, see `wsiseg.slides.slide.Slide`
    """

    mpp: float
    tile: int = 512
    overlap: int = 128
    batch: int = 4
    min_object_um2: float = 0.0
    min_hole_um2: float = 0.0
    foreground_threshold: float | None = None
    flips: bool = False
    whole_objects: bool = False
    split_distance_um: float = 0.0
    within_margin_um: float = 8.0
    scaled_decoding: bool = True


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """What a bundle's model.json says.

    Attributes:
        name: for people
        classes: labels the network gives
        usage: µm/px, tile and the like
        architecture: how to build the network
        weights_sha256: of weights.safetensors
        provenance: recipe, slides, versions, steps, …
        metrics: name -> value on the validation slides
        path: the folder it was read from
        within: the model whose objects are found first; None: it works wherever there is tissue
    """

    name: str
    classes: ClassMap
    usage: Usage
    architecture: Architecture
    weights_sha256: str
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    path: Path | None = None
    within: ModelBundle | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its results, for manifests."""
        about = _to_json(self)
        return {k: about[k] for k in ("name", "weights_sha256", "classes", "usage", "architecture")}

    def with_batch(self, most: int) -> ModelBundle:
        """The same model with batches of at most so many tiles; its identity says so."""
        return replace(self, usage=replace(self.usage, batch=min(self.usage.batch, most)))

    def network(self) -> SegmentationNet:
        """The network with its weights, in eval mode, on the CPU.

        Raises:
            BundleError: the weights are missing, damaged or do not fit the architecture
        """
        assert self.path is not None
        file = self.path / "weights.safetensors"
        try:
            if _sha256(file) != self.weights_sha256:
                raise BundleError(f"{file} is not the file that model.json describes: copy the bundle anew.")
            state = load_file(file)
            net = SegmentationNet(self.architecture)
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise BundleError(f"The weights in {self.path} cannot be used: {_first_line(error)}.") from error
        return net.eval().requires_grad_(False)


def load_bundle(path: Path) -> ModelBundle:
    """Read a bundle's description (the weights are read by `network`).

    Raises:
        BundleError: there is no bundle, or it is damaged, or a later version made it
    """
    try:
        value = json.loads((Path(path) / "model.json").read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise BundleError(f"The bundle {path} has format {value['format']}, this version reads {FORMAT}.")
        return ModelBundle(
            name=value["name"],
            classes=ClassMap.from_json(value["classes"]),
            usage=Usage(**{RENAMED.get(key, key): known for key, known in value["usage"].items()}),
            architecture=Architecture.from_json(value["architecture"]),
            weights_sha256=value["weights_sha256"],
            provenance=value["provenance"],
            metrics=value["metrics"],
            path=Path(path),
            within=load_bundle(Path(path) / "within") if (Path(path) / "within").exists() else None,
        )
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"There is no model bundle at {path}: `wsiseg train` writes one to RUN/model.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"The bundle {path} is damaged ({error}): copy or train it anew.") from error


def save_bundle(
    path: Path,
    net: SegmentationNet,
    *,
    name: str,
    classes: ClassMap,
    usage: Usage,
    provenance: dict[str, Any],
    metrics: dict[str, float],
    half: bool = False,
    within: Path | None = None,
) -> ModelBundle:
    """Write a bundle, replacing one that is there; it appears whole or not at all.

    Args:
        path: the folder to be
        net: the network
        name, classes, usage, provenance, metrics: see `ModelBundle`
        half: store the weights in 16 bits, for small files
        within: a bundle to be copied into this one

    Raises:
        BundleError: there is no bundle at `within`
    """
    first = None if within is None else load_bundle(within)
    fresh = path.with_name(path.name + ".partial")
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    if half:
        state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    with translate_os_errors(path):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(state, fresh / "weights.safetensors")
        (fresh / "weights.safetensors").chmod(0o644)  # safetensors lets only the owner read
        digest = _sha256(fresh / "weights.safetensors")
        bundle = ModelBundle(name, classes, usage, net.architecture, digest, provenance, metrics, path, first)
        if within is not None:
            shutil.copytree(within, fresh / "within")
        text = json.dumps(_to_json(bundle), indent=1, ensure_ascii=False)
        (fresh / "model.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
    return bundle


def _to_json(bundle: ModelBundle) -> dict[str, Any]:
    usage = bundle.usage
    return {
        "format": FORMAT,
        "wsiseg": __version__,
        "name": bundle.name,
        "classes": bundle.classes.to_json(),
        "usage": {k: getattr(usage, k) for k in usage.__slots__},
        "architecture": bundle.architecture.to_json(),
        "weights_sha256": bundle.weights_sha256,
        "metrics": bundle.metrics,
        "provenance": bundle.provenance,
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
