"""A folder with a small generated slide and its outlines, and the code blocks of the documentation's pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wsiseg.annotations.formats import write_annotations
from wsiseg.classes import ClassMap
from wsiseg.synthetic import SlideSpec, generate, write_slide

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^>]+?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block of a page; `why_not` is the reason in `<!-- not run: … -->` before it, if there is one."""

    language: str
    text: str
    why_not: str | None


def blocks(page: Path) -> list[CodeBlock]:
    """The fenced blocks of a page."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [CodeBlock(m["language"], m["text"], m["why"]) for m in found]


@cache
def _example(seed: int) -> tuple[bytes, bytes]:
    """A slide and its ground truth, as files have them."""
    made = generate(SlideSpec(seed=seed, width_um=1600, height_um=1200, stain="pas", mpp=2.0))
    with tempfile.TemporaryDirectory() as folder:
        slide, truth = Path(folder, "slide.svs"), Path(folder, "truth.geojson")
        write_slide(made, slide)
        write_annotations(truth, made.truth, classes=CLASSES)
        return slide.read_bytes(), truth.read_bytes()


def write_example(folder: Path, name: str = "slide", seed: int = 4) -> None:
    """Write NAME.svs (800 × 600 px at 2 µm/px) and its ground truth, NAME-truth.geojson."""
    slide, truth = _example(seed)
    (folder / f"{name}.svs").write_bytes(slide)
    (folder / f"{name}-truth.geojson").write_bytes(truth)


def run_python(code: str, folder: Path, *, without: str | None = None) -> str:
    """What a program prints; it runs by itself in a folder, where a package may not be imported."""
    blocked = f"import sys; sys.modules[{without!r}] = None\n" if without else ""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout
