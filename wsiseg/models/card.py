"""The card of a model, for the terminal and for the page of a model hub; and a folder that can be published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from wsiseg.atomic import translate_os_errors
from wsiseg.bundle import PARENTS, ModelBundle, load_bundle
from wsiseg.errors import OutputError


def card(bundle: ModelBundle) -> str:
    """The card of a bundle as text: classes, resolution, data with their licences, metrics, limits."""
    lines = [bundle.name, "=" * len(bundle.name), ""]
    lines += [text for text in (_description(bundle),) if text]
    lines += ["", f"Classes:     {', '.join(bundle.classes.names[1:])}", f"Resolution:  {bundle.usage.mpp:g} µm/px"]
    if bundle.parent is not None:
        lines.append(f"Works inside the objects of {bundle.parent.name} ({bundle.parent.usage.mpp:g} µm/px)")
    for title, entries in _sections(bundle).items():
        lines += ["", f"{title}:", *(f"  - {entry}" for entry in entries)] if entries else []
    if bundle.provenance.get("card"):
        lines += ["", f"More: {bundle.provenance['card']}"]
    return "\n".join(lines)


def licences(bundle: ModelBundle) -> str:
    """The licences of the data behind a bundle, for a table; empty where none is stated."""
    stated = (str(entry.get("licence") or "") for entry in bundle.provenance.get("data", ()))
    return ", ".join(dict.fromkeys(text for text in stated if text and text != "as wsiseg"))


def publish(source: Path, out: Path, *, name: str | None = None, licence: str | None = None) -> ModelBundle:
    """Write a bundle and its page as a folder that can be uploaded to a model hub as it is.

    The names of the slides that a model was trained on can name patients: they are replaced by how many there were.

    Args:
        source: a bundle's folder
        out: the folder to be, which must not exist
        name: of the model, in its page; by default the bundle's own
        licence: identifier for the page's header, such as "apache-2.0"; left out where None

    Returns:
        the bundle in `out`

    Raises:
        BundleError: there is no bundle at `source`
        OutputError: `out` exists or cannot be written
    """
    bundle = load_bundle(source)
    bundle.network()
    if out.exists():
        raise OutputError(f"{out} exists: choose another --out.")
    part = out.with_name(out.name + ".partial")
    with translate_os_errors(out):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        inner = next((parent for parent in PARENTS if (source / parent).is_dir()), None)
        for folder in ("", *([inner] if inner else [])):
            (part / folder).mkdir(exist_ok=True)
            shutil.copyfile(source / folder / "weights.safetensors", part / folder / "weights.safetensors")
            about = json.loads((source / folder / "model.json").read_text(encoding="utf-8"))
            about["provenance"] = _without_names(about["provenance"])
            text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
            (part / folder / "model.json").write_text(text, encoding="utf-8")
        (part / "README.md").write_text(_page(bundle, name or bundle.name, licence), encoding="utf-8")
        part.rename(out)
    return load_bundle(out)


def _without_names(provenance: dict[str, Any]) -> dict[str, Any]:
    slides = provenance.get("slides")
    if isinstance(slides, dict):
        return provenance | {"slides": {side: len(names) for side, names in slides.items() if isinstance(names, list)}}
    return provenance


def _page(bundle: ModelBundle, name: str, licence: str | None) -> str:
    """The page in Markdown; its header is what model hubs read (YAML, JSON being a part of it)."""
    tags = ["wsiseg", "pathology", "whole-slide-imaging", "image-segmentation"]
    header = [f"license: {json.dumps(licence)}"] if licence else []
    header += ["library_name: wsiseg", "pipeline_tag: image-segmentation", f"tags: {json.dumps(tags)}"]
    lines = ["---", *header, "---", "", f"# {name}", ""]
    lines += [_description(bundle) or f"Finds {', '.join(bundle.classes.names[1:])} on whole-slide images.", ""]
    lines += ["| | |", "|---|---|", f"| classes | {', '.join(bundle.classes.names[1:])} |"]
    lines += [f"| resolution | {bundle.usage.mpp:g} µm/px |", f"| network | {_network(bundle)} |"]
    lines += [f"| sha256 of the weights | `{bundle.weights_sha256}` |"]
    if bundle.parent is not None:
        lines += [f"| works inside the objects of | {bundle.parent.name} ({bundle.parent.usage.mpp:g} µm/px) |"]
    lines += ["", "## Use", "", "```sh", "wsiseg models add hf://ORG/NAME   # where this page lies on the hub"]
    lines += [f"wsiseg predict slide.svs --model {bundle.name}", "```"]
    for title, entries in _sections(bundle).items():
        lines += ["", f"## {title}", "", *(f"- {entry}" for entry in entries)] if entries else []
    slides = bundle.provenance.get("slides")
    if isinstance(slides, dict):
        counts = ", ".join(f"{len(names)} {side}" for side, names in slides.items() if isinstance(names, list))
        lines += ["", "## Slides", "", f"{counts}."]
    return "\n".join(lines) + "\n"


def _network(bundle: ModelBundle) -> str:
    each = (bundle.architecture, *bundle.architecture.peers)
    return "; ".join(f"{about.network}, {about.encoder}" for about in each)


def _description(bundle: ModelBundle) -> str:
    return str(bundle.provenance.get("description") or bundle.provenance.get("recipe", {}).get("description") or "")


def _sections(bundle: ModelBundle) -> dict[str, list[str]]:
    about = bundle.provenance
    return {
        "Trained on": [_source(entry) for entry in about.get("data", ())],
        "Metrics": [f"{name}: {value:.3g}" for name, value in bundle.metrics.items()],
        "Limits": [str(limit) for limit in about.get("limits", ())],
    }


def _source(entry: dict[str, str]) -> str:
    parts = [entry.get("what", ""), entry.get("used", ""), entry.get("from", "")]
    told = "; ".join(part for part in parts if part)
    licence = entry.get("licence")
    return f"{entry.get('name', 'data')}: {told}" + (f" (licence: {licence})" if licence else "")
