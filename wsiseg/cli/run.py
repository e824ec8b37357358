"""The command `run`."""

from __future__ import annotations

import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next
from wsiseg.cli.models import MODEL

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=PATH)
@click.option(
    "--slides", required=True, metavar="GLOB | LIST.csv | PROJECT.qpproj", shell_complete=screen.as_path,
    help="The slides: a pattern in quotes, a slide list or a QuPath project.",
)  # fmt: skip
@click.option(
    "--model", type=MODEL, metavar="MODEL", help="A model's name or bundle (default: runs/RECIPE-NAME/model)."
)
@click.option(
    "--out", required=True, metavar="DIR | URL", shell_complete=screen.as_path,
    help="Where to write results: a folder, or a URL such as s3:// or gs://.",
)  # fmt: skip
@click.option(
    "--executor", type=click.Choice(["serial", "processes", "dask"]), metavar="NAME",
    help="serial, processes or dask (default: dask with --scheduler, processes with --workers, otherwise serial).",
)  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS", help="Dask scheduler: tcp://host:8786, a scheduler file (.json), or local."
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Processes on this machine (default: one per core)."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, metavar="N",
    help="CPU threads for the network on one slide. Results can depend on it in their last bits.",
)  # fmt: skip
@click.option(
    "--max-ram", type=screen.MEMORY, metavar="SIZE",
    help="Memory for each worker, for example 8GB. A slide that needs more fails.",
)  # fmt: skip
@click.option(
    "--stages", metavar="A,B,…",
    help="Stages to run: tile, qc, predict, measure, export, report (default: those of the recipe).",
)  # fmt: skip
@click.option(
    "--thickness-um", type=float, metavar="µM", help="Kidney: thickness of the sections, needed for podocyte densities."
)
@screen.overrides_option
@screen.device_option
@screen.engine_option
@click.option("--scratch", type=PATH, metavar="DIR", help="Folder on the workers for results on their way to a URL.")
@screen.log_option
@screen.overwrite_option
@screen.quiet_option
def run(
    recipe: Path, slides: str, model: Path | None, out: str, executor: str | None, scheduler: str | None,
    workers: int | None, threads: int, max_ram: int | None, stages: str | None, thickness_um: float | None,
    overrides: tuple[str, ...], device: str, engine: str, scratch: Path | None, log_json: Path | None,
    overwrite: bool, quiet: bool,
) -> None:  # fmt: skip
    """Predict, measure and export many slides, on one machine or on a cluster.

    The table [run] of RECIPE says what is done with each slide.
    """
    from wsiseg.cli.run_screen import RunScreen, render
    from wsiseg.recipe import load_recipe

    if stages is not None:
        names = ", ".join(repr(name.strip()) for name in stages.split(","))
        overrides = (*overrides, f"run.stages=[{names}]")
    if thickness_um is not None:
        overrides = (*overrides, f"measure.thickness_um={thickness_um}")
    loaded = load_recipe(recipe, overrides, places=False)

    from wsiseg.run.listed import list_slides

    entries = list_slides(slides)

    from wsiseg.bundle import load_bundle
    from wsiseg.run.check import check_stages
    from wsiseg.run.plan import Plan, classes_of, identity_of
    from wsiseg.run.runner import executor as executor_of
    from wsiseg.run.runner import run as run_all
    from wsiseg.run.stages import OUTLINES

    chosen = executor or ("dask" if scheduler else "processes" if workers and workers > 1 else "serial")
    execute = executor_of(chosen, scheduler=scheduler, workers=workers or len(os.sched_getaffinity(0)))
    bundle = None
    if "predict" in loaded.run.stages:
        bundle = load_bundle((model or Path("runs") / loaded.name / "model").absolute())
        check_stages(loaded, classes_of(bundle))
    out = out if "://" in out else str(Path(out).absolute())
    apart = sha256(out.encode()).hexdigest()[:16]  # two runs to two places keep out of each other's way
    plan = Plan(
        recipe=loaded,
        results=out,
        model=None if bundle is None else str(bundle.path),
        identity={} if bundle is None else identity_of(bundle),
        engine=engine,
        device=device,
        threads=threads,
        scratch=str(scratch.absolute() if scratch else Path(tempfile.gettempdir()) / f"wsiseg-{os.getuid()}" / apart),
        max_ram=max_ram,
        overwrite=overwrite,
    )
    if not quiet:
        click.echo(f"{len(entries)} slides: {', '.join(loaded.run.stages)}; the results go to {out}", err=True)
    with RunScreen(len(entries), quiet, log_json) as screen:
        summary = run_all(entries, plan, execute, screen.tell)
    click.echo(render(summary))
    click.echo(f"{out}: slides/NAME for each slide, run.json for all", err=True)
    if summary.count("failed"):
        click.echo("run.json tells more; the same command tries the failed slides again.", err=True)
        sys.exit(1)
    results = None if "://" in out else out
    say_next("run", quiet=quiet, results=results, predicted=OUTLINES if bundle is not None else None)
