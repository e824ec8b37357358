"""A generated slide: its specification, its pixels on demand, and its exact ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from shapely import Polygon, get_parts, union_all
from shapely import box as rectangles
from shapely.affinity import scale

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.trace import trace
from wsiseg.classes import ClassMap
from wsiseg.errors import GeometryError, WsisegError
from wsiseg.geometry import Box, Frame
from wsiseg.synthetic import anatomy, optics
from wsiseg.synthetic.ground import BLUR, BUBBLE, FOLD, PEN, TISSUE, lay_ground, level, nodes
from wsiseg.synthetic.locate import OUTSIDE, World, where
from wsiseg.synthetic.nuclei import list_nuclei, stamp
from wsiseg.synthetic.paint import paint
from wsiseg.synthetic.stain import STAINS, Bath, develop, mix_bath
from wsiseg.synthetic.texture import textures

SAMPLE = 1.0  # µm: a coarser pixel is the mean of samples no farther apart than this
BLOCK = 1024  # samples along each side of what is drawn at once
ARTEFACTS = {"fold": 0.2, "pen": 0.15, "blur": 0.25}  # fraction of the slides that have one
ON_DEMAND = ("bubble",)  # drawn only where it is asked for, so that the slides of all seeds stay as they were
LABELS = {anatomy.GLOMERULUS: "Glomerulus", anatomy.SCLEROTIC: "Sclerotic glomerulus"}
NUCLEUS_LABELS = ("Non-podocyte nucleus", "Podocyte")
CLASSES = ClassMap(("Background", *LABELS.values(), *reversed(NUCLEUS_LABELS)))
CENTRES, PROFILES = "Podocyte centres in section", "Podocyte profiles"  # measurements of a true glomerulus
NUCLEI_BLOCK = 1000.0  # µm: nuclei are listed in squares of this size
PITCH = 8.0  # µm: how finely tissue and artefacts are traced
BLURRED = 1.5  # µm: a defocus with a larger standard deviation counts


@dataclass(frozen=True, slots=True)
class SlideSpec:
    """All that a generated slide depends on.

    Attributes:
        seed: 0 or more; another seed is another patient
        width_um, height_um: size of the slide in µm, 1000 or more each
        stain: "pas" (periodic acid-Schiff) or "he" (haematoxylin and eosin)
        mpp: µm per level-0 pixel; it changes how finely the slide is sampled and nothing else
        artefacts: any of "fold", "pen", "blur" and "bubble"; None lets the seed decide, and never on a bubble
        thickness_um: of the section, 1 to 10
    """

    seed: int
    width_um: float
    height_um: float
    stain: str = "he"
    mpp: float = 0.5
    artefacts: tuple[str, ...] | None = None
    thickness_um: float = 3.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise WsisegError(f"The seed {self.seed} is below 0: give a whole number from 0 on.")
        if min(self.width_um, self.height_um) < 1000:
            raise GeometryError(
                f"A slide of {self.width_um:g} × {self.height_um:g} µm has no room for tissue: "
                "give 1000 µm or more for each side."
            )
        if not 0.05 <= self.mpp <= 8:
            raise GeometryError(f"A generated slide cannot have {self.mpp:g} µm/px: give 0.05 to 8.")
        if self.stain not in STAINS:
            raise WsisegError(f"The stain {self.stain!r} is unknown: choose one of {', '.join(sorted(STAINS))}.")
        if not 1 <= self.thickness_um <= 10:
            raise GeometryError(f"A section is not {self.thickness_um:g} µm thick: give 1 to 10.")
        known = {*ARTEFACTS, *ON_DEMAND}
        for name in set(self.artefacts or ()) - known:
            raise WsisegError(f"The artefact {name!r} is unknown: choose from {', '.join(sorted(known))}.")


class SyntheticSlide:
    """Pixels and ground truth of a specification; made by `generate`.

    Attributes:
        spec: what it was made from
        frame: level 0
        truth: exact annotations of all glomeruli, level-0 pixels, "Glomerulus" or "Sclerotic glomerulus"; each states
            how many profiles of podocytes lie in it, and how many podocytes have their centre in the section
    """

    def __init__(self, spec: SlideSpec, world: World, bath: Bath) -> None:
        self.spec, self._world, self._bath = spec, world, bath
        self.frame = Frame(round(spec.width_um / spec.mpp), round(spec.height_um / spec.mpp), spec.mpp)
        self._pen = np.array(optics.PENS[spec.seed % len(optics.PENS)])
        self.truth = tuple(self._glomeruli())

    def read(self, box: Box, frame: Frame) -> NDArray[np.uint8]:
        """The pixels of a box, uint8 (h, w, 3).

        Args:
            box: in pixels of `frame`; beyond the frame lies glass
            frame: `slide.frame`, or `slide.frame.at(mpp)` for another resolution

        Raises:
            GeometryError: the frame belongs to another slide
        """
        if frame not in (self.frame, self.frame.at(frame.mpp)):
            raise GeometryError(f"{frame} is not a frame of this slide: use `slide.frame.at({frame.mpp:g})`.")
        factor = max(1, math.ceil(frame.mpp / SAMPLE - 1e-6))
        out = np.empty((*box.shape, 3), np.uint8)
        side = max(1, BLOCK // factor)  # however large the box is, memory for its samples stays small
        for y in range(box.y, box.bottom, side):
            for x in range(box.x, box.right, side):
                part = Box(x, y, side, side).overlap(box)
                light = self._light(part, factor, frame.mpp / factor)
                out[part.relative_to(box).slices] = optics.expose(light, factor)
        return out

    def _light(self, box: Box, factor: int, step: float) -> NDArray[np.float32]:
        """Light (h·factor, w·factor, 3) of a box, in samples of `step` µm."""
        world, bath, reach = self._world, self._bath, optics.BLUR_MARGIN
        left, top, rows, cols = box.x * factor, box.y * factor, box.h * factor, box.w * factor
        right, bottom = (left + cols) * step + reach, (top + rows) * step + reach  # µm
        most = nodes(world.planes, left * step - reach, top * step - reach, right, bottom).max((0, 1))
        margin = math.ceil(reach / step) if most[BLUR] > 0 else 0
        left, top, rows, cols = left - margin, top - margin, rows + 2 * margin, cols + 2 * margin
        if most[TISSUE] < OUTSIDE - 150:
            light = np.empty((rows, cols, 3), np.float32)
            light[:] = bath.white
        else:
            stains = paint(left, top, step, rows, cols, world, bath.amounts, bool(most[FOLD] > -40))
            nuclei = list_nuclei(left * step, top * step, (left + cols) * step, (top + rows) * step, world)
            stamp(stains, nuclei, left, top, step, world, bath.amounts)
            light = develop(stains, bath.vectors, bath.white, bath.passing)
        if margin:
            light = optics.defocus(light, world.planes, left, top, step)[margin:-margin, margin:-margin].copy()
            left, top = left + margin, top + margin
        if most[PEN] > -40:
            optics.draw_pen(light, world.planes, world.smooth, self._pen, left, top, step)
        if most[BUBBLE] > -20:
            optics.draw_bubbles(light, world.planes, world.smooth, left, top, step)
        optics.drop_dust(light, self.spec.seed, left, top, step)
        return light

    def _glomeruli(self) -> Iterator[LabelledPolygon]:
        for number, profile in enumerate(self._world.profiles):
            label = LABELS.get(int(profile["kind"]))
            if label is None:
                continue
            polygon = Polygon(anatomy.outline(profile))
            if profile["cut"] < anatomy.NO_CUT:
                polygon = polygon.intersection(_kept_half(profile))
            x, y, r = (float(profile[name]) for name in ("x", "y", "r"))
            nuclei = list_nuclei(x - 2 * r, y - 2 * r, x + 2 * r, y + 2 * r, self._world)
            depth = nuclei["z"][nuclei["profile"] == number]
            centred = int(((depth >= 0) & (depth <= self.spec.thickness_um)).sum())
            yield LabelledPolygon(
                scale(polygon, 1 / self.spec.mpp, 1 / self.spec.mpp, origin=(0, 0)), label,
                measurements={CENTRES: centred, PROFILES: len(depth)},
            )  # fmt: skip

    @cached_property
    def tissue(self) -> tuple[LabelledPolygon, ...]:
        """Annotations of the tissue, holes included, level-0 pixels, in steps of 8 µm."""
        rows, cols = (math.ceil(um / PITCH) for um in (self.spec.height_um, self.spec.width_um))
        steps = np.diff(np.pad(_tissue_mask(rows, cols, self._world), ((0, 0), (1, 1))), axis=1)
        row, left = np.nonzero(steps == 1)
        _, right = np.nonzero(steps == -1)
        side = PITCH / self.spec.mpp
        shape = union_all(rectangles(left * side, row * side, right * side, (row + 1) * side))
        return tuple(LabelledPolygon(part, "Tissue") for part in get_parts(shape) if part.area * self.spec.mpp**2 > 400)

    def artefacts(self) -> Iterator[LabelledPolygon]:
        """Annotations of the artefacts as drawn, level-0 pixels, in steps of 8 µm: the ground truth for quality control.

        "Blur" is tissue with a defocus of more than 1.5 µm, "Fold" tissue that lies double, "Pen" any place under ink,
        "Bubble" a bubble with its rim. They may overlap.
        """
        shape = tuple(math.ceil(um / PITCH) for um in (self.spec.height_um, self.spec.width_um))
        frame = Frame(shape[1], shape[0], PITCH)
        tissue = rasterise(self.tissue, ClassMap(("Background", "Tissue")), frame.box, frame, self.frame)
        for name, plane, least in (
            ("Blur", BLUR, BLURRED),
            ("Fold", FOLD, 0.0),
            ("Pen", PEN, 0.0),
            ("Bubble", BUBBLE, 0.0),
        ):
            mask = _above(self._world.planes, plane, least, *shape)
            if name in ("Blur", "Fold"):
                mask &= tissue
            yield from trace([mask], ClassMap(("Background", name)), frame, self.frame)

    def nuclei(self) -> Iterator[LabelledPolygon]:
        """Annotations of all nuclear profiles as drawn, "Podocyte" or "Non-podocyte nucleus", level-0 pixels.

        They are listed block by block: memory does not grow with the slide.
        """
        angle = np.arange(16) * (math.pi / 8)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        width, height = self.spec.width_um, self.spec.height_um
        for top in np.arange(0, height, NUCLEI_BLOCK):
            for left in np.arange(0, width, NUCLEI_BLOCK):
                right, bottom = min(left + NUCLEI_BLOCK, width), min(top + NUCLEI_BLOCK, height)
                for n in list_nuclei(left, top, right, bottom, self._world):
                    if left <= n["x"] < right and top <= n["y"] < bottom:
                        turn = np.array([[n["c"], n["s"]], [-n["s"], n["c"]]])
                        corners = (ring * (n["a"], n["b"])) @ turn + (n["x"], n["y"])
                        yield LabelledPolygon(Polygon(corners / self.spec.mpp), NUCLEUS_LABELS[int(n["podocyte"])])


def generate(spec: SlideSpec) -> SyntheticSlide:
    """Lays out a slide; its pixels are drawn when they are read."""
    # One random stream per part, so that a change in one part leaves the others as they are.
    chance = [np.random.Generator(np.random.PCG64([spec.seed, part])) for part in range(4)]
    artefacts = spec.artefacts
    if artefacts is None:
        artefacts = tuple(name for name, fraction in ARTEFACTS.items() if chance[0].uniform() < fraction)
    size = (spec.width_um, spec.height_um)
    planes = lay_ground(chance[1], *size, artefacts)
    profiles = anatomy.place_profiles(chance[2], planes, size)
    start, items, columns = anatomy.index_profiles(profiles, size)
    angle, shift = chance[0].uniform(0, math.pi), chance[0].uniform(0, 512)
    ragged = chance[0].uniform(9, 18)
    world = World(
        planes, *textures(), profiles, start, items, columns,
        shift, math.cos(angle), math.sin(angle), ragged, spec.seed, spec.thickness_um,
    )  # fmt: skip
    return SyntheticSlide(spec, world, mix_bath(chance[3], spec.stain))


def _kept_half(profile: np.void) -> Polygon:
    """The half plane, in µm and as far as it matters, on the kept side of a profile's cut."""
    x, y, far = float(profile["x"]), float(profile["y"]), 4 * float(profile["r"])
    along, depth = np.array([-profile["cut_y"], profile["cut_x"]]), np.array([profile["cut_x"], profile["cut_y"]])
    edge = np.array([x, y]) + profile["cut"] * depth
    return Polygon([edge - far * along, edge + far * along, edge + far * (along - depth), edge - far * (along + depth)])


@njit(cache=True, nogil=True)
def _above(planes, plane, least, rows, cols):
    mask = np.zeros((rows, cols), np.uint8)
    for r in range(rows):
        for c in range(cols):
            mask[r, c] = level(planes, plane, (c + 0.5) * PITCH, (r + 0.5) * PITCH) > least
    return mask


@njit(cache=True, nogil=True)
def _tissue_mask(rows, cols, w):
    mask = np.zeros((rows, cols), np.int8)
    for r in range(rows):
        for c in range(cols):
            if where((c + 0.5) * PITCH, (r + 0.5) * PITCH, w)[0] != anatomy.GLASS:
                mask[r, c] = 1
    return mask
