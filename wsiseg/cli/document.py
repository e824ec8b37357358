"""The page of all commands, made from the commands themselves: `python -m wsiseg.cli.document > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

HEAD = """# Commands

Made from the code by `python -m wsiseg.cli.document`; a test keeps it so.

Exit codes: 0 done, 1 `wsiseg doctor` found something missing or slides of `wsiseg run` failed, 2 an input or a place
that will not do (one sentence on the error stream says what and what to do next), 130 interrupted. Results go to the
standard output, everything else to the error stream. An interrupted command goes on where it stopped when it is given
again.

`wsiseg completion bash` (or `zsh`, `fish`) prints what makes the shell complete commands, options and files with the
tabulator; kept once, it works in every new shell:

```
wsiseg completion bash > ~/.local/share/bash-completion/completions/wsiseg   # with the package bash-completion
wsiseg completion bash > ~/.wsiseg.bash    # without it; and in ~/.bashrc: . ~/.wsiseg.bash
wsiseg completion zsh > ~/.zfunc/_wsiseg   # and in ~/.zshrc, before compinit: fpath+=~/.zfunc
wsiseg completion fish > ~/.config/fish/completions/wsiseg.fish
```
"""


def page(group: click.Group) -> str:
    """Markdown for all commands of a group."""
    return "".join([HEAD, *_commands(group, str(group.name))])


def _commands(group: click.Group, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
            continue
        context = click.Context(command, info_name=f"{path} {name}")
        yield f"\n## {path} {name}\n\n{command.help}\n\n```\n{command.get_usage(context)[7:]}\n```\n"
        options = [_row(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
        if options:
            yield "\n| option | meaning | default |\n|---|---|---|\n"
            yield from options


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = ", ".join(f"`{name}{value}`" for name in option.opts)
    default = f"`{option.default}`" if option.show_default and option.default is not None else ""
    needed = "required" if option.required else default
    return f"| {names} | {(option.help or '').replace('|', '/')} | {needed} |\n"


if __name__ == "__main__":
    from wsiseg.cli import wsiseg

    print(page(wsiseg), end="")
