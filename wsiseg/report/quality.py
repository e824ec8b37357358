"""The flags of `wsiseg qc` in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsiseg.errors import MismatchError, StoreError
from wsiseg.geometry import Frame
from wsiseg.json_text import read_json
from wsiseg.qc.files import FLAGS, PICTURE
from wsiseg.report.images import jpeg, with_scale_bar
from wsiseg.report.page import Html, legend, paragraph, picture, section, table
from wsiseg.report.tables import shown
from wsiseg.selection.artefacts import CLASSES
from wsiseg.slides.slide import Slide

LONGEST_PX = 1600  # of the picture

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
        value = read_json(path)
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


def quality_section(flags: Flags | None, folder: Path | None, level0: Frame) -> Html:
    """What was looked at, what stands out, and the picture if it is there.

    Args:
        flags, folder: of `wsiseg qc`; None where nobody looked
        level0: the slide's plane, for the scale bar
    """
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
        parts.append(picture("image/jpeg", _marked(image, level0), "The slide with its artefacts marked"))
        parts.append(legend(dict(zip(CLASSES.names[1:], CLASSES.colours[1:], strict=True))))
    return section("Quality", *parts)


def _marked(path: Path, level0: Frame) -> bytes:
    """The picture of `wsiseg qc` as JPEG, with a scale bar.

    Raises:
        StoreError: it is damaged
    """
    try:
        with Image.open(path) as image:
            image.thumbnail((LONGEST_PX, LONGEST_PX))
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise StoreError(f"{path} cannot be read: run `wsiseg qc` again.") from error
    mpp = level0.width * level0.mpp / pixels.shape[1]  # it shows the whole slide
    return jpeg(with_scale_bar(pixels, mpp))
