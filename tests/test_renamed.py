"""Options that were called something else in version 0.1."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from wsiseg.cli import wsiseg
from wsiseg.cli.renamed import Renamed


@click.command()
@click.option("--reference", "found", cls=Renamed, was="--truth", multiple=True)
def toy(found: tuple[str, ...]) -> None:
    click.echo(",".join(found))


def test_both_spellings_mean_the_same_and_one_is_shown() -> None:
    run = CliRunner().invoke
    assert run(toy, ["--reference", "a"]).output == run(toy, ["--truth", "a"]).output == "a\n"
    assert run(toy, ["--truth", "a", "--reference", "b"]).output == "a,b\n"
    shown = run(toy, ["--help"]).output
    assert "--reference" in shown
    assert "--truth" not in shown


@pytest.mark.parametrize("name", ["view", "report", "evaluate"])
def test_the_reference_may_be_called_truth(name: str) -> None:
    option = next(p for p in wsiseg.commands[name].params if "--reference" in p.opts)
    assert isinstance(option, Renamed)
    assert option.was == "--truth"
    assert "--truth" not in CliRunner().invoke(wsiseg, [name, "--help"]).output
