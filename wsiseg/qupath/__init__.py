"""Scripts for QuPath's own menu: `install` writes them into the folder of the user's scripts.

They use calls that QuPath 0.5, 0.6 and 0.7 have in common.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import OutputError

FOLDER = "wsiseg"  # in the folder of the scripts, and so the name of the menu
COMMAND = "@COMMAND@"  # in a script, where the command line of this wsiseg is put


def command() -> list[str]:
    """The words that start this very wsiseg, whatever the search path of QuPath is."""
    return [sys.executable, "-c", "from wsiseg.cli import main; main()"]


def user_folders(home: Path) -> list[Path]:
    """QuPath's user folders of today (QuPath/v0.5, QuPath/v0.6, …) in a home folder, as QuPath makes them."""
    return sorted(path for path in (home / "QuPath").glob("v*") if path.is_dir())


def scripts() -> dict[str, str]:
    """File name -> text of each script, with the command line of this wsiseg."""
    found = {}
    for file in files("wsiseg.qupath").joinpath("scripts").iterdir():
        if file.name.endswith(".groovy"):
            found[file.name] = file.read_text(encoding="utf-8").replace(COMMAND, _groovy(command()))
    return dict(sorted(found.items()))


def install(folders: Sequence[Path] = ()) -> list[Path]:
    """Write the scripts into `FOLDER` in QuPath's folders of scripts; earlier ones of the same names are replaced.

    Args:
        folders: the folders of scripts; by default `scripts` in each of QuPath's user folders

    Returns:
        the files

    Raises:
        OutputError: QuPath has no user folder, or the place cannot be written
    """
    places = list(folders) or [folder / "scripts" for folder in user_folders(Path.home())]
    if not places:
        raise OutputError(
            "There is no user folder of QuPath in your home folder (QuPath/v0.5 or later): start QuPath once and let it "
            "make one, or name the folder of your scripts with --folder."
        )
    written = []
    for place in places:
        target = place / FOLDER
        with translate_os_errors(target):
            target.mkdir(parents=True, exist_ok=True)
        for name, text in scripts().items():
            with atomic_write(target / name) as sink:
                sink.write(text.encode())
            written.append(target / name)
    return written


def _groovy(words: Sequence[str]) -> str:
    """A list of texts in Groovy."""
    quoted = (word.replace("\\", "\\\\").replace("'", "\\'") for word in words)
    return "[" + ", ".join(f"'{word}'" for word in quoted) + "]"
