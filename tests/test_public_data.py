"""The preparation of public data sets and of corrections, on small files of the same shape."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from shapely import box as rectangle

from tests.command import python, wsiseg
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.bundle import load_bundle
from wsiseg.classes import ClassMap
from wsiseg.data.slides import SlideEntry, read_slides, write_slides
from wsiseg.geometry import Frame
from wsiseg.models import GLOMERULI
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import load_recipe
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import SlideSpec, generate, write_slide
from wsiseg.training.start import HEAD, build_network

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ClassMap(("Background", "Glomerulus"))
CM = 1e4  # µm


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    return python(ROOT / "pipelines" / name, *words)


def mask_and_picture() -> tuple[np.ndarray, np.ndarray]:
    """(700, 900) uint8 with two discs, one with a hole, and (700, 900, 3) uint8 that shows them."""
    y, x = np.mgrid[:700, :900]
    mask = ((x - 200) ** 2 + (y - 150) ** 2 < 90**2) | ((x - 880) ** 2 + (y - 520) ** 2 < 120**2)
    mask &= (x - 200) ** 2 + (y - 150) ** 2 > 20**2
    rng = np.random.default_rng(0)
    picture = rng.integers(180, 230, (700, 900, 3), np.uint8)
    picture[mask] = rng.integers(60, 120, (int(mask.sum()), 3), np.uint8)
    return mask.astype(np.uint8), picture


def run_lengths(mask: np.ndarray) -> str:
    """As the competition writes it: from 1, down the columns."""
    flat = np.concatenate([[0], mask.T.reshape(-1), [0]]).astype(np.int8)
    change = np.flatnonzero(np.diff(flat)) + 1
    return " ".join(map(str, np.stack([change[::2], change[1::2] - change[::2]], 1).reshape(-1)))


def painted(path: Path, frame: Frame) -> np.ndarray:
    return rasterise(read_annotations(path).polygons, CLASSES, frame.box, frame, frame)


def test_run_lengths_as_the_competition_writes_them() -> None:
    assert run_lengths(np.array([[0, 1, 0], [1, 1, 0]])) == "2 3"
    assert run_lengths(np.array([[1, 0], [0, 1]])) == "1 1 4 1"


@pytest.fixture(scope="module")
def hubmap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the competition's, with six small slides of five patients."""
    folder = tmp_path_factory.mktemp("hubmap")
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    mask, picture = mask_and_picture()
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    names = ["0aaa", "1bbb", "2ccc", "3ddd", "4eee", "5fff"]
    for name in names[:-1]:
        tifffile.imwrite(folder / "train" / f"{name}.tiff", picture, tile=(256, 256))
    # One as some of the competition's are: five dimensions, a picture for each colour.
    tifffile.imwrite(folder / "train" / "5fff.tiff", planes[None, None], photometric="minisblack", tile=(256, 256))
    tifffile.imwrite(folder / "test" / "9zzz.tiff", picture, tile=(256, 256))
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "encoding"])
        rows.writerows([name, run_lengths(mask)] for name in names if name != "1bbb")
    with (folder / "HuBMAP-20-dataset_information.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_file", "width_pixels", "height_pixels", "race", "patient_number"])
        rows.writerows([f"{name}.tiff", 900, 700, "", 60000 + min(i, 4)] for i, name in enumerate(names))
    corners = [[100, 60], [300, 60], [300, 240], [100, 240], [100, 60]]
    features = [
        {
            "type": "Feature", "id": "PathAnnotationObject",
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {"classification": {"name": label, "colorRGB": -3140401}, "isLocked": True},
        }
        for label in ("glomerulus", "Cortex")
    ]  # fmt: skip
    for name in ("0aaa", "1bbb"):
        (folder / "train" / f"{name}.json").write_text(json.dumps(features))
        (folder / "train" / f"{name}-anatomical-structure.json").write_text(json.dumps(features[1:]))
    return folder


