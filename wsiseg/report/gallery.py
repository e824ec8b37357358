"""Pictures of single objects, cut out of the slide with the same margin, with their polygons and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import Colour
from wsiseg.geometry import Box
from wsiseg.pictures import draw_outlines
from wsiseg.report.images import jpeg, with_scale_bar
from wsiseg.report.page import Html, picture, row, subsection
from wsiseg.slides.slide import Slide

SIDE_PX = 240
MARGIN = 0.3  # of the longer side of the object, on each side
MOST_UM_PER_PX = 32.0


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a gallery.

    Attributes:
        region: what it shows
        says: its caption
        beside: other polygons to draw, in another colour, below its own
    """

    region: LabelledPolygon
    says: str
    beside: Sequence[LabelledPolygon] = ()


def gallery(title: str, slide: Slide, items: Sequence[Item], colours: tuple[Colour, Colour]) -> Html:
    """A part of a section; nothing where there are no items.

    Args:
        title: its heading
        slide: where the pixels come from
        items: in order
        colours: of an object's own outline, and of those beside it
    """
    if not items:
        return Html("")
    return subsection(title, row(_figure(slide, item, colours) for item in items))


def _figure(slide: Slide, item: Item, colours: tuple[Colour, Colour]) -> Html:
    left, top, right, bottom = item.region.polygon.bounds
    level0 = slide.frame
    wide, high = (right - left) * level0.mpp, (bottom - top) * level0.mpp_y
    side_um = max(wide, high, SIDE_PX * min(level0.mpp, level0.mpp_y) / 4) * (1 + 2 * MARGIN)
    frame = level0.at(min(side_um / SIDE_PX, MOST_UM_PER_PX))
    sx, sy = level0.scale_to(frame)
    x = math.floor((left + right) / 2 * sx - SIDE_PX / 2)
    y = math.floor((top + bottom) / 2 * sy - SIDE_PX / 2)
    box = Box(x, y, SIDE_PX, SIDE_PX)
    layers = [(item.beside, colours[1]), ([item.region], colours[0])]
    pixels = draw_outlines(slide.read(box, frame), frame, layers, level0, corner=(x, y))
    alt = f"{item.region.label or 'Object'} with its outline: {item.says}"
    return picture("image/jpeg", jpeg(with_scale_bar(pixels, frame.mpp)), alt, item.says, "object")
