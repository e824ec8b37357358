"""Which slides or regions to annotate next: those that differ most from what is covered, and that the model finds hard.

    slide ─► tissue ─► a sample of windows ─► encoder ─► features ─► distance to the nearest that is covered ┐
                                         └──► four flips ─► disagreement ─► difficulty ─────────────────────┴─► choose

The next one has the largest score

    min over covered j ‖f_i - f_j‖ · (1 + weight · e_i / mean e)

and counts as covered from then on (farthest-point selection). f are the means of the encoder's deepest features over a
window, in units of their spread over all windows; e is how far the predictions of the four flips of a window differ from
their mean.

Source: Hoyer, Dai, Chen, Köring, Saha and Van Gool, "Three ways to improve semantic segmentation with self-supervised
depth estimation", CVPR 2021, https://arxiv.org/abs/2012.10782. There, features and difficulty come from a network of
depth; here, from the segmentation model itself. How the two are combined is our choice.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shapely import box as rectangle

from wsiseg import __version__
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import Details, LabelledPolygon
from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.bundle import ModelBundle
from wsiseg.classes import ClassMap
from wsiseg.data.augment import to_float
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import BundleError, RecipeError, TissueError
from wsiseg.geometry import Frame
from wsiseg.grid import Grid, Tile
from wsiseg.inference.engines.torch import find_device
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.progress import Progress, Report, silent
from wsiseg.selection.select import Roi, Selection
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide

CLASS = "Annotate*"  # of the rectangles; a recipe with data.roi = ["Annotate*"] learns inside them alone
TABLE = "next.csv"
WINDOW_PX = 256  # of the model, where whole slides are chosen
STEP_PX, LEAST_PX = 32, 64  # windows are multiples of the one, and at least the other
# Glass in a window makes it unlike all others. So windows of at least so much tissue are taken, if there are enough.
TISSUE = (0.9, 0.5)
FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))  # axes of (n, channels, h, w)


@dataclass(frozen=True, slots=True)
class NextOptions:
    """What is chosen, and from what.

    Attributes:
        count: how many slides or regions
        region_um: µm, width of regions; None chooses whole slides
        windows: of each slide that are looked at, at most
        weight: of the difficulty; 0 chooses by features alone
        seed: of the sample of windows
        splits: slides of these alone
    """

    count: int = 8
    region_um: float | None = None
    windows: int = 32
    weight: float = 1.0
    seed: int = 0
    splits: tuple[str, ...] = ("train",)


@dataclass(frozen=True, slots=True)
class Choice:
    """A slide or region to annotate.

    Attributes:
        rank: 1 for the first
        slide: name
        distance: of its features to the nearest that is covered, or for the very first one to the mean
        difficulty: disagreement of the flips, 0 to 1
        score: both together
        place: x, y, width and height of a region, in level-0 pixels; None for slides
    """

    rank: int
    slide: str
    distance: float
    difficulty: float
    score: float
    place: tuple[float, float, float, float] | None = None

    def to_row(self) -> dict[str, Any]:
        """One flat row, with the columns x_px, y_px, width_px and height_px for a region."""
        row: dict[str, Any] = {
            "rank": self.rank, "slide": self.slide, "distance": self.distance, "difficulty": self.difficulty,
            "score": self.score,
        }  # fmt: skip
        names = ("x_px", "y_px", "width_px", "height_px")
        return row | dict(zip(names, self.place or (), strict=False))


@dataclass(frozen=True, slots=True)
class _Seen:
    """The windows of a slide: (n, channels) features, (n,) difficulty, and (n, 4) x, y, width and height at level 0."""

    entry: SlideEntry
    level0: Frame
    identity: dict[str, Any]
    features: NDArray[np.float64]
    difficulty: NDArray[np.float64]
    places: NDArray[np.float64]


def choose_next(
    entries: Sequence[SlideEntry], bundle: ModelBundle, options: NextOptions, out: Path, *, device: str = "auto",
    say: Callable[[str], None] = lambda _: None, report: Report = silent,
) -> list[Choice]:  # fmt: skip
    """Choose what to annotate next, and write it: `TABLE`, and rectangles for each slide that has chosen regions.

    Annotated slides count as covered, as a whole. A slide without tissue is left out and said.

    Args:
        entries: the slide list
        bundle: the model
        options: see `NextOptions`
        out: the folder of the results
        device: where the network runs
        say: takes a line about a slide
        report: told how many slides are done

    Raises:
        RecipeError: every slide is annotated, or none has tissue
        BundleError: the model works inside another one's objects
        SlideError, OutputError
    """
    if bundle.parent is not None:
        raise BundleError(
            f"The model {bundle.name!r} works inside the objects of another one: choose with a model that predicts "
            "whole slides."
        )
    chosen = [entry for entry in entries if entry.split in options.splits]
    if all(entry.annotations is not None for entry in chosen):
        raise RecipeError(
            f"The list has no slide without annotations in {', '.join(options.splits)}: add slides, or take another --split."
        )
    where = find_device(device)
    net = bundle.network().to(where)
    seen = []
    for done, entry in enumerate(chosen):
        report(Progress(done, len(chosen), task=entry.name))
        try:
            seen.append(_look(entry, bundle, net, where, options))
        except TissueError as error:
            say(f"{entry.name} is left out: {error}")
    report(Progress(len(chosen), len(chosen)))
    if all(one.entry.annotations is not None for one in seen):
        raise RecipeError("No slide without annotations has tissue: check them with `wsiseg tissue`.")
    choices = _choose(seen, options)
    _write(out, seen, choices, bundle, options)
    return choices


def _look(
    entry: SlideEntry, bundle: ModelBundle, net: SegmentationNet, device: torch.device, options: NextOptions
) -> _Seen:
    usage = bundle.usage
    opening = open_slide(entry.slide, mpp=entry.mpp, scaled_decoding=usage.scaled_decoding, series=entry.series)
    with opening as slide:
        frame = slide.frame.at(usage.mpp)
        side = WINDOW_PX
        if options.region_um is not None:
            side = max(LEAST_PX, STEP_PX * round(options.region_um / usage.mpp / STEP_PX))
        tiles = _windows(slide, Grid(frame, side), entry, options)
        features, difficulty = [], []
        for first in range(0, len(tiles), usage.batch):
            some = tiles[first : first + usage.batch]
            images = np.stack([slide.read(tile.read, frame) for tile in some])
            f, e = look_at(net, torch.from_numpy(images).to(device))
            features.append(f)
            difficulty.append(e)
        slide.check_unchanged()
        sx, sy = frame.scale_to(slide.frame)
        places = [(t.keep.x * sx, t.keep.y * sy, t.keep.w * sx, t.keep.h * sy) for t in tiles]
        return _Seen(
            entry, slide.frame, dict(slide.identity), np.concatenate(features), np.concatenate(difficulty),
            np.array(places),
        )  # fmt: skip


def _windows(slide: Slide, grid: Grid, entry: SlideEntry, options: NextOptions) -> list[Tile]:
    """A sample of the windows with tissue, in grid order."""
    roi = None if entry.roi is None else Roi.read(entry.roi)
    tissue = tissue_of(slide).grown()
    tiles = Selection(tissue=False, roi=roi).apply(slide, grid).tiles
    fraction = np.array([tissue.fraction(tile.keep, grid.frame) for tile in tiles])
    good = np.flatnonzero(fraction > 0)
    if not len(good):
        raise TissueError("No tissue was found on it.")
    for least in TISSUE:
        if (fraction >= least).sum() >= options.windows:
            good = np.flatnonzero(fraction >= least)
            break
    rng = np.random.default_rng((options.seed, zlib.crc32(entry.name.encode())))
    drawn = rng.permutation(len(good))[: options.windows]
    return [tiles[good[i]] for i in sorted(drawn.tolist())]


@torch.inference_mode()
def look_at(net: SegmentationNet, pixels: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a network makes of windows.

    Args:
        net: in eval mode
        pixels: (n, side, side, 3) uint8

    Returns:
        (n, channels) mean of the deepest features; (n,) mean over pixels and flips of the total variation distance between
        the probabilities of a flip, turned back, and the mean of all flips
    """
    images = to_float(pixels)
    features = net.encode(images)[-1].float().mean((2, 3))
    flips = [torch.flip(net(torch.flip(images, axes)).float().softmax(1), axes) for axes in FLIPS]
    middle = torch.stack(flips).mean(0)
    apart = torch.stack([(one - middle).abs().sum(1).mean((1, 2)) / 2 for one in flips]).mean(0)
    return features.double().cpu().numpy(), apart.double().cpu().numpy()


