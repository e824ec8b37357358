"""ModelBundle: a trained network with everything needed to use it, as a folder of safetensors and JSON.

    BUNDLE/
      model.json            what it is: classes, µm/px, tile, architecture, provenance, metrics
      weights.safetensors   the network's weights; their SHA-256 stands in model.json
      parent/               in a cascade, another bundle: the model whose objects this one works inside

Nothing in a bundle is ever executed, no pickle is loaded, and nothing in it makes the program use the network. Every
field is checked by type and range when the bundle is read, and the weights must be finite numbers: a damaged bundle is
an error and never an empty result. Bundles of version 0.1 (format 1, with the folder `within/`) are read as well.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wsiseg import __version__
from wsiseg.atomic import discard, translate_os_errors
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import BundleError, ClassError
from wsiseg.json_text import read_json
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.usage import STRICT, Usage, explain

__all__ = ["ModelBundle", "Usage", "load_bundle", "save_bundle"]

FORMAT = 2
READABLE = (1, 2)
PARENTS = ("parent", "within")  # folders of the parent model: today's name, and that of format 1


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """What a bundle's model.json says.

    Attributes:
        name: for people
        classes: labels the network gives
        usage: µm/px, tile and the like, and how its label maps become objects
        architecture: how to build the network
        weights_sha256: of weights.safetensors
        provenance: recipe, slides, versions, steps, …
        metrics: name -> value on the validation slides
        path: the folder it was read from
        parent: in a cascade, the model whose objects are found first, and inside which this one works; None: it works
            wherever there is tissue
    """

    name: str
    classes: ClassMap
    usage: Usage
    architecture: Architecture
    weights_sha256: str
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    path: Path | None = None
    parent: ModelBundle | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its results, for manifests, as JSON values."""
        about = self.to_json()
        return {k: about[k] for k in ("name", "weights_sha256", "classes", "usage", "architecture")}

    def with_batch(self, most: int) -> ModelBundle:
        """The same model with batches of at most this many tiles, which changes its identity."""
        return replace(self, usage=replace(self.usage, batch=min(self.usage.batch, most)))

    def network(self) -> SegmentationNet:
        """The network with its weights, in eval mode, on the CPU.

        Raises:
            BundleError: the weights are missing, damaged, no finite numbers, or do not fit the architecture
        """
        assert self.path is not None
        file = self.path / "weights.safetensors"
        try:
            if _sha256(file) != self.weights_sha256:
                raise BundleError(f"{file} is not the file that model.json describes: copy the bundle again.")
            state = load_file(file)
            bad = _not_finite(state)
            if bad:
                raise BundleError(
                    f"The weights in {self.path} are not all finite numbers ({bad}): its training has diverged, so "
                    "use another model."
                )
            net = SegmentationNet(self.architecture)
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise BundleError(f"The weights in {self.path} cannot be used: {_first_line(error)}.") from error
        return net.eval().requires_grad_(False)

    def to_json(self) -> dict[str, Any]:
        """The content of model.json."""
        return {
            "format": FORMAT,
            "wsiseg": __version__,
            "name": self.name,
            "classes": self.classes.to_json(),
            "usage": self.usage.to_json(),
            "architecture": self.architecture.to_json(),
            "weights_sha256": self.weights_sha256,
            "metrics": self.metrics,
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, value: Any, path: Path | None = None, parent: ModelBundle | None = None) -> ModelBundle:
        """The inverse of `to_json`, which reads format 1 as well.

        Raises:
            BundleError: the format or the architecture is unknown to this version
            ValueError, ClassError: a field is missing, of a wrong type or out of range
        """
        if not isinstance(value, Mapping):
            raise ValueError("it is not a table of keys and values")
        stated = value.get("format")
        if type(stated) is not int or stated not in READABLE:
            raise BundleError(
                f"The bundle {path or ''} has format {str(stated)[:20]}, this version reads {READABLE[-1]}: update wsiseg."
            )
        try:
            known = _Description.model_validate({key: value[key] for key in _Description.model_fields if key in value})
        except ValidationError as error:
            raise ValueError(explain(error, "")) from error
        indices = [row.index for row in known.classes if row.index != IGNORE]
        if sorted(indices) != list(range(len(indices))):
            raise ValueError(f"the classes must be numbered 0, 1, 2, …, not {', '.join(map(str, indices[:8]))}")
        classes = ClassMap.from_json([row.model_dump() for row in known.classes])
        architecture = Architecture.from_json(known.architecture)
        if architecture.classes != len(classes):
            raise ValueError(f"its network has {architecture.classes} classes, and {len(classes)} are named")
        return cls(
            known.name, classes, Usage.from_json(known.usage), architecture, known.weights_sha256, known.provenance,
            known.metrics, path, parent,
        )  # fmt: skip


