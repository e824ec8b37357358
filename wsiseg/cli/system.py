"""The commands `doctor` and `completion`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from wsiseg.cli.screen import echo_json, json_option


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check the installation: which packages and devices work, and how to install what is missing."""
    from wsiseg.doctor import examine, render

    checks = examine()
    if as_json:
        echo_json([asdict(check) for check in checks])
    else:
        from rich.console import Console

        Console().print(render(checks))
    sys.exit(0 if all(check.ok for check in checks) else 1)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and file names with the tab key."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    program = click.get_current_context().find_root().command
    click.echo(made(program, {}, "wsiseg", "_WSISEG_COMPLETE").source())
