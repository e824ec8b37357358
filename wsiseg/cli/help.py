"""How `wsiseg --help` and `wsiseg COMMAND --help` look: commands in sections, whole summaries, an example in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

# Command -> its examples, each a line that can be typed as it is once its files are there.
EXAMPLES: Mapping[str, Sequence[str]] = {
    "info": ("wsiseg info slide.svs --thumbnail slide.png",),
    "tissue": ("wsiseg tissue slide.svs --out tissue.geojson",),
    "qc": ("wsiseg qc slide.svs --out slide.qc",),
    "tile": ("wsiseg tile slide.svs --annotations slide.geojson --size 512",),
    "init": ("wsiseg init slides", "wsiseg init project/project.qpproj --out my-model"),
    "recipe check": ("wsiseg recipe check my-recipe.toml",),
    "recipe show": ("wsiseg recipe show my-recipe.toml",),
    "recipe schema": ("wsiseg recipe schema > recipe.schema.json",),
    "train": ("wsiseg train my-recipe.toml --out runs/mine", "wsiseg train my-recipe.toml --out runs/mine --resume"),
    "predict": ("wsiseg predict slide.svs", "wsiseg predict slide.svs --model runs/mine/model"),
    "evaluate": ("wsiseg evaluate slide.svs --reference reference.geojson --prediction slide.geojson",),
    "audit": ("wsiseg audit slides.csv --model runs/mine/model --out audit",),
    "consensus": ("wsiseg consensus slide.svs anna.geojson ben.geojson chen.geojson --out consensus.geojson",),
    "next": (
        "wsiseg next slides.csv --model runs/mine/model --out next",
        "wsiseg next slides.csv --model runs/mine/model --regions 20 --region-um 500 --out next",
    ),
    "measure": ("wsiseg measure slide.svs slide.geojson --out slide.tables",),
    "export": ("wsiseg export slide.zarr --out slide.geojson",),
    "models list": ("wsiseg models list",),
    "models show": ("wsiseg models show kidney-glomeruli",),
    "models add": ("wsiseg models add runs/mine/model --name mine", "wsiseg models add hf://org/name"),
    "models push": ("wsiseg models push mine --out mine-to-upload --licence apache-2.0",),
    "view": ("wsiseg view slide.svs slide.geojson --reference reference.geojson",),
    "report": ("wsiseg report slide.svs slide.geojson --out slide.html", "wsiseg report runs/mine --out training.html"),
    "run": ("wsiseg run my-recipe.toml --slides 'slides/*.svs' --model runs/mine/model --out results",),
    "demo": ("wsiseg demo --out demo",),
    "synth": ("wsiseg synth --out made.svs --size-mm 4x3",),
    "qupath install": ("wsiseg qupath install",),
    "doctor": ("wsiseg doctor",),
    "completion": ("wsiseg completion bash > ~/.local/share/bash-completion/completions/wsiseg",),
}


class Sections(click.Group):
    """A group whose help lists its commands in sections, each with its whole summary."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands under a heading; those that have examples show them at the end of their help."""
        self.sections[title] = [str(command.name) for command in commands]
        for command in commands:
            self.add_command(command)
            _show_examples(command, str(command.name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, all with the same column of names."""
        width = max(map(len, self.commands))
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(limit=200)) for name in names]
                )


def _show_examples(command: click.Command, name: str) -> None:
    if isinstance(command, click.Group):
        for inner, member in command.commands.items():
            _show_examples(member, f"{name} {inner}")
    elif name in EXAMPLES:
        lines = EXAMPLES[name]
        heading = "Example:" if len(lines) == 1 else "Examples:"
        command.epilog = "\n".join(["\b", heading, *(f"  {line}" for line in lines)])
