"""The flags of `wsiseg qc` in a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wsiseg.errors import MismatchError, StoreError
from wsiseg.qc.files import FLAGS, PICTURE
from wsiseg.report.page import Html, paragraph, picture, section, table
from wsiseg.report.tables import shown
from wsiseg.slides.slide import Slide

Flags = list[dict[str, Any]]


def read_flags(folder: Path, slide: Slide | None = None) -> Flags:
    """The flags in a folder of `wsiseg qc`.

    Args:
        folder: as the command made it
        slide: whose they have to be, where it is available

    Raises:
        StoreError: there are none, or they are damaged
        MismatchError: they are of another slide
    """
    path = folder / FLAGS
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        flags: Flags = [
            {"name": str(f["name"]), "raised": bool(f["raised"]), "unit": str(f["unit"]), "limits": str(f["limits"]),
             "says": str(f["says"]), "value": None if f["value"] is None else float(f["value"])}
            for f in value["flags"]
        ]  # fmt: skip
        made_from = str(value["slide"]["hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read: name a folder that `wsiseg qc` made.") from error
    if slide is not None and made_from != slide.identity["hash"]:
        raise MismatchError(f"{path} was made from another slide than {slide.name}: give a file of this slide.")
    return flags


def quality_section(flags: Flags | None, folder: Path | None) -> Html:
    """The checks, the raised flags, and the picture if it exists."""
    if flags is None or folder is None:
        return section("Quality", paragraph("Quality was not looked at: use wsiseg qc, and name its folder with --qc."))
    raised = [f for f in flags if f["raised"]]
    parts = [paragraph(f"Look at {f['name']}: {f['says']}", "raised") for f in raised]
    if not raised:
        parts.append(paragraph("No flag is raised."))
    rows = [
        [
            f["name"],
            "look" if f["raised"] else "as usual",
            f"{shown(f['value'])} {f['unit']}".strip(),
            f["limits"],
            f["says"],
        ]
        for f in flags
    ]
    parts.append(table("Flags", ["what", "", "value", "usual", "in words"], rows))
    image = folder / PICTURE
    if image.is_file():
        says = "Blur in blue, folds in vermilion, pen in green."
        parts.append(picture("image/png", image.read_bytes(), "The slide with its artefacts marked", says))
    return section("Quality", *parts)
