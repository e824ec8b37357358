"""How much memory a slide takes, told before it is read.

A process takes that of its programs and its network (`BASE`), and for the slide in work:

- the pixels read ahead, three batches, and what the network makes of one batch (`PER_PIXEL` for each of its pixels),
- three rows of the grid as sums of probabilities, float32 for each class and once more for the weights,
- the slide at 8 µm/px, where its tissue is looked for.

Outlines are streamed and measured per slide; their part is in `BASE`, and more than some 100,000 of them are not
reckoned with. `BASE` and `PER_PIXEL` were taken from the peak memory of predictions with the demonstration model and
rounded up generously; a large encoder takes more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from wsiseg.classes import ClassMap
from wsiseg.engines.engine import FLIPS
from wsiseg.errors import OutputError
from wsiseg.slides.slide import Slide

BASE = 900 * 2**20  # bytes
PER_PIXEL = 1000  # bytes for each pixel of a batch while the network works
TISSUE_UM, PER_TISSUE_PIXEL = 8.0, 80  # µm/px; bytes
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def estimate(slide: Slide, models: Iterable[dict[str, Any]]) -> int:
    """Bytes that a slide in work takes beyond `BASE`.

    Args:
        slide: the slide
        models: identity of each model that looks at it, one after the other
    """
    width, height = slide.frame.width * slide.frame.mpp, slide.frame.height * slide.frame.mpp_y  # µm
    needed = width * height / TISSUE_UM**2 * PER_TISSUE_PIXEL
    return round(needed + max((_predicting(model, width) for model in models), default=0.0))


def _predicting(model: dict[str, Any], width_um: float) -> float:
    """Bytes for a slide of this width, while this model works on it."""
    usage, classes = model["usage"], len(ClassMap.from_json(model["classes"]))
    batch = usage["batch"] * usage["tile"] ** 2  # px
    scores = 4 * classes * batch * (len(FLIPS) if usage["flips"] else 1)
    rows = 3 * width_um / usage["mpp"] * usage["tile"] * 4 * (classes + 1)
    return float(batch * (3 * 3 + PER_PIXEL) + scores + rows)


def require(needed: int, limit: int) -> None:
    """OutputError where a slide needs more than a limit in bytes, `BASE` included."""
    if needed + BASE > limit:
        gib = (needed + BASE) / 2**30
        raise OutputError(f"It takes about {gib:.1f} GiB of memory: give --max-ram {gib:.1f}GiB or more.")


def parse_size(text: str) -> int:
    """Bytes of a size such as 8GB or 1.5GiB; ValueError for other texts."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?|[kmgt]i)b?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is no size: write it as 8GB or 1.5GiB.")
    return round(float(found[1]) * UNITS[found[2].lower()])