def _choose(seen: Sequence[_Seen], options: NextOptions) -> list[Choice]:
    every = np.concatenate([one.features for one in seen])
    # In units of the windows' root mean square distance from their mean, so that distances mean the same for any encoder.
    spread = np.sqrt(every.var(0).sum())
    units = [(one.features - every.mean(0)) / (spread if spread > 0 else 1.0) for one in seen]
    errors = [one.difficulty for one in seen]
    places: list[Any] = [[tuple(place) for place in one.places.tolist()] for one in seen]
    if options.region_um is None:
        units, errors = [u.mean(0, keepdims=True) for u in units], [e.mean(keepdims=True) for e in errors]
        places = [[None] for _ in seen]
    new = [k for k, one in enumerate(seen) if one.entry.annotations is None]
    old = [k for k, one in enumerate(seen) if one.entry.annotations is not None]
    candidates = np.concatenate([units[k] for k in new])
    covered = np.concatenate([units[k] for k in old]) if old else np.empty((0, candidates.shape[1]))
    names = [(seen[k].entry.name, place) for k in new for place in places[k]]
    difficulty = np.concatenate([errors[k] for k in new])
    found = farthest(candidates, difficulty, covered, options.count, options.weight)
    return [
        Choice(rank, names[i][0], distance, float(difficulty[i]), score, names[i][1])
        for rank, (i, distance, score) in enumerate(found, 1)
    ]


