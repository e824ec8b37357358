"""The commands `recipe check`, `recipe show` and `recipe schema`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from wsiseg.cli.screen import echo_json, overrides_option

PATH = click.Path(path_type=Path)


@click.group()
def recipe() -> None:
    """Check, complete and describe recipes."""


@recipe.command()
@click.argument("file", type=PATH)
@click.option(
    "--no-estimate",
    is_flag=True,
    help="Do not run the network for a moment to estimate the time and memory of training.",
)
@overrides_option
def check(file: Path, no_estimate: bool, overrides: tuple[str, ...]) -> None:
    """Check a recipe FILE, summarise what it does, and estimate the time and memory of training on this machine."""
    from wsiseg.data.slides import SPLITS, read_slides
    from wsiseg.recipe import load_recipe

    loaded = load_recipe(file, overrides)
    if "predict" in loaded.run.stages:
        from wsiseg.run.check import check_stages

        parent = loaded.predict.parent_model
        if not parent:  # otherwise the parent's classes are known to `wsiseg run` alone
            check_stages(loaded, loaded.classes.names[1:])
    click.echo(
        f"{file}: {loaded.name}, {', '.join(loaded.classes.names[1:])} at {loaded.data.mpp:g} µm/px, "
        f"{loaded.method.name}, {loaded.training.steps} steps; wsiseg run: {', '.join(loaded.run.stages)}"
    )
    listed = Path(loaded.data.slides)
    if not listed.exists():
        click.echo(f"Its slide list {listed} is not there: it is needed for training alone.", err=True)
        return
    rows = read_slides(listed, Path(loaded.data.root) if loaded.data.root else None)
    counts = ", ".join(f"{sum(row.split == split for row in rows)} {split}" for split in SPLITS)
    click.echo(f"{listed}: {len(rows)} slides ({counts}), {sum(r.annotations is not None for r in rows)} outlined")
    if no_estimate:
        return
    if find_spec("lightning_fabric") is None:
        click.echo("Time and memory of training are not estimated: that takes the extra `train`.", err=True)
        return
    from wsiseg.training.cost import measure_cost

    cost = measure_cost(loaded)
    more = (
        "" if loaded.method.name == "supervised" else f"; {loaded.method.name} passes more crops, and takes a multiple"
    )
    click.echo(
        f"Training on this machine ({cost.device}): about {_duration(cost.total)}, {cost.step:.1f} s a step, and "
        f"{cost.memory / 2**30:.1f} GiB of memory; tiling and evaluation come on top{more}"
    )


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.0f} h"


@recipe.command()
@click.argument("file", type=PATH)
@overrides_option
def show(file: Path, overrides: tuple[str, ...]) -> None:
    """Print a recipe FILE with all defaults filled in."""
    from wsiseg.recipe import load_recipe, show_recipe

    click.echo(show_recipe(load_recipe(file, overrides, places=False)), nl=False)


@recipe.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors that complete and check them."""
    from wsiseg.recipe import Recipe

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
    echo_json(schema)
