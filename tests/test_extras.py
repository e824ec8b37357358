"""Without the optional packages: slides are read, tiled and measured, and every other command names its extra."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wsiseg.annotations.formats import write_annotations
from wsiseg.classes import ClassMap
from wsiseg.errors import MissingExtraError
from wsiseg.extras import EXTRAS, require_extra
from wsiseg.geometry import Frame
from wsiseg.measure.tables import check_folder

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """The packages of an extra, those of the extras that it includes too."""
    found: set[str] = set()
    for asked in map(Requirement, requirements):
        if asked.name == "wsiseg":
            found |= {name for extra in asked.extras for name in names(OPTIONAL[extra])}
        else:
            found.add(canonicalize_name(asked.name))
    return found


# Brought along by torch's packages; and formats for those who have the library anyway, with a message where it is missing.
NOT_OURS = {"torchvision", "geopandas", "spatialdata"}


def test_every_package_that_is_imported_is_declared() -> None:
    distributions = metadata.packages_distributions()
    base = names(PROJECT["dependencies"])
    undeclared = {}
    for path in sorted((ROOT / "wsiseg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = {node.module.partition(".")[0]}
            else:
                continue
            for module in modules - set(sys.stdlib_module_names) - {"wsiseg"}:
                packages = {canonicalize_name(name) for name in distributions.get(module, [module])}
                wanted = base | (names(OPTIONAL[EXTRAS[module]]) if module in EXTRAS else set())
                if not packages & wanted and module not in NOT_OURS:
                    undeclared[f"{path.relative_to(ROOT)}: {module}"] = packages
    assert not undeclared, "declare it in pyproject.toml, and an optional one in wsiseg/extras.py"


def test_all_has_every_extra_of_the_program() -> None:
    assert {extra for extra in EXTRAS.values() if not names(OPTIONAL[extra]) <= names(OPTIONAL["all"])} == set()


@pytest.mark.parametrize("module", EXTRAS)
def test_the_message_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as told:
        require_extra(module, "This", otherwise="do without")
    assert f"`pip install 'wsiseg[{EXTRAS[module]}]'`, or do without." in str(told.value)


def test_parquet_is_refused_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"wsiseg\[parquet\]"):
        write_annotations(tmp_path / "a.parquet", [], classes=ClassMap(("Background", "A")), frame=Frame(9, 9, 1.0))
    with pytest.raises(MissingExtraError, match=r"wsiseg\[parquet\]"):
        check_folder(tmp_path / "tables", "parquet", overwrite=False)
    assert not list(tmp_path.iterdir())


# The commands of an installation without extras, as one program; each must end well.
BASE = """
from wsiseg.cli import main
for words in (
    "synth --out slide.svs --size-mm 1.6x1.2 --mpp 2 --seed 4 --no-nuclei --quiet", "info slide.svs",
    "tissue slide.svs --out tissue.png", "qc slide.svs --out qc --quiet", "tile slide.svs --out tiles.zarr --quiet",
    "measure slide.svs slide.geojson --out tables", "export slide.geojson --out slide.xml",
):
    sys.argv = ["wsiseg", *words.split()]
    main()
"""

NEEDS = {
    "predict": ["predict", "--slide", "slide.svs"],
    "train": ["train", "recipe.toml"],
    "view": ["view", "slide.svs"],
    "report": ["report", "slide.svs"],
    "demo": ["demo", "--quiet"],
}


def without_extras(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as if no optional package were installed."""
    blocked = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nsys.modules.update(dict.fromkeys({list(EXTRAS)!r}))\n"
    command = [sys.executable, "-c", blocked + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("name", NEEDS)
def test_a_command_names_the_extra_that_it_needs(name: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text((ROOT / "pipelines" / "demo.toml").read_text(encoding="utf-8"))
    done = without_extras(f"sys.argv = {['wsiseg', *NEEDS[name]]!r}\nfrom wsiseg.cli import main\nmain()", tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"wsiseg: [^\n]*'wsiseg\[\w+\]'[^\n]*\.\n", done.stderr), done.stderr
    extra = re.findall(r"wsiseg\[(\w+)\]", done.stderr)[0]
    assert names(OPTIONAL[extra]) <= names(OPTIONAL[name] if name in OPTIONAL else OPTIONAL["predict"])


def test_slides_are_read_tiled_and_measured_without_extras(tmp_path: Path) -> None:
    done = without_extras(BASE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiles.zarr" / "zarr.json").exists()
    assert list((tmp_path / "tables").glob("*.csv"))