def farthest(
    features: NDArray[np.float64],
    difficulty: NDArray[np.float64],
    covered: NDArray[np.float64],
    count: int,
    weight: float,
) -> list[tuple[int, float, float]]:
    """Choose one after the other; see the module's docstring. Of equal scores the first counts.

    Args:
        features: (n, d) of the candidates
        difficulty: (n,) at least 0
        covered: (m, d) of what needs no choosing; with m = 0 the first choice is the most typical candidate
        count: how many, at most n
        weight: of the difficulty

    Returns:
        (place, distance to the nearest that is covered, score) in the order of choosing
    """
    usual = difficulty.mean()
    factor = 1 + weight * (difficulty / usual if usual > 0 else np.zeros_like(difficulty))
    found: list[tuple[int, float, float]] = []
    free = np.ones(len(features), bool)
    if len(covered):
        nearest = np.array([np.sqrt(((covered - one) ** 2).sum(1)).min() for one in features])
    else:
        from_mean = np.sqrt(((features - features.mean(0)) ** 2).sum(1))
        first = int(from_mean.argmin())
        found.append((first, float(from_mean[first]), float(from_mean[first] * factor[first])))
        free[first] = False
        nearest = np.sqrt(((features - features[first]) ** 2).sum(1))
    while len(found) < min(count, len(features)):
        score = np.where(free, nearest * factor, -1.0)
        i = int(score.argmax())
        found.append((i, float(nearest[i]), float(score[i])))
        free[i] = False
        nearest = np.minimum(nearest, np.sqrt(((features - features[i]) ** 2).sum(1)))
    return found


def _write(
    out: Path, seen: Sequence[_Seen], choices: Sequence[Choice], bundle: ModelBundle, options: NextOptions
) -> None:
    with translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    if options.region_um is not None:
        classes = ClassMap(("Background", CLASS))
        for one in seen:
            own = [choice for choice in choices if choice.slide == one.entry.name and one.entry.annotations is None]
            about = {
                "kind": "next", "version": __version__, "slide": one.identity, "level0": one.level0.to_json(),
                "model": bundle.identity, "seed": options.seed, "weight": options.weight, "windows": options.windows,
            }  # fmt: skip
            polygons = [_rectangle(choice) for choice in own]
            if polygons:
                write_annotations(
                    out / f"{one.entry.name}.geojson", polygons, classes=classes, properties={"wsiseg": about}
                )
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    rows = [choice.to_row() for choice in choices]
    table.writerow(rows[0])
    table.writerows(row.values() for row in rows)
    with atomic_write(out / TABLE) as sink:
        sink.write(text.getvalue().encode())


def _rectangle(choice: Choice) -> LabelledPolygon:
    assert choice.place is not None
    x, y, w, h = choice.place
    numbers = {"Rank": float(choice.rank), "Difficulty": round(choice.difficulty, 4)}
    named = Details(name=f"annotate {choice.rank}")
    return LabelledPolygon(rectangle(x, y, x + w, y + h), CLASS, measurements=numbers, details=named)


def render(choices: Sequence[Choice]) -> str:
    """The choices as a text table."""
    width = max(map(len, ["slide", *(choice.slide for choice in choices)]))
    header = f"rank  {'slide':<{width}}  distance  difficulty"
    lines = [header + (f"{'x':>8}{'y':>8}" if choices[0].place else "")]
    for one in choices:
        place = f"{one.place[0]:>8.0f}{one.place[1]:>8.0f}" if one.place else ""
        lines.append(f"{one.rank:>4}  {one.slide:<{width}}  {one.distance:>8.3f}  {one.difficulty:>10.4f}{place}")
    return "\n".join(lines)
