"""The commands `models list`, `models show`, `models add` and `models push`, and the option type of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsiseg.cli.screen import json_option, overwrite_option, progress_bar, quiet_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PATH = click.Path(path_type=Path)


class _Model(click.ParamType):
    """A model by its name or its folder, as that folder."""

    name = "model"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from wsiseg.models import find_model

        return value if isinstance(value, Path) else find_model(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that fit, or else a path."""
        from click.shell_completion import CompletionItem

        from wsiseg.models import known_models

        names = [CompletionItem(name) for name in known_models() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


MODEL = _Model()


@click.group()
def models() -> None:
    """List, show, add and publish models: the bundled ones, and those in your model folder."""


@models.command("list")
def list_models() -> None:
    """List the models that have a name: classes, µm/px, licences of the training data, folder."""
    from wsiseg.bundle import load_bundle
    from wsiseg.errors import BundleError
    from wsiseg.models import known_models, model_folder
    from wsiseg.models.card import licences

    for name, folder in known_models().items():
        try:
            bundle = load_bundle(folder)
        except BundleError as error:  # one damaged model hides no other
            click.echo(f"{name}: {error}", err=True)
            continue
        columns = (
            name, ", ".join(bundle.classes.names[1:]), f"{bundle.usage.mpp:g} µm/px",
            licences(bundle) or "no licence stated", str(folder),
        )  # fmt: skip
        click.echo("\t".join(columns))
    click.echo(f"Your own models are in {model_folder()}: `wsiseg models add` puts them there.", err=True)


@models.command("show")
@click.argument("model", metavar="MODEL", type=MODEL)
@json_option
def show_model(model: Path, as_json: bool) -> None:
    """Show the card of MODEL, the name of a model or the folder of a bundle."""
    from wsiseg.bundle import load_bundle
    from wsiseg.models.card import card

    bundle = load_bundle(model)
    if as_json:
        click.echo((model / "model.json").read_text(encoding="utf-8"), nl=False)
    else:
        click.echo(card(bundle))


@models.command("add")
@click.argument("source", metavar="BUNDLE|URL|hf://ORG/NAME")
@click.option("--name", metavar="NAME", help="What to call it (default: the name that the model gives itself).")
@click.option(
    "--sha256", metavar="HASH",
    help="Refuse the model if this is not the SHA-256 of the archive or, without an archive, of weights.safetensors.",
)  # fmt: skip
@overwrite_option
@quiet_option
def add(source: str, name: str | None, sha256: str | None, overwrite: bool, quiet: bool) -> None:
    """Add a model to your model folder (WSISEG_MODELS): a folder, a ZIP archive, an address, or a repository of the hub."""
    from wsiseg.models.add import add_model

    with progress_bar("Fetching", "bytes", quiet or "://" not in source) as report:
        bundle = add_model(source, name=name, sha256=sha256, overwrite=overwrite, report=report)
    assert bundle.path is not None
    click.echo(f"{bundle.path}: {', '.join(bundle.classes.names[1:])} at {bundle.usage.mpp:g} µm/px")
    if not quiet:
        click.echo(f"Next, use it:\n  wsiseg predict SLIDE --model {bundle.path.name}", err=True)


@models.command("push")
@click.argument("model", metavar="MODEL", type=MODEL)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="The folder to write; it must not exist.")
@click.option("--name", metavar="NAME", help="Name of the model on its page (default: its own).")
@click.option(
    "--licence", metavar="ID", help="Licence of the model, as model hubs spell it: apache-2.0, cc-by-4.0, other, …"
)
def push(model: Path, out: Path, name: str | None, licence: str | None) -> None:
    """Write MODEL and its page (README.md) as a folder that you can upload to a model hub; nothing is uploaded."""
    from wsiseg.models.card import publish

    bundle = publish(model, out, name=name, licence=licence)
    click.echo(f"{out}: model.json, weights.safetensors and README.md; sha256 of the weights {bundle.weights_sha256}")
    if licence is None:
        click.echo("No licence is stated: add one with --licence, or in the header of README.md.", err=True)
    click.echo(f"Next, upload it with the hub's own tool:\n  hf upload ORG/NAME {out} .", err=True)
