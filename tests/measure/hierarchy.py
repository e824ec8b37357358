"""QuPath's "Resolve hierarchy", told naively and independently of the code under test."""

from __future__ import annotations

from shapely import Point, Polygon

NOBODY = -1


def resolve(annotations: list[Polygon], nuclei: list[Point]) -> list[int]:
    """QuPath's resolveHierarchy, told naively: insert from the largest on; each takes the nuclei of its own parent."""
    order = sorted(range(len(annotations)), key=lambda i: -annotations[i].area)
    above: dict[int, int] = {}
    held = [NOBODY] * len(nuclei)
    for done, i in enumerate(order):
        around = [j for j in order[:done] if annotations[j].covers(annotations[i])]
        above[i] = around[-1] if around else NOBODY
        for n, nucleus in enumerate(nuclei):
            if held[n] == above[i] and annotations[i].intersects(nucleus.centroid):
                held[n] = i
    return held
