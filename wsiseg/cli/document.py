"""The page of all commands, made from the commands themselves: `python -m wsiseg.cli.document > docs/commands.md`."""

from __future__ import annotations

import click

HEAD = """# Commands

Made from the code by `python -m wsiseg.cli.document`; a test keeps it so.

Exit codes: 0 done, 1 `wsiseg doctor` found something missing, 2 an input or a place that will not do (one sentence on
the error stream says what and what to do next), 130 interrupted. Results go to the standard output, everything else
to the error stream. An interrupted command goes on where it stopped when it is given again.
"""


def page(group: click.Group) -> str:
    """Markdown for all commands of a group."""
    parts = [HEAD]
    for name, command in group.commands.items():
        context = click.Context(command, info_name=f"{group.name} {name}")
        parts.append(f"\n## {group.name} {name}\n\n{command.help}\n\n```\n{command.get_usage(context)[7:]}\n```\n\n")
        parts.append("| option | meaning | default |\n|---|---|---|\n")
        parts += [_row(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
    return "".join(parts)


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = ", ".join(f"`{name}{value}`" for name in option.opts)
    default = f"`{option.default}`" if option.show_default and option.default is not None else ""
    needed = "required" if option.required else default
    return f"| {names} | {(option.help or '').replace('|', '/')} | {needed} |\n"


if __name__ == "__main__":
    from wsiseg.cli import wsiseg

    print(page(wsiseg), end="")
