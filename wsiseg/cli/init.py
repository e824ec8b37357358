"""The command `init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsiseg.cli.screen import max_input_option, quiet_option

if TYPE_CHECKING:
    from wsiseg.project.propose import Proposal
    from wsiseg.project.survey import Survey

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("place", type=PATH, metavar="FOLDER|PROJECT.qpproj")
@click.option(
    "--out", type=PATH, default=Path("."), show_default="the current folder", metavar="DIR",
    help="Where recipe.toml and slides.csv are written; nothing is replaced.",
)  # fmt: skip
@click.option(
    "--mpp", type=click.FloatRange(0, min_open=True), metavar="µM/PX",
    help="Resolution of the slides that do not state it.",
)  # fmt: skip
@click.option(
    "--patient", metavar="REGEX",
    help="What in a slide's file name is its patient, such as '^[^_]+' for all before the first underscore.",
)  # fmt: skip
@max_input_option
@quiet_option
def init(place: Path, out: Path, mpp: float | None, patient: str | None, quiet: bool) -> None:
    """Look at a folder of slides and annotations, or at a QuPath project, and write a recipe and a slide list for it."""
    from wsiseg.project.propose import propose
    from wsiseg.project.survey import survey
    from wsiseg.project.write import check_free, write_project

    check_free(out)
    found = survey(place, mpp=mpp)
    for line in listing(found):
        click.echo(line)
    chosen = propose(found, patient=patient)
    recipe, listed = write_project(found, chosen, out)
    for note in chosen.notes:
        click.echo(f"Note: {note}", err=True)
    counts = ", ".join(
        f"{sum(e.split == side for e in chosen.entries)} {side}" for side in ("train", "validation", "test")
    )
    start = f"from the model {chosen.start}" if chosen.start else "from ImageNet weights"
    click.echo(f"{recipe}: {', '.join(chosen.classes)} at {chosen.mpp:g} µm/px, {chosen.steps} steps {start}")
    click.echo(f"{listed}: {len(chosen.entries)} slides ({counts})")
    if not quiet:
        for line, purpose in _next(recipe, chosen):
            click.echo(f"Next, {purpose}:\n  {line}", err=True)


def listing(found: Survey) -> list[str]:
    """The survey as lines for people."""
    lines = []
    width = max(len(slide.path.name) for slide in found.slides)
    for slide in found.slides:
        objects = ", ".join(f"{n} {name or 'without a class'}" for name, n in slide.objects.most_common())
        size = f"{slide.size[0]} × {slide.size[1]} px, {slide.mpp:g} µm/px" if slide.mpp is not None else "unusable"
        said = [size, *filter(None, [slide.stain]), objects or "no annotations"]
        lines.append(f"{slide.path.name:<{width}}  {'; '.join(said)}")
        lines += [f"{'':<{width}}  ! {problem}" for problem in slide.problems]
    lines += [f"! {file} belongs to no slide: name it like its slide" for file in found.orphans]
    usable = [slide for slide in found.slides if slide.usable]
    annotated = sum(bool(slide.diameters) for slide in usable)
    total = ", ".join(f"{n} {name or 'without a class'}" for name, n in found.objects.most_common())
    lines.append(f"{len(found.slides)} slides, {len(usable)} usable, {annotated} with annotations: {total or 'none'}")
    return lines


def _next(recipe: Path, chosen: Proposal) -> list[tuple[str, str]]:
    """The five commands that follow, and why."""
    import tomllib

    run = Path("runs") / tomllib.loads(recipe.read_text(encoding="utf-8"))["name"]
    kept = next((entry for entry in chosen.entries if entry.split == "validation"), None)
    free = next((entry for entry in chosen.entries if entry.annotations is None), None)
    shown = kept or free or chosen.entries[0]
    outlines = f"{shown.slide.stem}.geojson"
    if shown.annotations is not None and Path(outlines).resolve() == shown.annotations.resolve():
        outlines = f"{shown.slide.stem}-found.geojson"
    mpp = ["--mpp", f"{shown.mpp:g}"] if shown.mpp is not None else []
    reference = ["--reference", shown.annotations] if shown.annotations is not None else []
    predicted = ["wsiseg", "predict", shown.slide, "--model", run / "model", "--out", outlines, *mpp]
    commands = [
        (["wsiseg", "recipe", "check", recipe], "see what training will do"),
        (["wsiseg", "train", recipe], f"train the model, {run / 'model'}"),
        (
            predicted,
            "find objects on a slide that it has not learnt from" if shown.split != "train" else "find objects",
        ),
        (["wsiseg", "view", shown.slide, outlines, *reference, *mpp], "look at them"),
    ]
    if reference:
        compared = ["wsiseg", "evaluate", shown.slide, *reference, "--prediction", outlines, *mpp]
        commands.append((compared, "compare them with your annotations"))
    return [(shlex.join(map(str, words)), purpose) for words, purpose in commands]
