"""Where a benchmark's figures go: to the screen, and between two marks of a page in docs/results.

A page is written by hand but for what stands between `<!-- made by COMMAND -->` and `<!-- end -->`; that is replaced
whole, with the day and the machine. A page without the marks gets them at its end.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"


def record(page: str, command: str, text: str, *, quick: bool, measured: str | None = None) -> None:
    """Print figures and keep them.

    Args:
        page: of docs/results, with its ending
        command: that makes these figures, without options that change no result
        text: Markdown
        quick: a smoke run, whose figures are printed and not kept
        measured: when and where, where that was not here and now
    """
    print(text, flush=True)
    if quick:
        return
    path = FOLDER / page
    before = path.read_text(encoding="utf-8") if path.exists() else f"# {path.stem.capitalize()}\n"
    start, end = f"<!-- made by {command} -->", "<!-- end -->"
    block = f"{start}\n\n{measured or machine()}\n\n{text.strip()}\n\n{end}"
    found = re.search(f"{re.escape(start)}.*?{re.escape(end)}", before, re.DOTALL)
    after = before.replace(found[0], block) if found else f"{before.rstrip()}\n\n## `{command}`\n\n{block}\n"
    path.write_text(after, encoding="utf-8")


def machine() -> str:
    """The day, the processor, its cores and Python, as a sentence."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    extras = [shown for flag, shown in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")) if flag in text]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    today = date.today()
    processor = name[1].strip() if name else platform.processor() or platform.machine()
    known = f", with {' and '.join(extras)}" if extras else ", without AMX and AVX512-BF16"
    day = f"{today.day} {today:%B %Y}"
    return f"Measured on {day}: {processor}{known}, {cores} cores, Python {platform.python_version()}."
