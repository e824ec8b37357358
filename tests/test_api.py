"""`import wsiseg`: quick, and functions that do what the commands do, with results that show themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner

import wsiseg
from tests.example_slide import ROOT, run_python, write_example
from tests.test_docs_run import SMALL
from wsiseg.cli import wsiseg as command
from wsiseg.errors import AnnotationError, MissingExtraError
from wsiseg.geometry import Box
from wsiseg.models import GLOMERULI

mpl.use("agg")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    for seed, name in enumerate("ab", 5):
        write_example(folder, name, seed)
    return folder


@pytest.fixture(scope="module")
def found(example: Path) -> wsiseg.Polygons:
    return wsiseg.predict(example / "a.svs", GLOMERULI, out=example / "a.geojson", device="cpu")


def test_import_loads_nothing(tmp_path: Path) -> None:
    code = "import wsiseg, sys; print(len([m for m in sys.modules if m.split('.')[0] in ('numpy', 'torch', 'zarr')]))"
    assert run_python(code, tmp_path).strip() == "0"
    code = "import wsiseg, sys; wsiseg.open_slide; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    assert run_python(code, tmp_path).strip() == "False False"
    before = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import wsiseg"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    took = [int(line.split("|")[1]) for line in before.stderr.splitlines() if line.endswith("| wsiseg")]
    assert len(took) == 1
    assert took[0] < 100_000, "µs"


def test_every_name_is_there_and_typed() -> None:
    import wsiseg.api

    assert set(wsiseg.api.__all__) == set(wsiseg._API)
    stub = (ROOT / "wsiseg" / "__init__.pyi").read_text()
    for name in wsiseg.api.__all__:
        assert getattr(wsiseg, name) is getattr(wsiseg.api, name)
        assert name in dir(wsiseg)
        assert f"import {name} as {name}\n" in stub
    with pytest.raises(AttributeError, match="nonsense"):
        wsiseg.nonsense  # noqa: B018


def test_predict_gives_what_the_command_writes(example: Path, found: wsiseg.Polygons, tmp_path: Path) -> None:
    words = ["predict", str(example / "a.svs"), "--model", str(GLOMERULI), "--out", str(tmp_path / "a.geojson")]
    assert CliRunner().invoke(command, [*words, "--device", "cpu"], catch_exceptions=False).exit_code == 0
    said = json.loads((tmp_path / "a.geojson").read_text())
    assert {p.id for p in found} == {feature["id"] for feature in said["features"]}
    assert len(found) == len(said["features"]) > 0
    with wsiseg.open_slide(example / "a.svs") as slide:
        again = wsiseg.predict(slide, GLOMERULI, device="cpu")
    assert again.path is None
    assert [p.id for p in again] == [p.id for p in found]


def test_polygons(example: Path, found: wsiseg.Polygons, tmp_path: Path) -> None:
    assert sum(found.counts.values()) == len(found) == len(found[:1]) + len(found[1:])
    name = next(iter(found.counts))
    assert len(found.of(name)) == found.counts[name]
    assert found.areas_um2 is not None
    np.testing.assert_allclose(found.areas_um2, [p.polygon.area * 4 for p in found])  # 2 µm/px
    assert name in found._repr_html_()
    assert name in repr(found)
    assert found.save(tmp_path / "b.geojson").objects == len(found)
    bare = wsiseg.read_annotations(example / "a-truth.geojson")
    with pytest.raises(AnnotationError, match=r"wsiseg\.plot"):
        bare.plot()


def test_plots_are_at_their_place(example: Path, found: wsiseg.Polygons) -> None:
    ax = found.plot()
    minx, _, maxx, _ = found[0].polygon.bounds
    drawn = [line.get_xdata() for line in ax.lines]
    assert any(line.min() == pytest.approx(minx) and line.max() == pytest.approx(maxx) for line in drawn)
    assert ax.get_xlim() == (0, 800)
    assert ax.get_ylim() == (600, 0)
    part = wsiseg.plot(example / "a.svs", box=Box(100, 50, 200, 100))
    (image,) = part.images
    with wsiseg.open_slide(example / "a.svs") as slide:
        np.testing.assert_array_equal(image.get_array(), slide.read(Box(100, 50, 200, 100), slide.frame))


def test_evaluate(example: Path, found: wsiseg.Polygons) -> None:
    slide, reference = example / "a.svs", wsiseg.read_annotations(example / "a-truth.geojson", example / "a.svs")
    same = wsiseg.evaluate(slide, reference, reference)
    assert len(same.found) == len(reference)
    assert not same.missed
    assert not same.unmatched
    assert min(same.ious) == pytest.approx(1)
    real = wsiseg.evaluate(slide, reference, found)
    assert len(real.found) + len(real.missed) == len(reference)
    assert len(real.found) + len(real.unmatched) == len(found)
    assert real.metrics == wsiseg.evaluate(slide, example / "a-truth.geojson", example / "a.geojson").metrics
    half = wsiseg.evaluate(slide, reference, reference[1:])
    assert [p.id for p in half.missed] == [reference[0].id]
    texts = [text.get_text() for text in half.plot().get_legend().get_texts()]
    assert texts == [f"found ({len(reference) - 1})", "missed (1)", "unmatched (0)"]
    assert "missed" in half._repr_html_()
    assert str(half)


def test_tile_train_measure(example: Path, tmp_path: Path) -> None:
    tiles = wsiseg.tile(example / "a.svs", tmp_path / "t.zarr", mpp=4, size=64, annotations=example / "a-truth.geojson")
    assert len(tiles) > 3
    assert tiles.store.labelled
    assert len(tiles.plot(5).axes) >= 5
    assert "4 µm/px" in tiles._repr_html_()
    (tmp_path / "slides.csv").write_text(
        f"slide,annotations,split\n{example}/a.svs,{example}/a-truth.geojson,train\n"
        f"{example}/b.svs,{example}/b-truth.geojson,validation\n"
    )
    (tmp_path / "r.toml").write_text(SMALL.format(name="r", slides="slides.csv"))
    done = wsiseg.train(tmp_path / "r.toml", tmp_path / "run", changes=["training.steps=4"], device="cpu")
    assert done.model.path == tmp_path / "run" / "model"
    assert done.log["loss"][0][-1] == 4
    assert len(done.plot().axes) == 2
    assert "resolution" in done._repr_html_()
    tables = wsiseg.measure_objects(example / "a.svs", example / "a-truth.geojson")
    truth = wsiseg.read_annotations(example / "a-truth.geojson", example / "a.svs")
    assert sorted(tables["glomeruli"]["area_um2"]) == pytest.approx(sorted(truth.areas_um2), rel=1e-3)
    assert tables.plot("glomeruli", "area_um2").get_xlabel() == "area_um2"
    assert "glomeruli" in tables._repr_html_()


def test_tables_of_other_packages(found: wsiseg.Polygons, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsiseg.api import polygons

    monkeypatch.setattr(polygons, "find_spec", lambda name: None)
    for make in (found.to_geopandas, found.to_spatialdata):
        with pytest.raises(MissingExtraError, match="pip install"):
            make()


def test_a_geodataframe(found: wsiseg.Polygons) -> None:
    pytest.importorskip("geopandas", reason="GeoPandas is not installed")
    frame = found.to_geopandas()
    assert list(frame["class"]) == [p.label for p in found]
    assert list(frame.geometry) == [p.polygon for p in found]
    np.testing.assert_allclose(frame["area_um2"], found.areas_um2)


def test_spatial_data(found: wsiseg.Polygons) -> None:
    pytest.importorskip("spatialdata", reason="SpatialData is not installed")
    assert len(found.to_spatialdata().shapes["objects"]) == len(found)
