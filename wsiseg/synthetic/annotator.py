"""A simulated person who annotates: shifted borders, missed objects, false objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from shapely import Polygon, make_valid
from shapely.affinity import translate

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.errors import WsisegError
from wsiseg.geometry import Frame

CORNERS = 64  # of a redrawn border
HARMONICS = 6  # of its error round the object


@dataclass(frozen=True, slots=True)
class Annotator:
    """How far a person's annotations stray from the ground truth.

    Attributes:
        jitter_um: standard deviation of the border's position, µm
        missed: fraction of the objects that are overlooked, 0 to 1
        false: annotations of nothing, as a fraction of the objects, 0 to 1
        seed: another seed is another person
    """

    jitter_um: float = 0.0
    missed: float = 0.0
    false: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.jitter_um < 0 or not math.isfinite(self.jitter_um):
            raise WsisegError(f"A border cannot stray by {self.jitter_um:g} µm: give 0 or more.")
        for name, fraction in (("missed", self.missed), ("false", self.false)):
            if not 0 <= fraction <= 1:
                raise WsisegError(f"{fraction:g} is no fraction of {name} annotations: give 0 to 1.")

    def annotate(self, truth: Iterable[LabelledPolygon], frame: Frame) -> Iterator[LabelledPolygon]:
        """The annotations that this person makes.

        Args:
            truth: level-0 pixels
            frame: level 0; false annotations lie inside it and may lie on anything
        """
        rng = np.random.default_rng(self.seed)
        for region in truth:
            seen, invented = rng.uniform(size=2)
            drawn = region
            if self != Annotator(seed=self.seed):  # measurements hold for the ground truth alone
                drawn = replace(region, polygon=self._redrawn(region, rng, frame), id=None, measurements={})
            if seen >= self.missed and not drawn.polygon.is_empty:
                yield drawn
            if invented < self.false:
                left, top, right, bottom = drawn.polygon.bounds or region.polygon.bounds
                x = rng.uniform(0, max(1.0, frame.width - (right - left))) - left
                y = rng.uniform(0, max(1.0, frame.height - (bottom - top))) - top
                yield replace(drawn, polygon=translate(drawn.polygon, x, y))

    def _redrawn(self, region: LabelledPolygon, rng: np.random.Generator, frame: Frame) -> Polygon:
        """The outer border with a smooth error; as it is where the person does not stray."""
        turn, size = rng.uniform(0, 2 * math.pi, HARMONICS), rng.normal(size=HARMONICS)
        if self.jitter_um == 0:
            return region.polygon
        ring = region.polygon.exterior
        along = np.arange(CORNERS) / CORNERS
        points = np.array([ring.interpolate(s, normalized=True).coords[0] for s in along])
        ways = points - points.mean(0)
        ways /= np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
        # Each harmonic has half of its variance round the object: the sum has the standard deviation wanted.
        waves = np.cos(2 * math.pi * np.outer(along, np.arange(HARMONICS)) + turn) @ size * math.sqrt(2 / HARMONICS)
        shape = make_valid(Polygon(points + ways * (waves * self.jitter_um / frame.mpp)[:, None]))
        parts = [part for part in getattr(shape, "geoms", [shape]) if isinstance(part, Polygon)]
        return max(parts, key=lambda part: part.area, default=Polygon())
