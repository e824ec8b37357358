"""The site is built with every lost link an error, holds every page, and asks no other host for anything."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.build_site import API, ROOT, build, linked_files, pages
from tools.document_api import MODULES

pytest.importorskip("zensical", reason="the site's builder is not installed: pip install 'wsiseg[docs]'")

OWN = re.compile(r"""<(?:link|script|img|iframe|source)\b[^>]*\b(?:href|src)\s*=\s*["']?((?:https?:)?//[^"' >]+)""")
STYLE = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    folder = tmp_path_factory.mktemp("built") / "site"
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def html_of(page: Path) -> Path:
    """Where a page is on the site."""
    return page.with_name("index.html") if page.stem == "README" else page.with_suffix(".html")


def test_every_page_is_there_with_its_pictures(site: Path) -> None:
    assert (site / html_of(API)).is_file()
    for page in pages():
        assert (site / html_of(page)).is_file(), page
        for file in linked_files(ROOT, page):
            assert (site / file).is_file(), f"{page} links to {file}"


def test_no_other_host_is_asked_for_anything(site: Path) -> None:
    assert OWN.search("<script src=https://cdn.example.org/x.js>"), "the pattern sees one"
    for path in site.rglob("*.html"):
        assert OWN.findall(path.read_text(encoding="utf-8")) == [], path.name
    for path in site.rglob("*.css"):
        assert STYLE.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_the_search_knows_every_page(site: Path) -> None:
    index = (site / "search.json").read_text(encoding="utf-8")
    assert [page for page in pages() if str(html_of(page)).replace("index.html", "") not in index] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name: str, site: Path) -> None:
    shown = (site / html_of(API)).read_text(encoding="utf-8")
    module = importlib.import_module(f"wsiseg.{name}")
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{key} has no docstring"
            assert re.search(rf"<h3[^>]*>{key}<", shown), f"{name}.{key} is not on the page"


def listed(nav: list[object]) -> Iterator[str]:
    """The pages of a navigation, in order."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from listed(value) if isinstance(value, list) else [str(value)]


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(listed(nav)) == sorted(map(str, [*pages(), API])), "add a new page to `nav` in zensical.toml"


@pytest.mark.parametrize("link", ["none.md", "commands.md#no-such-heading", "#no-such-heading"])
def test_a_lost_link_is_an_error(link: str, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    (root / "zensical.toml").write_text(re.sub(r"^nav = \[.*?^\]$", "", text, flags=re.MULTILINE | re.DOTALL))
    (root / "README.md").write_text("# One\n\n[two](docs/tutorial.md)\n")
    shutil.copy(ROOT / "docs" / "commands.md", root / "docs")
    (root / "docs" / "tutorial.md").write_text("# Two\n\n[commands](commands.md#wsiseg-info)\n")
    assert build(tmp_path / "good", root).returncode == 0
    (root / "docs" / "tutorial.md").write_text(f"# Two\n\n[lost]({link})\n")
    done = build(tmp_path / "bad", root)
    assert done.returncode != 0
    assert "docs/tutorial.md:3" in done.stdout + done.stderr
    assert not (tmp_path / "bad").exists()
