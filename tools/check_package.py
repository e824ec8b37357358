"""Whether the sdist and the wheel work without the checkout: `python -m tools.check_package`, also a part of `.ci/run`.

The wheel is built from the unpacked sdist, so a file that the sdist lacks is missed. The wheel must hold every file of the
package that git tracks. It is installed into a new environment that sees the dependencies of this one and nothing else of
it; there `wsiseg doctor` must find everything well, and with `--demo` the demo must run. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
CHECK = "import sys, wsiseg; assert wsiseg.__file__.startswith(sys.prefix), wsiseg.__file__"


def run(*command: object, cwd: Path) -> str:
    """Run a command outside the checkout's import path; its output is shown where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(place: Path) -> tuple[Path, Path]:
    """The sdist of the checkout and the wheel made from it."""
    source = place / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # else removed, and not yet committed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    name = run(sys.executable, "-c", BUILD, "build_sdist", place, cwd=source).splitlines()[-1]
    with tarfile.open(place / name) as archive:
        archive.extractall(place / "sdist", filter="data")
    (unpacked,) = (place / "sdist").iterdir()
    wheel = run(sys.executable, "-c", BUILD, "build_wheel", place, cwd=unpacked).splitlines()[-1]
    return place / name, place / wheel


def check_files(wheel: Path) -> None:
    """Stop where a file of the package is not in the wheel."""
    listed = subprocess.run(["git", "ls-files", "-z", "wsiseg"], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    missing -= set(zipfile.ZipFile(wheel).namelist())
    if missing:
        sys.exit(f"The wheel lacks {', '.join(sorted(missing))}: add them to package-data in pyproject.toml.")


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with the wheel, and with the packages that are installed here; returns its folder of programs."""
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment).strip())
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=environment,
    )
    # A path in a .pth file comes after the environment's own packages, and .pth files in it (those of editable
    # installations) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def main() -> None:
    """Build, install, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the sdist and the wheel here")
    parser.add_argument(
        "--demo", action="store_true", help="run the demo; compiling its kernels takes a minute or more"
    )
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        built = build(place)
        check_files(built[1])
        programs = install(built[1], place / "environment")
        run(programs / "python", "-c", CHECK, cwd=place)
        run(programs / "wsiseg", "doctor", cwd=place)
        if asked.demo:
            run(programs / "wsiseg", "demo", "--out", "demo", "--quiet", cwd=place)
            assert (place / "demo" / "prediction.geojson").is_file()
        for file in built:
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
            if asked.keep is not None:
                asked.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, asked.keep)


if __name__ == "__main__":
    main()
