"""The documentation as a site: `make docs`, or `python -m tools.build_site [FOLDER]` (`site` by default).

The pages are read in two places, in the repository and on the site, and their links must work in both. So the site is
built from a copy of all pages at their places in the repository, with the files that they link to: README.md is its
first page, and a link from docs/ to pipelines/ needs no second spelling. Zensical then makes the site, and with
`--strict` a link or an anchor that leads nowhere is an error. Nothing is written but the finished site.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from tools.document_api import page as api_page

ROOT = Path(__file__).resolve().parent.parent
API = Path("docs/api.md")  # made here from the docstrings, and not kept in the repository
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "pipelines/**/*.md")
LINK = re.compile(r"""\]\(\s*<?([^)\s>#]+)|\b(?:src|href)\s*=\s*["']([^"'#]+)""")
CODE = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages of the site, relative to the repository."""
    return sorted({page.relative_to(root) for pattern in PAGES for page in root.glob(pattern)})


def linked_files(root: Path, page: Path) -> set[Path]:
    """The files of the repository that a page shows or links to, pages left out; relative to the repository."""
    text = CODE.sub("", (root / page).read_text(encoding="utf-8"))
    targets = [(root / page.parent / unquote(a or b)).resolve() for a, b in LINK.findall(text)]
    files = [t for t in targets if t.is_file() and t.suffix != ".md" and t.is_relative_to(root)]
    return {file.relative_to(root) for file in files}


def stage(root: Path, source: Path) -> None:
    """Copy the pages and the files that they link to into a new folder; add the page of public names."""
    found = pages(root)
    for path in set(found).union(*(linked_files(root, page) for page in found)):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, source / path)
    if (root / "wsiseg").is_dir():
        (source / API).write_text(api_page(root), encoding="utf-8")


def build(folder: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site of a repository; the return code is 0 when every link leads somewhere.

    Args:
        folder: where the site is to be, in place of an earlier one
        root: the repository, which holds zensical.toml
    """
    with TemporaryDirectory() as place:
        stage(root, Path(place) / "pages")
        shutil.copy(root / "zensical.toml", place)
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(Path(place) / "site", folder)
    return done


if __name__ == "__main__":
    result = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
    print(result.stdout + result.stderr, end="")
    sys.exit(result.returncode)
