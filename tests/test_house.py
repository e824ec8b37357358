"""The house keeps its own rules: style, types, who imports whom, where torch lives, what is pinned."""

from __future__ import annotations

import ast
import os
import re
import shutil
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

LINES = 350  # of a module, at most; about 250 can be read in one sitting

# Whatever loads torch, and the rooms that may. The doctor is the one exception: it looks at torch, and only when asked.
TORCH = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "lightning", "lightning_fabric", "torchmetrics"}
TORCH_ROOMS = {"nets", "losses", "data", "methods", "bundle", "engines", "training", "doctor"}

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


def run(tool: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a tool of this very environment."""
    program = shutil.which(tool, path=str(Path(sys.executable).parent))
    assert program, f"{tool} is not installed beside this Python: install wsiseg with its dev extra"
    environment = {**os.environ, "PYTHONPATH": str(cwd), "NO_COLOR": "1"}
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy", "lint-imports"])
def test_the_tools_are_content(command: str) -> None:
    done = run(*command.split())
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without its data and with its import contract, free to be spoilt."""
    folder = tmp_path_factory.mktemp("house")
    for module in MODULES:
        (folder / module.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, folder / module.relative_to(ROOT))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


@pytest.mark.parametrize(
    ("module", "bad", "told"),
    [
        ("grid.py", "from wsiseg.annotations import region", "wsiseg.grid -> wsiseg.annotations.polygon"),
        (
            "slides/open.py",
            "def f():\n    import wsiseg.selection.tiling",
            "wsiseg.slides.open -> wsiseg.selection.tiling",
        ),
        ("cupboard.py", "", "wsiseg.cupboard"),
    ],
    ids=["base imports regions", "slides import tiling inside a function", "a module without a row"],
)
def test_a_bad_import_is_found(copy: Path, module: str, bad: str, told: str) -> None:
    path = copy / "wsiseg" / module
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + f"\n{bad}\n")
    try:
        done = run("lint-imports", "--no-cache", cwd=copy)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert done.returncode == 1, done.stdout
    assert told in " ".join(done.stdout.split())


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


def test_torch_lives_in_its_rooms() -> None:
    assert imported(ast.parse("def f():\n    from safetensors.torch import load")) == {"torch"}, "the scan sees it"
    strays = {}
    for path in MODULES:
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        found = imported(ast.parse(path.read_text(encoding="utf-8"))) & TORCH
        if found and room not in TORCH_ROOMS:
            strays[str(path.relative_to(ROOT))] = found
    assert not strays


def test_reading_and_tiling_load_no_torch() -> None:
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; print(sorted({TORCH!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_modules_are_short_enough_to_read() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text("utf-8").splitlines())) > LINES}
    assert not long, f"more than {LINES} lines"


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


def test_no_service_owns_the_checks() -> None:
    assert not (ROOT / ".github").exists(), "what the integration runs is .ci/run, anywhere"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


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
    waiting = [Requirement(text) for text in project["dependencies"] + extras["dev"] + extras["bench"]]
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
