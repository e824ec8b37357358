"""Mistakes that linters miss: torch outside its packages, swallowed errors, machine paths, dependencies without a pin."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "wsiseg"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Whatever loads torch, and the packages that may. The doctor imports torch only to examine it.
TORCH = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "lightning", "lightning_fabric", "torchmetrics"}
MAY_LOAD_TORCH = {"nets", "losses", "data", "methods", "bundle", "inference", "training", "doctor"}

# What works without torch, down to the modules it imports.
WITHOUT_TORCH = (
    "wsiseg.cli",
    "wsiseg.geometry",
    "wsiseg.grid",
    "wsiseg.classes",
    "wsiseg.selection.tiling",
    "wsiseg.slides.open",
    "wsiseg.stores.tiles",
    "wsiseg.stores.labels",
    "wsiseg.annotations.polygon",
    "wsiseg.annotations.rasterise",
    "wsiseg.annotations.formats",
    "wsiseg.selection.tissue",
    "wsiseg.evaluation.evaluate",
    "wsiseg.measure.files",
    "wsiseg.measure.tables",
    "wsiseg.evaluation.agreement",
    "wsiseg.recipe",
    "wsiseg.pictures",
    "wsiseg.synthetic",
    "wsiseg.viewer.serve",
    "wsiseg.qc.files",
    "wsiseg.report.write",
    "wsiseg.doctor",
)

# A place on somebody's machine: a home or work folder, on Linux, macOS or Windows.
MACHINE_PATH = re.compile(r"(?<![\w.:/}])/(?:home|root|work|Users|mnt|srv)/\w|\b[A-Z]:\\\\?Users\b")


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports anywhere, `importlib.import_module` included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) and node.args:
            found.add(str(getattr(node.args[0], "value", "")))
    return {"torch" if name.startswith("safetensors.torch") else name.split(".")[0] for name in found}


def test_only_the_packages_of_networks_import_torch() -> None:
    assert imported(ast.parse("def f():\n    from safetensors.torch import load")) == {"torch"}, "the scan sees it"
    strays = {}
    for path in MODULES:
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        found = imported(ast.parse(path.read_text(encoding="utf-8"))) & TORCH
        if found and package not in MAY_LOAD_TORCH:
            strays[str(path.relative_to(ROOT))] = found
    assert not strays


def test_reading_and_tiling_load_no_torch() -> None:
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; print(sorted({TORCH!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def swallows(node: ast.AST) -> bool:
    """Whether a handler (or `suppress`) lets any error go by without a word; named errors may have their reasons."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(ast.unparse(argument) in ("Exception", "BaseException") for argument in node.args)
    if not isinstance(node, ast.ExceptHandler):
        return False
    named = {ast.unparse(n) for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"Exception"}
    silent = all(isinstance(b, ast.Pass | ast.Continue) or ast.unparse(b) == "..." for b in node.body)
    return silent and bool(named & {"Exception", "BaseException"})


def test_no_error_is_swallowed() -> None:
    for code in ("pass", "continue", "..."):
        tree = ast.parse(f"for i in x:\n    try:\n        f()\n    except (OSError, Exception):\n        {code}")
        assert any(map(swallows, ast.walk(tree))), "the scan sees it"
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if swallows(node)
    ]
    assert not silent


def tracked() -> list[Path]:
    """The files of the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: its files are not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths() -> None:
    assert MACHINE_PATH.search("see /" + "home/ann/slides"), "the pattern sees one"
    assert not MACHINE_PATH.search("https://example.org/home/page and docs/work/plan.md"), "and no other things"
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # a picture or weights
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
        ]
    assert not found


def test_the_integration_runs_the_linters_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make lint$.*^make test$", script.read_text(), re.MULTILINE | re.DOTALL)


def pins() -> dict[str, str]:
    """Package -> version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert rows == sorted(rows), "constraints.txt is in alphabetical order"
    return {canonicalize_name(name): version for name, version in rows}


def pulled_in() -> dict[str, str]:
    """Package -> version, for all that pyproject.toml pulls in here, less the packages that are not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked_for = project["dependencies"] + [text for name in extras for text in extras[name]]
    waiting = [asked for asked in map(Requirement, asked_for) if asked.name != "wsiseg"]  # the extras name each other
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asked = waiting.pop()
        name, wanted = canonicalize_name(asked.name), frozenset(asked.extras)
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        versions[name] = distribution.version
        waiting += [
            needed
            for needed in map(Requirement, distribution.requires or ())
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted))
        ]
    return versions


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="constraints.txt was made with Python 3.11")
def test_everything_is_pinned_and_installed_as_pinned() -> None:
    pinned, found = pins(), pulled_in()
    # torch pins the packages of CUDA itself, and they are there only where CUDA is
    found = {n: v for n, v in found.items() if not n.startswith(("nvidia-", "cuda-", "triton"))}
    assert set(found) - set(pinned) == set(), "missing from constraints.txt"
    others = {n: v for n, v in found.items() if Version(v).public != pinned[n]}
    assert not others, "installed in another version than constraints.txt says"
