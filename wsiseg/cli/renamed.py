"""Renamed options: the old spelling is still accepted, but not shown."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import click


def slide_argument(function: Any) -> Any:
    """SLIDE as an argument; the option --slide of version 0.1 is accepted as well. The function gets one `slide`."""

    @wraps(function)
    def command(*, slide: Path | None, slide_option: Path | None, **settings: Any) -> Any:
        if (slide is None) == (slide_option is None):
            raise click.UsageError("Name one slide, as in `wsiseg predict SLIDE`.")
        return function(slide=slide or slide_option, **settings)

    path = click.Path(path_type=Path)
    command = click.option("--slide", "slide_option", type=path, hidden=True)(command)
    return click.argument("slide", type=path, required=False, metavar="SLIDE")(command)


class Renamed(click.Option):
    """An option with an older spelling.

    ```
    @click.option("--reference", cls=Renamed, was="--truth", type=PATH)
    ```

    Args:
        was: the older spelling
    """

    def __init__(self, *names: Any, was: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.was = was

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Accept both spellings."""
        shown, self.opts = self.opts, [*self.opts, self.was]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown
