"""The commands `models list` and `models show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from wsiseg.bundle import ModelBundle


@click.group()
def models() -> None:
    """List the bundled models, and show their classes, training data, licences, metrics and limits."""


@models.command("list")
def list_models() -> None:
    """List the bundled models, with the folder of each."""
    from wsiseg.bundle import load_bundle
    from wsiseg.models import BUNDLED

    for name, folder in BUNDLED.items():
        bundle = load_bundle(folder)
        click.echo(f"{name}\t{', '.join(bundle.classes.names[1:])}\t{bundle.usage.mpp:g} µm/px\t{folder}")


@models.command("show")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_model(model: str, as_json: bool) -> None:
    """Show the card of MODEL, a bundled model or the folder of a bundle."""
    from wsiseg.bundle import load_bundle
    from wsiseg.models import BUNDLED

    folder = BUNDLED.get(model, Path(model))
    bundle = load_bundle(folder)
    if as_json:
        click.echo((folder / "model.json").read_text(encoding="utf-8"), nl=False)
    else:
        click.echo(card(bundle))


def card(bundle: ModelBundle) -> str:
    """The card of a bundle as text: classes, resolution, data with their licences, metrics, limits."""
    about = bundle.provenance
    usage = bundle.usage
    recipe = about.get("recipe", {})
    lines = [bundle.name, "=" * len(bundle.name), ""]
    lines += [text for text in (about.get("description") or recipe.get("description"),) if text]
    lines += ["", f"Classes:     {', '.join(bundle.classes.names[1:])}", f"Resolution:  {usage.mpp:g} µm/px"]
    if bundle.parent is not None:
        lines.append(f"Works inside the objects of {bundle.parent.name} ({bundle.parent.usage.mpp:g} µm/px)")
    lines += _section("Trained on", [_source(entry) for entry in about.get("data", ())])
    lines += _section("Metrics", [f"{name}: {value:.3g}" for name, value in bundle.metrics.items()])
    lines += _section("Limits", about.get("limits", ()))
    if about.get("card"):
        lines += ["", f"More: {about['card']}"]
    return "\n".join(lines)


def _section(title: str, entries: Any) -> list[str]:
    return ["", f"{title}:", *(f"  - {entry}" for entry in entries)] if entries else []


def _source(entry: dict[str, str]) -> str:
    parts = [entry.get("what", ""), entry.get("used", ""), entry.get("from", "")]
    told = "; ".join(part for part in parts if part)
    licence = entry.get("licence")
    return f"{entry.get('name', 'data')}: {told}" + (f" (licence: {licence})" if licence else "")
