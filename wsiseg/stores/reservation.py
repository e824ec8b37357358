"""Reserve an output: one process writes it under another name and renames it when it is complete.

    NAME.partial/            while it is being made; holds the manifest and what is finished so far
    NAME.partial/claim.json  what it is made from; the file is also the lock
    NAME/                    only ever a finished output

A killed process leaves NAME.partial behind; the same command picks it up and does not repeat what is finished. The
kernel drops the lock of a dead process, so that nothing has to be cleaned up by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from wsiseg.atomic import lock, translate_os_errors
from wsiseg.errors import MismatchError, StoreError
from wsiseg.json_text import read_json

Manifest = dict[str, Any]
RESERVATION = "claim.json"


def partial_path(final: Path) -> Path:
    """Where an output lives until it is finished."""
    return final.with_name(final.name + ".partial")


def read_claim(folder: Path) -> Manifest:
    """The manifest in a finished or unfinished output; StoreError if there is none or it is damaged."""
    try:
        value = read_json(folder / RESERVATION)
        if not isinstance(value, dict):
            raise ValueError("it is damaged")
    except FileNotFoundError:
        raise StoreError(f"{folder} was not made by wsiseg (it has no {RESERVATION}): choose another place.") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder / RESERVATION} cannot be read ({error}): make the output again with --overwrite."
        ) from error
    return value


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, as "grid.size is 512, not 256" from the old one's point of view."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        prefix = f"{name}." if name else ""
        return [d for key in keys for d in differences(old.get(key), new.get(key), prefix + str(key))]
    return [] if old == new else [f"{name} is {_short(old)}, not {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def require_same(folder: Path, manifest: Manifest) -> None:
    """MismatchError, naming every difference, unless the folder was made from exactly this manifest."""
    found = differences(read_claim(folder), json.loads(json.dumps(manifest)))
    if found:
        raise MismatchError(
            f"{folder} was made from something else ({'; '.join(found[:4])}{'; …' if len(found) > 4 else ''}): "
            "choose another output or start again with --overwrite."
        )


@contextmanager
def reserve(final: Path, manifest: Manifest, *, overwrite: bool = False) -> Iterator[Path | None]:
    """Claim an output folder, and give it its name when the block ends without an error.

    Args:
        final: the folder to be
        manifest: what it is made from, as JSON values; an existing output, finished or not, must have the same one
        overwrite: remove what is there instead of comparing

    Yields:
        the folder to work in, perhaps with earlier work in it; None when the finished output is already there

    Raises:
        MismatchError: there is an output made from something else
        BusyError: another process is making it
        OutputError: the place cannot be written
    """
    partial = partial_path(final)
    with translate_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(partial, final)
    try:
        if overwrite:
            with translate_os_errors(final):
                _clear(partial)
                if final.exists():
                    read_claim(final)  # never remove a folder that wsiseg did not make
                    shutil.rmtree(final)
        if final.exists():
            require_same(final, manifest)
            shutil.rmtree(partial)
            yield None
            return
        with translate_os_errors(final):
            if lock.seek(0) == 0 and lock.read():
                require_same(partial, manifest)
                for torn in partial.rglob("*.partial"):  # single files that a killed process was writing
                    if torn.is_file():  # a folder is an unfinished output in this one, with a claim of its own
                        torn.unlink()
            else:
                lock.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode())
                lock.flush()
                os.fsync(lock.fileno())
            yield partial
            partial.rename(final)
    finally:
        lock.close()


def _lock(partial: Path, final: Path) -> BinaryIO:
    """The claim file, locked. A folder that was renamed between opening and locking is looked at afresh."""
    while True:
        partial.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return lock(partial / RESERVATION, final)


def _clear(partial: Path) -> None:
    """Empty an unfinished output but keep the (locked) claim file itself."""
    for path in partial.iterdir():
        if path.name == RESERVATION:
            os.truncate(path, 0)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
