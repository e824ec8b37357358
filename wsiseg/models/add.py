"""Add a model to the user's model folder, from a folder, an archive or an address; see `add_model`.

Only addresses that the user names are asked. A model appears under its name when all of it is there and has been checked;
an interrupted download leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from wsiseg.atomic import translate_os_errors
from wsiseg.bundle import PARENTS, ModelBundle, load_bundle
from wsiseg.errors import BundleError, OutputError
from wsiseg.models import BUNDLED, model_folder
from wsiseg.progress import Progress, Report, silent

FILES = ("model.json", "weights.safetensors")
HUB = "https://huggingface.co"  # another one: the variable HF_ENDPOINT, as for the hub's own tools
CHUNK = 1 << 20  # bytes
PATIENCE = 60.0  # s without an answer
UNPACKED = 1 << 33  # bytes that an archive may hold


def add_model(
    source: str, *, name: str | None = None, sha256: str | None = None, overwrite: bool = False, report: Report = silent
) -> ModelBundle:
    """Copy or fetch a model bundle into the user's model folder.

    Args:
        source: a bundle's folder; a ZIP archive of one; the address (http, https) of either; hf://ORG/NAME or
            hf://ORG/NAME@REVISION, a public repository of the Hugging Face hub
        name: what to call it; by default the name that the bundle gives itself
        sha256: of the archive, or of weights.safetensors where there is no archive
        overwrite: replace a model of this name
        report: told how many bytes have come

    Returns:
        the bundle at its new place

    Raises:
        BundleError: there is no bundle, it is damaged, or its hash is another
        OutputError: the name is taken, or the place cannot be written
    """
    folder = model_folder()
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        with translate_os_errors(folder):
            fresh = _gather(source, work, sha256, report)
        found = load_bundle(fresh)
        found.network()  # its weights are those that model.json describes, and finite numbers
        if found.parent is not None:
            found.parent.network()
        target = folder / _checked_name(name or _plain(found.name))
        with translate_os_errors(target):
            if target.exists():
                if not overwrite:
                    raise OutputError(
                        f"There is a model {target.name!r} already: choose another --name, or --overwrite."
                    )
                target.rename(work / "replaced")
            fresh.rename(target)
        return load_bundle(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _gather(source: str, work: Path, sha256: str | None, report: Report) -> Path:
    """The bundle as a folder inside `work`, its hash checked."""
    base = _address(source)
    bundle = work / "bundle"
    if base is None and Path(source).is_dir():
        load_bundle(Path(source))  # says what is wrong with it under its own name
        for name in _parts(Path(source)):
            (bundle / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(source) / name, bundle / name)
    elif base is None or urlsplit(base).path.lower().endswith(".zip"):
        archive = work / "archive.zip"
        if base is not None:
            _fetch(base, archive, report)
        elif Path(source).is_file():
            shutil.copyfile(source, archive)
        else:
            raise BundleError(f"There is no model bundle at {source}: give its folder, a ZIP archive or an address.")
        _check(archive, sha256, source)
        return _unpack(archive, work / "unpacked", source)
    else:
        for name in FILES:
            _fetch(f"{base}/{name}", bundle / name, report)
        for parent in PARENTS:
            if _fetch(f"{base}/{parent}/{FILES[0]}", bundle / parent / FILES[0], report, optional=True):
                _fetch(f"{base}/{parent}/{FILES[1]}", bundle / parent / FILES[1], report)
                break
    _check(bundle / FILES[1], sha256, source)
    return bundle


def _address(source: str) -> str | None:
    """The address that a source stands for, without a slash at its end; None for a path."""
    if source.startswith("hf://"):
        found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?", source)
        if found is None:
            raise BundleError(f"{source} is no repository of the hub: write hf://ORG/NAME or hf://ORG/NAME@REVISION.")
        hub = os.environ.get("HF_ENDPOINT") or HUB
        return f"{hub.rstrip('/')}/{found[1]}/resolve/{quote(found[2] or 'main', safe='')}"
    if source.startswith(("http://", "https://")):
        return source.rstrip("/")
    if "://" in source:
        raise BundleError(f"{source} cannot be fetched: give an address of http, https or hf.")
    return None


def _parts(bundle: Path) -> list[str]:
    """The files of a bundle and of its parent model, relative to its folder."""
    folders = ["", *(f"{parent}/" for parent in PARENTS)]
    return [folder + name for folder in folders for name in FILES if (bundle / (folder + name)).is_file()]


def _fetch(url: str, target: Path, report: Report, *, optional: bool = False) -> bool:
    """Store what is at an address; False if an optional file is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Only http and https come here, see `_address`.
    request = urllib.request.Request(url, headers={"User-Agent": "wsiseg"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer, target.open("wb") as file:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(Progress(done, total, task=target.name))
    except urllib.error.HTTPError as error:
        if optional and error.code == 404:
            target.parent.rmdir()
            return False
        raise BundleError(f"{url} cannot be fetched (HTTP {error.code} {error.reason}): check the address.") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise BundleError(f"{url} cannot be fetched ({reason}): check the address and the network.") from error
    if total and done < total:
        raise BundleError(f"{url} broke off after {done} of {total} bytes: run the same command again.")
    return True


def _check(file: Path, sha256: str | None, source: str) -> None:
    if sha256 is None:
        return
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256.lower():
        raise BundleError(f"{source} has the sha256 {found}, not the one that was given: nothing is added.")


def _unpack(archive: Path, folder: Path, source: str) -> Path:
    """The bundle in an archive, at its top or one folder below; only the files that a bundle has are unpacked."""
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [name for name in packed.namelist() if PurePosixPath(name).name == FILES[0]]
            top = min((PurePosixPath(name).parent for name in names), key=lambda path: len(path.parts), default=None)
            if top is None:
                raise BundleError(f"{source} holds no model bundle: there is no {FILES[0]} in it.")
            for inner in ("", *PARENTS):
                for name in FILES:
                    member = str(top / inner / name)
                    if member not in packed.namelist():
                        continue
                    if packed.getinfo(member).file_size > UNPACKED:
                        raise BundleError(f"{source} is too large for a model bundle: check what it is.")
                    (folder / inner).mkdir(parents=True, exist_ok=True)
                    with packed.open(member) as read, (folder / inner / name).open("wb") as written:
                        shutil.copyfileobj(read, written)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise BundleError(f"{source} is not a readable ZIP archive ({error}): fetch it again.") from error
    return folder


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise OutputError(f"{name!r} cannot be the name of a model: take letters, digits, dots and hyphens.")
    if name in BUNDLED:
        raise OutputError(f"{name!r} is the name of a bundled model: choose another with --name.")
    return name


def _plain(name: str) -> str:
    """A bundle's own name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-._") or "model"
