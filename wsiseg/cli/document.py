"""The page of all commands, made from the commands themselves: `python -m wsiseg.cli.document > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import click

HEAD = """# Commands

`python -m wsiseg.cli.document` writes this page from the code.

Results go to the standard output, everything else to the error stream. If you interrupt a command, run it again: it
continues where it stopped. The exit code is

- 0 if everything is done,
- 1 if `wsiseg doctor` found something broken, or if slides of `wsiseg run` failed,
- 2 if an input or an output cannot be used; one sentence on the error stream says why and what to do next,
- 130 if you interrupted the command.

To complete commands, options and file names with the tab key, store the output of `wsiseg completion` once:

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
        if command.epilog:
            yield f"\n```sh\n{_examples(command.epilog)}\n```\n"
        options = [_row(parameter) for parameter in command.params if _is_shown(parameter)]
        if options:
            yield "\n| option | meaning | default |\n|---|---|---|\n"
            yield from options


def _is_shown(parameter: click.Parameter) -> TypeGuard[click.Option]:
    return isinstance(parameter, click.Option) and not parameter.hidden


def _examples(epilog: str) -> str:
    """The lines of an epilog of `wsiseg.cli.help`, without its heading."""
    return "\n".join(line.strip() for line in epilog.splitlines()[2:])


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = ", ".join(f"`{name}{value}`" for name in option.opts)
    default = f"`{option.default}`" if option.show_default and option.default is not None else ""
    needed = "required" if option.required else default
    return f"| {names} | {(option.help or '').replace('|', '/')} | {needed} |\n"


if __name__ == "__main__":
    from wsiseg.cli import wsiseg

    print(page(wsiseg), end="")
