"""What to annotate next: both stains, what the model finds hard, nothing that is covered, and the same every time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.bundle import load_bundle
from wsiseg.classes import ClassMap
from wsiseg.cli import wsiseg
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import RecipeError
from wsiseg.inference.annotate_next import CLASS, NextOptions, choose_next, farthest, look_at
from wsiseg.models import GLOMERULI

PINK, BLUE = (205, 120, 160), (90, 110, 190)


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> Path:
    """Tissue of 380 × 380 px with grain, on glass."""
    rng = np.random.default_rng(seed)
    picture = np.full((440, 440, 3), 245, np.float64)
    picture[30:410, 30:410] = np.array(colour) + rng.normal(0, 12, (380, 380, 1))
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[SlideEntry]:
    folder = tmp_path_factory.mktemp("slides")
    names = [*(f"pink{i}" for i in range(4)), "blue0", "blue1"]
    return [
        SlideEntry(draw(folder / f"{name}.png", PINK if name.startswith("pink") else BLUE, i), mpp=3.0)
        for i, name in enumerate(names)
    ]  # fmt: skip


OPTIONS = NextOptions(count=2, windows=3)


def chosen(slides: list[SlideEntry], out: Path, options: NextOptions = OPTIONS) -> list[str]:
    return [one.slide for one in choose_next(slides, load_bundle(GLOMERULI), options, out, device="cpu")]


def test_both_stains_are_chosen(slides: list[SlideEntry], tmp_path: Path) -> None:
    found = chosen(slides, tmp_path)
    assert {name[:4] for name in found} == {"pink", "blue"}
    assert chosen(slides, tmp_path) == found
    assert chosen(slides[::-1], tmp_path) == found


def test_an_annotated_slide_covers_its_stain(slides: list[SlideEntry], tmp_path: Path) -> None:
    annotations = tmp_path / "pink0.geojson"
    write_annotations(annotations, [], classes=ClassMap(("Background", "A")))
    listed = [SlideEntry(slides[0].slide, annotations, mpp=3.0), *slides[1:]]
    found = chosen(listed, tmp_path / "out", NextOptions(count=5, windows=3))
    assert found[0].startswith("blue")
    assert sorted(found) == ["blue0", "blue1", "pink1", "pink2", "pink3"]
    with pytest.raises(RecipeError, match="no slide without annotations"):
        chosen(listed[:1], tmp_path / "out")


def test_the_hard_one_of_two_that_lie_as_far_away_is_chosen() -> None:
    features = np.array([[1.0, 0], [0, 1.0], [0.1, 0]])
    order = [i for i, _, _ in farthest(features, np.array([0.1, 0.3, 0.9]), np.zeros((1, 2)), 3, 1.0)]
    assert order == [1, 0, 2]
    order = [i for i, _, _ in farthest(features, np.array([0.1, 0.3, 0.9]), np.zeros((1, 2)), 3, 0.0)]
    assert order == [0, 1, 2]
    order = [i for i, _, _ in farthest(features, np.array([0.1, 0.3, 9.0]), np.zeros((1, 2)), 1, 100.0)]
    assert order == [2]  # difficulty can outweigh distance


def test_flips_that_agree_are_easy() -> None:
    class Net(torch.nn.Module):
        """Sees red pixels; with `tilt` it also depends on where a pixel lies."""

        def __init__(self, tilt: float) -> None:
            super().__init__()
            self.tilt = tilt

        def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image]

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            ramp = torch.linspace(-1, 1, image.shape[-1]) * self.tilt
            object_ = image[:, 0] * 4 - 2 + ramp
            return torch.stack([-object_, object_], 1)

    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features, easy = look_at(Net(0.0), pixels)  # type: ignore[arg-type]
    assert features == pytest.approx(pixels.double().mean((1, 2)).numpy() / 255, abs=1e-5)
    assert easy == pytest.approx(0, abs=1e-6)
    assert (look_at(Net(2.0), pixels)[1] > 0.1).all()  # type: ignore[arg-type]


def test_the_command_writes_regions_for_qupath(slides: list[SlideEntry], tmp_path: Path) -> None:
    text = "slide,mpp\n" + "".join(f"{entry.slide},3.0\n" for entry in slides)
    (tmp_path / "slides.csv").write_text(text)
    out = tmp_path / "next"
    command = ["next", str(tmp_path / "slides.csv"), "--model", str(GLOMERULI), "--regions", "3", "--region-um", "300",
               "--windows", "3", "--out", str(out), "--device", "cpu"]  # fmt: skip
    done = CliRunner().invoke(wsiseg, command)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "next.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["slide"][:4] for row in rows} == {"pink", "blue"}
    written = {p.details.name: p for file in out.glob("*.geojson") for p in read_annotations(file).polygons}
    for row in rows:
        region = written[f"annotate {row['rank']}"]
        assert isinstance(region, LabelledPolygon)
        assert region.label == CLASS
        left, top, right, bottom = region.polygon.bounds
        place = (float(row["x_px"]), float(row["y_px"]), float(row["width_px"]), float(row["height_px"]))
        assert (left, top, right - left, bottom - top) == pytest.approx(place)
        assert right - left <= 96  # 300 µm at 3 µm/px, in steps of 32 px
    again = CliRunner().invoke(wsiseg, command)
    assert "use --overwrite" in str(again.exception)
