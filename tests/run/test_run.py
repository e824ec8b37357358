"""A run: every slide once, one bad slide alone, the same again is nothing to do; results anywhere."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import fsspec
import pytest
import torch

from tests.run.conftest import Lab
from wsiseg.cli.run_screen import render
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import OutputError, RecipeError, SchedulerError
from wsiseg.memory import BASE, Budget, estimate
from wsiseg.recipe.schema import Stage
from wsiseg.report.write import write_report
from wsiseg.run import one_slide
from wsiseg.run.listed import list_slides
from wsiseg.run.one_slide import process
from wsiseg.run.plan import Facts, Plan
from wsiseg.run.runner import Summary, executor, one_by_one
from wsiseg.run.runner import run as run_all
from wsiseg.run.stages import STAGES
from wsiseg.slides.open import open_slide
from wsiseg.stores.tiles import TileStore

Results = Callable[[Path], dict[str, bytes]]
SMALL = 8 * 1024  # bytes: as much as the scheduler may be sent, or answered, about one slide


def run(entries: Iterable[SlideEntry], plan: Plan) -> tuple[Summary, list[Facts]]:
    events: list[Facts] = []
    return run_all(list(entries), plan, one_by_one, events.append), events


def test_the_stages_are_those_of_the_schema() -> None:
    assert tuple(STAGES) == get_args(Stage)


def test_what_a_slide_leaves(lab: Lab, serial: dict[str, bytes]) -> None:
    names = {name.removeprefix("slides/s1/") for name in serial if name.startswith("slides/s1/")}
    assert names == {
        "outlines.geojson", "outlines.xml", "measurements/slides.csv", "measurements/glomeruli.csv", "claim.json",
        "record.json",
    }  # fmt: skip
    record = json.loads(serial["slides/s1/record.json"])
    assert set(record["outputs"]) == names - {"claim.json", "record.json"}
    assert all(value["bytes"] == len(serial[f"slides/s1/{name}"]) for name, value in record["outputs"].items())
    assert record["stages"]["predict"]["objects"] == record["stages"]["export"]["xml"] > 0
    assert record["engine"]["threads"] == 1
    told = json.loads((lab.folder / "serial" / "run.json").read_text())
    assert told["counts"] == {"done": 4, "already": 0, "failed": 0, "not reached": 0}
    assert [facts["name"] for facts in told["slides"]] == ["s1", "s2", "s3", "s4"]
    assert told["slides"][0]["outputs"] == record["outputs"]
    assert set(told["slides"][0]["times"]["stages"]) == {"predict", "measure", "export"}


def test_one_bad_slide_stops_no_other_and_is_tried_again(lab: Lab, tmp_path: Path, results_of: Results) -> None:
    good = lab.slides[0].read_bytes()
    paths = [tmp_path / name for name in ("a.svs", "bad.svs", "c.svs")]
    for path, data in zip(paths, (good, good[:3000], lab.slides[1].read_bytes()), strict=True):
        path.write_bytes(data)
    entries = list_slides(str(tmp_path / "*.svs"))
    plan = lab.plan(tmp_path / "out")
    first, events = run(entries, plan)
    assert [facts["state"] for facts in first.slides] == ["done", "failed", "done"]
    assert "bad.svs cannot be opened: it is cut off" in first.slides[1]["error"]
    assert [e["name"] for e in events if e["event"] == "slide"] == ["a", "bad", "c"]
    assert "bad.svs cannot be opened" in render(first).replace("\n", " ")
    assert not (tmp_path / "out" / "slides" / "bad").exists()
    before = results_of(tmp_path / "out")
    second, _ = run(entries, plan)
    assert [facts["state"] for facts in second.slides] == ["already", "failed", "already"]
    assert second.slides[0]["outputs"] == first.slides[0]["outputs"]
    paths[1].write_bytes(lab.slides[2].read_bytes())
    third, _ = run(entries, plan)
    assert [facts["state"] for facts in third.slides] == ["already", "done", "already"]
    after = results_of(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_a_fault_of_ours_is_recorded_too(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(work: object) -> Facts:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(STAGES, "predict", fail)
    summary, _ = run(list_slides(lab.pattern)[:2], lab.plan(tmp_path))
    assert [facts["state"] for facts in summary.slides] == ["failed", "failed"]
    assert "Unexpected ZeroDivisionError in test_run.py" in summary.slides[0]["error"]


def test_memory_that_pytorch_does_not_get_is_told_as_such(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_too_much(work: object) -> Facts:
        torch.empty(1 << 60)
        return {}

    monkeypatch.setitem(STAGES, "predict", ask_too_much)
    summary, _ = run(list_slides(lab.pattern)[:1], lab.plan(tmp_path))
    assert summary.slides[0]["error"].startswith("There is not enough memory: use fewer workers")


def test_something_else_is_refused_and_replaced_when_told(lab: Lab, tmp_path: Path) -> None:
    entries = list_slides(lab.pattern)[:1]
    run(entries, lab.plan(tmp_path))
    other = lab.plan(tmp_path, "run.formats=['csv']")
    refused, _ = run(entries, other)
    assert "run.formats is" in refused.slides[0]["error"]
    assert "--overwrite" in refused.slides[0]["error"]
    assert (tmp_path / "slides" / "s1" / "outlines.xml").exists()
    review = tmp_path / "slides" / "s1" / "outlines.reviewed.geojson"
    review.write_text("hours of work")
    kept, _ = run(entries, replace(other, overwrite=True))
    assert "holds outlines.reviewed.geojson, which wsiseg run did not make" in kept.slides[0]["error"]
    assert review.read_text() == "hours of work"
    review.unlink()
    again, _ = run(entries, replace(other, overwrite=True))
    assert again.slides[0]["state"] == "done"
    assert not (tmp_path / "slides" / "s1" / "outlines.xml").exists()
    assert run(entries, replace(other, overwrite=True))[0].slides[0]["state"] == "already", (
        "only what differs is redone"
    )
    (tmp_path / "slides" / "s1" / "outlines.geojson").unlink()
    lost, _ = run(entries, other)
    assert "outlines.geojson of" in lost.slides[0]["error"]


def test_unfinished_work_of_another_engine_is_not_mixed_with_ours(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: dict[str, bytes]
) -> None:
    entries, plan = list_slides(lab.pattern)[:1], lab.plan(tmp_path)

    def stop(work: object) -> Facts:
        raise MemoryError

    monkeypatch.setitem(STAGES, "measure", stop)
    assert "not enough memory" in run(entries, plan)[0].slides[0]["error"]
    partial = tmp_path / "slides" / "s1.partial"
    outlines = (partial / "outlines.geojson").read_bytes()
    assert outlines == serial["slides/s1/outlines.geojson"]
    (partial / one_slide.ENGINE).write_text('{"name": "another"}')
    (partial / "outlines.geojson").write_text("of another engine")
    monkeypatch.undo()
    assert run(entries, plan)[0].slides[0]["state"] == "done"
    assert (tmp_path / "slides" / "s1" / "outlines.geojson").read_bytes() == outlines


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_results_at_a_url_are_those_of_a_folder(lab: Lab, tmp_path: Path, kind: str, serial: dict[str, bytes]) -> None:
    place = f"memory://{tmp_path.name}" if kind == "memory" else (tmp_path / "out").as_uri()
    entries, plan = list_slides(lab.pattern)[:2], lab.plan(place, "run.labels=true")
    first, _ = run(entries, plan)
    assert [facts["state"] for facts in first.slides] == ["done", "done"]
    files, root = fsspec.core.url_to_fs(place)
    there = {path[len(root) :].lstrip("/") for path in files.find(root)}
    assert "run.json" in there
    assert "slides/s1/record.json" in there
    assert any(name.startswith("slides/s1/labels.zarr/") for name in there)
    for name in ("outlines.geojson", "outlines.xml", "measurements/glomeruli.csv"):
        assert files.cat_file(f"{root}/slides/s2/{name}") == serial[f"slides/s2/{name}"]
    assert not list((lab.folder / "scratch" / "slides").iterdir()), "nothing stays on the local disk"
    assert [facts["state"] for facts in run(entries, plan)[0].slides] == ["already", "already"]
    other = replace(lab.plan(place, "run.formats=['csv']"), overwrite=True)
    assert [facts["state"] for facts in run(entries[:1], other)[0].slides] == ["done"]
    assert not files.exists(f"{root}/slides/s1/outlines.xml")
    assert not files.exists(f"{root}/slides/s1/labels.zarr")
    assert [facts["state"] for facts in run(entries[:1], replace(plan, overwrite=True))[0].slides] == ["done"]
    files.rm(f"{root}/slides/s1/record.json")  # as if the upload had been cut off
    assert [facts["state"] for facts in run(entries, plan)[0].slides] == ["done", "already"]


def test_the_record_is_sent_last(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = (tmp_path / "out").as_uri()
    files, _ = fsspec.core.url_to_fs(place)
    sent: list[str] = []

    def put(self: object, source: str, target: str, **_: object) -> None:
        sent.append(Path(target).name)
        if len(sent) == 3:
            raise ConnectionError("the network is gone")
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(type(files), "put_file", put)
    entries, plan = list_slides(lab.pattern)[:1], lab.plan(place)
    failed, _ = run(entries, plan)
    assert "cannot be written (the network is gone)" in failed.slides[0]["error"]
    assert "record.json" not in sent
    assert run(entries, plan)[0].slides[0]["state"] == "done"
    assert sent[-1] == "record.json"


def test_workers_are_given_the_largest_slides_first(lab: Lab, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.svs", "b.svs", "c.svs")]
    for path, size in zip(paths, (10, 30, 20), strict=True):
        path.write_bytes(bytes(size))
    entries = (*list_slides(str(tmp_path / "*.svs")), SlideEntry(tmp_path / "lost.svs"))
    asked: list[str] = []

    def others(given: Iterable[SlideEntry], plan: Plan, tell: object) -> Iterator[Facts]:
        for entry in given:
            asked.append(entry.name)
            yield process(replace(entry, fault="Not looked at."), plan, lambda event: None)

    summary = run_all(entries, lab.plan(tmp_path / "out"), others, lambda event: None)
    assert asked == ["b", "c", "a", "lost"]
    assert [facts["name"] for facts in summary.slides] == ["a", "b", "c", "lost"], "told in the list's order"


def test_places_and_executors_that_do_not_go_together_are_refused(lab: Lab, tmp_path: Path) -> None:
    entries = list_slides(lab.pattern)
    many = executor("processes", scheduler=None, workers=2)
    with pytest.raises(OutputError, match="memory of one process"):
        run_all(entries, lab.plan("memory://x"), many, print)
    with pytest.raises(OutputError, match="nonsense://x cannot be written"):
        run(entries, lab.plan("nonsense://x"))
    with pytest.raises(SchedulerError, match="--scheduler is for --executor dask"):
        executor("serial", scheduler="local", workers=1)


def test_a_report_of_what_there_is(lab: Lab, tmp_path: Path, results_of: Results) -> None:
    entries = list_slides(str(lab.slides[0]))
    made = []
    for place in (tmp_path / "a", tmp_path / "b"):
        plan = lab.plan(place, "run.stages=['qc', 'predict', 'measure', 'report']")
        summary, _ = run(entries, plan)
        assert summary.count("done") == 1, summary.slides
        made.append(results_of(place))
    assert made[0] == made[1]
    page = (tmp_path / "a" / "slides" / "s1" / "report.html").read_text()
    assert "Quality" in page
    assert "Measurements" in page
    assert str(tmp_path) not in page
    write_report(tmp_path / "all.html", tmp_path / "a")
    assert "s1" in (tmp_path / "all.html").read_text()
    with pytest.raises(RecipeError, match="report needs the objects of predict"):
        lab.plan(tmp_path, "run.stages=['report', 'predict']")


def test_tiles_are_those_of_training(lab: Lab, tmp_path: Path) -> None:
    plan = replace(lab.plan(tmp_path, "run.stages=['tile']"), model=None, identity={})
    summary, _ = run(list_slides(lab.pattern)[:1], plan)
    store = TileStore(tmp_path / "slides" / "s1" / "s1.zarr")
    assert summary.slides[0]["stages"]["tile"]["tiles"] == len(store) > 0
    assert set(summary.slides[0]["outputs"]) == {"s1.zarr"}


def test_little_is_sent_and_answered(lab: Lab, tmp_path: Path) -> None:
    entry, plan = list_slides(lab.pattern)[0], lab.plan(tmp_path, "run.labels=true")
    assert len(pickle.dumps((entry, plan))) < SMALL
    facts = process(entry, plan, lambda event: None)
    assert facts["state"] == "done"
    assert len(json.dumps(facts)) < SMALL


def test_a_slide_that_needs_more_memory_than_there_is_is_told_so(lab: Lab, tmp_path: Path) -> None:
    entries = list_slides(lab.pattern)[:1]
    summary, _ = run(entries, lab.plan(tmp_path, max_ram=BASE + 1000))
    assert "--max-ram" in summary.slides[0]["error"]
    with open_slide(entries[0].slide) as slide:
        plan = lab.plan(tmp_path)
        usage = {**plan.identity["usage"], "tile": 1024}
        assert 0 < estimate(slide, [plan.identity]) < estimate(slide, [{**plan.identity, "usage": usage}])


def test_slides_of_one_process_wait_for_their_share() -> None:
    from threading import Thread

    budget, order = Budget(BASE + 100), []

    def work(name: str) -> None:
        with budget.share(60):
            order.append(name)

    with budget.share(60):
        other = Thread(target=work, args=("second",))
        other.start()
        other.join(0.1)
        assert other.is_alive()
        order.append("first")
    other.join(5)
    assert order == ["first", "second"]