class _ClassRow(BaseModel):
    """One class of model.json."""

    model_config = ConfigDict(**STRICT)
    index: Annotated[int, Field(ge=0, le=IGNORE)]
    name: Annotated[str, Field(max_length=200)]
    color: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)] = [255, 255, 255]


class _Description(BaseModel):
    """The types of model.json; usage and architecture are checked by the values that they become."""

    model_config = ConfigDict(**STRICT)
    name: Annotated[str, Field(min_length=1, max_length=200)]
    classes: list[_ClassRow]
    usage: dict[str, Any]
    architecture: dict[str, Any]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    metrics: dict[str, float]
    provenance: dict[str, Any]


def load_bundle(path: Path) -> ModelBundle:
    """Read a bundle's description (the weights are read by `network`), and that of its parent model.

    Raises:
        BundleError: there is no bundle, or it is damaged, or a later version made it
    """
    path = Path(path)
    parent = _parent_of(path)
    first = None if parent is None else _load(parent)
    if parent is not None and _parent_of(parent) is not None:
        raise BundleError(f"The parent model in {path} has a parent model itself: a cascade has two models.")
    return _load(path, first)


def _parent_of(path: Path) -> Path | None:
    return next((path / name for name in PARENTS if (path / name).exists()), None)


def _load(path: Path, parent: ModelBundle | None = None) -> ModelBundle:
    try:
        return ModelBundle.from_json(read_json(path / "model.json"), path, parent)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"There is no model bundle at {path}: `wsiseg train` writes one to RUN/model, and `wsiseg models` lists "
            "the bundled ones."
        ) from None
    except (OSError, ValueError, ClassError) as error:
        raise BundleError(
            f"The bundle {path} is damaged ({_first_line(error)}): copy it again, or train the model again."
        ) from error


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
    parent: Path | None = None,
) -> ModelBundle:
    """Write a bundle, replacing one that is there; it appears whole or not at all.

    Args:
        path: the folder to be
        net: the network
        name, classes, usage, provenance, metrics: see `ModelBundle`
        half: store the weights in 16 bits, for small files
        parent: a bundle to be copied into this one, as the first model of a cascade

    Raises:
        BundleError: the weights are not finite numbers, so that the run has diverged, or there is no bundle at `parent`
        OutputError: the place cannot be written
    """
    first = None if parent is None else load_bundle(parent)
    if first is not None and first.parent is not None:
        raise BundleError(f"The model in {parent} has a parent model itself: a cascade has two models.")
    fresh = path.with_name(path.name + ".partial")
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    if half:
        state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    bad = _not_finite(state)
    if bad:
        reason = (
            "the largest do not fit 16 bits, so leave half_weights out"
            if half and not _not_finite(net.state_dict())
            else "the training has diverged, so lower the learning_rate and start again (--overwrite)"
        )
        raise BundleError(f"The model is not saved, because its weights are not all finite numbers ({bad}): {reason}.")
    with translate_os_errors(path):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(state, fresh / "weights.safetensors")
        (fresh / "weights.safetensors").chmod(0o644)  # safetensors lets only the owner read
        digest = _sha256(fresh / "weights.safetensors")
        bundle = ModelBundle(name, classes, usage, net.architecture, digest, provenance, metrics, path, first)
        if parent is not None:
            shutil.copytree(parent, fresh / PARENTS[0])
        text = json.dumps(bundle.to_json(), indent=1, ensure_ascii=False)
        (fresh / "model.json").write_text(text + "\n", encoding="utf-8")
        discard(path)
        fresh.rename(path)
    return bundle


def _not_finite(state: Mapping[str, torch.Tensor]) -> str:
    """The first tensor with a NaN or an infinity; empty if there is none."""
    return next((k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())), "")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
