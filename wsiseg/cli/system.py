"""Commands about the installation: doctor."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """What is installed, which backends and devices work, what is missing and how to get it."""
    from wsiseg.doctor import examine, render

    checks = examine()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        from rich.console import Console

        Console().print(render(checks))
    sys.exit(0 if all(check.ok for check in checks) else 1)
