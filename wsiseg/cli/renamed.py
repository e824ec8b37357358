"""Renamed options: the old spelling is still accepted, but not shown."""

from __future__ import annotations

from typing import Any

import click


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
