"""Make a virtual environment for each program that `benchmarks/against.py` compares with.

    python benchmarks/peers/install.py FOLDER [--only plain,lazyslide,tiatoolbox]

Each takes one to two GB with a CPU build of PyTorch, and several more where pip finds only the build with CUDA. What is
there already is kept. Nothing of it becomes a dependency of wsiseg.

TIAToolbox asks for torch below 2.13. It gets the same torch as the others all the same, so that not two versions of the
network's arithmetic are compared: it is installed without its dependencies, which then follow but for torch and
torchvision.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

TORCH = ("torch==2.13.0", "torchvision==0.28.0")
PROGRAMS = {
    "plain": ("openslide-python==1.4.6", "openslide-bin==4.0.1.2", "opencv-python-headless", "numpy", "pillow"),
    "lazyslide": ("lazyslide==0.13.0", "wsidata==0.12.0"),
    "tiatoolbox": ("tiatoolbox==2.1.3",),
}
WITHOUT_ITS_OWN_TORCH = "tiatoolbox"
READY = "ready.txt"  # written last: what was installed


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of a program's environment."""
    return folder / name / "bin" / "python"


def install(folder: Path, name: str) -> None:
    """One environment, whole or to be made anew."""
    ready = folder / name / READY
    if ready.exists():
        print(f"{name}: is there")
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
    pip = [python_of(folder, name), "-m", "pip", "install", "-q"]
    wanted = [*TORCH, *PROGRAMS[name]]
    if name == WITHOUT_ITS_OWN_TORCH:
        subprocess.run([*pip, "--no-deps", *PROGRAMS[name]], check=True)
        ask = f"import json, importlib.metadata as m; print(json.dumps(m.requires({name!r})))"
        done = subprocess.run([python_of(folder, name), "-c", ask], check=True, capture_output=True, text=True)
        wanted = [*TORCH, *(r for r in json.loads(done.stdout) if not re.match(r"torch(vision)?\W", r))]
    subprocess.run([*pip, *wanted], check=True)
    frozen = [python_of(folder, name), "-m", "pip", "freeze"]
    ready.write_text(subprocess.run(frozen, check=True, capture_output=True, text=True).stdout)
    print(f"{name}: installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the environments go")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="some of them, with commas")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(","):
        install(args.folder, name)


if __name__ == "__main__":
    main()