def test_hubmap(hubmap: Path, tmp_path: Path) -> None:
    assert "--mpp" in script("prepare_hubmap.py", hubmap, "--out", tmp_path / "a").stderr
    done = script("prepare_hubmap.py", hubmap, "--out", tmp_path / "out", "--mpp", 0.5)
    assert done.returncode == 0, done.stderr
    rows = read_slides(tmp_path / "out" / "slides.csv")
    assert [row.name for row in rows] == ["0aaa", "1bbb", "2ccc", "3ddd", "4eee", "5fff"]
    assert [row.split for row in rows] == ["train"] * 4 + ["validation"] * 2
    assert [row.patient for row in rows[-2:]] == ["60004", "60004"]
    mask, picture = mask_and_picture()
    for row in rows:
        with open_slide(row.slide, mpp=row.mpp) as slide:
            assert np.array_equal(slide.read(slide.frame.box, slide.frame), picture), "all three colours"
            assert row.annotations is not None
            if row.name != "1bbb":
                assert np.array_equal(painted(row.annotations, slide.frame), mask)
    (drawn,) = read_annotations(tmp_path / "out" / "1bbb.geojson").polygons
    assert (drawn.label, drawn.polygon.bounds) == ("Glomerulus", (100, 60, 300, 240))
    again = script("prepare_hubmap.py", hubmap, "--out", tmp_path / "out", "--mpp", 0.5, "--from", "json")
    assert again.returncode == 0, again.stderr
    assert read_annotations(tmp_path / "out" / "0aaa.geojson").polygons[0].polygon.bounds == (100, 60, 300, 240)


