"""Draw slides and polygons with matplotlib, and make HTML of tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import PALETTE, Colour
from wsiseg.extras import require_extra
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

PICTURE_PX = 1000  # longer side of what is drawn
LINE, CASING = 1.2, 2.0  # points; how much wider the white border of a line is: thin lines are seen on dark nuclei, too
SMALL, THIN = 16, 0.6  # px of the picture; points: so small an object would vanish below its own border


@contextmanager
def opened(slide: Slide | str | Path, mpp: float | None = None) -> Iterator[Slide]:
    """A slide that is open already, or one that is open inside the block."""
    if isinstance(slide, Slide):
        yield slide
    else:
        with open_slide(slide, mpp=mpp) as own:
            yield own


def plot(
    slide: Slide | str | Path,
    *layers: Iterable[LabelledPolygon],
    box: Box | None = None,
    colours: Mapping[str, Colour] | Sequence[Colour] | None = None,
    ax: Any = None,
) -> Any:
    """Draw a slide, or a part of it, with polygons over it.

    Args:
        slide: open, or its path
        layers: polygons in level-0 px; later ones are drawn on top
        box: the part to draw, in level-0 px; by default all of the slide
        colours: of the classes by name, or of the layers one by one; those of the palette by default
        ax: axes of matplotlib to draw in; new ones by default

    Returns:
        the axes, in level-0 px

    Raises:
        MissingExtraError: matplotlib is not installed
    """
    require_extra("matplotlib", "A plot")
    import matplotlib.pyplot as plt
    from matplotlib.patheffects import Normal, Stroke

    with opened(slide) as source:
        level0 = source.frame
        part = box or level0.box
        coarser = max(1.0, max(part.w, part.h) / PICTURE_PX)
        frame = level0.at(max(level0.mpp, level0.mpp_y) * coarser)
        sx, sy = level0.scale_to(frame)
        window = Box(round(part.x * sx), round(part.y * sy), max(1, round(part.w * sx)), max(1, round(part.h * sy)))
        pixels = source.read(window, frame)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, max(1.5, 7 * part.h / part.w)), layout="constrained")
    ax.imshow(pixels, extent=(part.x, part.x + part.w, part.y + part.h, part.y))
    drawn: dict[str, Any] = {}
    names = list(dict.fromkeys(p.label or "no class" for layer in layers for p in layer))
    for i, layer in enumerate(layers):
        for polygon in layer:
            label = polygon.label or "no class"
            if isinstance(colours, Mapping):
                colour = colours.get(label, PALETTE[names.index(label) % len(PALETTE)])
            else:
                colour = colours[i] if colours else PALETTE[names.index(label) % len(PALETTE)]
            left, top, right, bottom = polygon.polygon.bounds
            small = max(right - left, bottom - top) < SMALL * coarser
            for shape in getattr(polygon.polygon, "geoms", [polygon.polygon]):
                for ring in (shape.exterior, *shape.interiors):
                    (line,) = ax.plot(*ring.xy, color=[c / 255 for c in colour], linewidth=THIN if small else LINE)
                    if not small:
                        line.set_path_effects([Stroke(linewidth=LINE + CASING, foreground="white"), Normal()])
                    drawn.setdefault(label, line)
    ax.set_xlim(part.x, part.x + part.w)
    ax.set_ylim(part.y + part.h, part.y)
    ax.set_xlabel("px of level 0")
    if drawn:
        ax.legend(drawn.values(), drawn.keys(), loc="upper right", fontsize="small")
    return ax


def table_html(title: str, rows: Iterable[tuple[object, ...]], head: tuple[str, ...] = ()) -> str:
    """A small table for a notebook."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<b>{html.escape(title)}</b><table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"