def test_a_mask_of_another_slide_is_refused(hubmap: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "x.tiff").write_bytes((hubmap / "train" / "0aaa.tiff").read_bytes())
    for runs, message in (("629999 5", "does not fit its slide"), ("1 2 3", "not a list of starts and lengths")):
        (tmp_path / "train.csv").write_text(f"id,encoding\nx,{runs}\n")
        done = script("prepare_hubmap.py", tmp_path, "--out", tmp_path / "out", "--mpp", 0.5)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_kpis(tmp_path: Path) -> None:
    mask, picture = mask_and_picture()
    data = tmp_path / "KPIs24"
    for place in ("training/56Nx", "training/normal/img", "training/normal/mask", "validation/NEP25"):
        (data / place).mkdir(parents=True)
    stated = {"resolution": (CM / 0.25, CM / 0.25), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(data / "training/56Nx/12-116_wsi.tiff", picture, tile=(256, 256), **stated)
    tifffile.imwrite(data / "training/56Nx/12-116_mask.tiff", mask * 255, compression="zlib")
    tifffile.imwrite(data / "training/normal/img/n-1_wsi.tiff", picture, tile=(256, 256))
    tifffile.imwrite(data / "training/normal/mask/n-1_mask.tiff", np.stack([mask] * 3, -1), tile=(256, 256))
    tifffile.imwrite(data / "validation/NEP25/18-575_wsi.tiff", picture, tile=(256, 256))
    tifffile.imwrite(data / "validation/NEP25/18-575_mask.tiff", mask[::2, ::2] * 255, tile=(256, 256))
    words = (data, "--out", tmp_path / "out", "--mpp", 0.25)
    done = script("prepare_kpis.py", *words, "--mpp", "NEP25=0.5")
    assert done.returncode == 0, done.stderr
    rows = {row.name: row for row in read_slides(tmp_path / "out" / "slides.csv")}
    assert {name: (row.split, row.mpp) for name, row in rows.items()} == {
        "12-116_wsi": ("train", None), "n-1_wsi": ("train", 0.25), "18-575_wsi": ("validation", 0.5),
    }  # fmt: skip
    frame = Frame(900, 700, 0.25)
    for name in ("12-116", "n-1"):
        assert np.array_equal(painted(tmp_path / "out" / f"{name}.geojson", frame), mask)
    coarse = painted(tmp_path / "out" / "18-575.geojson", frame)
    assert np.array_equal(coarse[::2, ::2], mask[::2, ::2]), "a mask at half the resolution lies where it belongs"
    tifffile.imwrite(data / "validation/NEP25/18-575_mask.tiff", mask[:300])
    done = script("prepare_kpis.py", *words)
    assert done.returncode == 1
    assert "not of the same shape" in done.stderr


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a, 1.svs", "a.geojson", "b.svs"):
        (tmp_path / "in" / name).write_text("")
    rows = (
        SlideEntry(tmp_path / "in" / "a, 1.svs", tmp_path / "in" / "a.geojson", "p", "test", 0.25),
        SlideEntry(tmp_path / "in" / "b.svs", None, "q", roi=tmp_path / "in" / "a.geojson"),
    )
    write_slides(tmp_path / "lists" / "slides.csv", rows)
    read = read_slides(tmp_path / "lists" / "slides.csv")
    assert [(r.slide.resolve(), r.patient, r.split, r.mpp) for r in read] == [
        (r.slide, r.patient, r.split, r.mpp) for r in rows
    ]
    assert read[1].roi is not None
    assert read[1].roi.resolve() == rows[1].roi


def test_predict_correct_train_further(tmp_path: Path) -> None:
    """The loop of docs/correct-and-train.md, with the recipe that comes along and few steps."""
    (tmp_path / "slides").mkdir()
    for seed in range(1, 4):
        write_slide(generate(SlideSpec(seed, 1200, 1000, mpp=2.0)), tmp_path / "slides" / f"s{seed}.svs")
    recipe = ROOT / "pipelines" / "finetune-from-qupath.toml"
    out, results = tmp_path / "corrected", tmp_path / "results"
    done = wsiseg(
        "run", recipe, "--slides", f"{tmp_path}/slides/*.svs", "--model", GLOMERULI, "--out", results,
        "--engine", "torch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was corrected" in script("list_corrected.py", "--results", results, "--out", out / "slides.csv").stderr
    (tmp_path / "exported").mkdir()
    drawn = [LabelledPolygon(rectangle(100, 100, 200, 220), "Glomerulus")]
    for seed in (1, 2):  # nobody has looked at the third
        write_annotations(tmp_path / "exported" / f"s{seed}.geojson", drawn, classes=CLASSES)
    reviewed = results / "slides" / "s1" / "outlines.reviewed.geojson"
    write_annotations(reviewed, drawn, classes=CLASSES)
    words = ("--results", results, "--corrected", tmp_path / "exported", "--out", out / "slides.csv")
    listed = script("list_corrected.py", *words)
    assert listed.returncode == 0, listed.stderr
    rows = {row.name: row for row in read_slides(out / "slides.csv")}
    assert set(rows) == {"s1", "s2"}
    assert rows["s1"].annotations is not None
    assert rows["s1"].annotations.resolve() == reviewed.resolve(), "the newest counts"

    tiny = {"data.slides": out / "slides.csv", "model.weights": GLOMERULI, "training.steps": 2}
    tiny |= {"training.batch": 2, "training.crop": 64, "training.loaders": 0, "data.tile": 128}
    sets = [word for key, value in tiny.items() for word in ("--set", f"{key}={value}")]
    narrow = wsiseg("train", recipe, "--out", out, "--device", "cpu", "--quiet", *sets)
    assert narrow.returncode == 2
    assert "model.decoder_channels is 128, and 64 in the bundle" in narrow.stderr
    more = [*sets, "--set", "model.decoder_channels=64"]
    done = wsiseg("train", recipe, "--out", out, "--device", "cpu", "--quiet", "--overwrite", *more)
    assert done.returncode == 0, done.stderr
    assert "Starting from the model 'demo'" in done.stderr
    made = load_bundle(out / "model")
    assert made.provenance["encoder_weights"].startswith("the model 'demo', sha256 ")
    before, after = load_bundle(GLOMERULI).network().state_dict(), made.network().state_dict()
    name = "net.segmentation_head.0.weight"
    assert 0 < float((before[name] - after[name]).abs().max()) < 0.01, "two small steps away from where it began"


def test_other_classes_take_all_but_the_last_layer() -> None:
    overrides = (f"model.weights={GLOMERULI}", 'classes.names=["Background", "Tubule"]', "classes.colours=[]")
    generator, origin = build_network(load_recipe(ROOT / "pipelines" / "demo.toml", overrides), 2)
    assert isinstance(generator, SegmentationNet)
    assert "its last layer starts again" in origin
    before, after = load_bundle(GLOMERULI).network().state_dict(), generator.state_dict()
    for key, value in before.items():
        if not key.startswith(HEAD):
            assert (after[key] == value).all(), key
