"""Process one slide on a worker, from its file to its record."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import time
import traceback
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash
from wsiseg.atomic import atomic_write
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import BusyError, MismatchError, OutputError, WsisegError
from wsiseg.memory import budget, estimate
from wsiseg.process_memory import peak_mib
from wsiseg.progress import Report
from wsiseg.run.plan import FORMAT, Facts, Plan, Tell, made_from
from wsiseg.run.results import RECORD, Results
from wsiseg.run.stages import STAGES, Work, engines_of
from wsiseg.slides.open import open_slide
from wsiseg.stores.reservation import RESERVATION, differences, reserve

ENGINE = "engine.json"
# A worker that lost the network may still be at it when another one is given its slide: that one waits.
PATIENCE_S, POLL_S = 300.0, 0.5
# How PyTorch (CPU, CUDA) and OpenVINO say that an allocation failed.
NO_MEMORY = re.compile(r"out of memory|(can't|cannot) allocate|not enough memory|bad_alloc", re.IGNORECASE)
# What run.json keeps of a record.
KEPT = ("slide", "patient", "engine", "stages", "outputs", "versions", "times", "host")


def process(entry: SlideEntry, plan: Plan, tell: Tell) -> Facts:
    """Do everything for one slide, unless its results exist; errors of the slide are returned, never raised.

    Args:
        entry: the slide
        plan: what to make of it
        tell: told {"event": "tiles", "name", "done", "all"} now and then

    Returns:
        {"name", "path", "state": "done" | "already" | "failed", "error", "seconds", "peak_mib", …}, with what `KEPT`
        names; the peak is the most that the worker has held since it was started
    """
    began = time.monotonic()
    facts: Facts = {
        "name": entry.name,
        "path": str(entry.slide),
        "mpp": entry.mpp,
        "state": "failed",
        "error": entry.fault,
    }
    if not entry.fault:
        try:
            state, record = _make(entry, plan, tell)
            facts |= {"state": state, **{key: record[key] for key in KEPT}}
        except (WsisegError, OSError) as error:
            facts["error"] = str(error)
        except Exception as error:  # a fault of ours with one slide must not keep the others waiting
            facts["error"] = _told(error)
    return facts | {"seconds": round(time.monotonic() - began, 3), "peak_mib": round(peak_mib(), 1)}


def _told(error: Exception) -> str:
    """One sentence about an unexpected error, or about memory, for which libraries have their own errors."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        return "There is not enough memory: use fewer workers, or a model with smaller tiles or batches."
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"Unexpected {type(error).__name__} in {where}: {error}. Please report it with this slide."


def _make(entry: SlideEntry, plan: Plan, tell: Tell) -> tuple[str, Facts]:
    """("done" or "already", record)."""
    results = Results(plan.results)
    folder = results.folder(entry.name, plan.scratch)
    decoding = plan.identity["usage"]["scaled_decoding"] if plan.identity else plan.recipe.data.scaled_decoding
    with ExitStack() as stack:
        slide = stack.enter_context(
            open_slide(entry.slide, mpp=entry.mpp, scaled_decoding=decoding, series=entry.series)
        )
        made = json.loads(json.dumps(made_from(slide, entry, plan)))
        found = results.record(entry.name)
        if found is not None and _check(found["made_from"], made, f"{plan.results}/slides/{entry.name}", plan):
            return "already", found
        needed = estimate(slide, [m for m in (plan.identity, plan.identity.get("parent")) if m])
        stack.enter_context(nullcontext() if plan.max_ram is None else budget(plan.max_ram).share(needed))
        work = _claim(stack, folder, made, plan)
        if work is not None:
            _run_stages(Work(slide, entry, plan, work, _teller(entry, tell)), made)
    record: Facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if results.remote:
        results.publish(folder, entry.name)
        shutil.rmtree(folder)
    return ("already" if work is None and not results.remote else "done"), record


def _check(old: Facts, made: Facts, place: str, plan: Plan) -> bool:
    """Whether finished results are those that are wanted; MismatchError if they are others and must stay."""
    found = differences(old, made)
    if found and not plan.overwrite:
        raise MismatchError(
            f"{place} was made from something else ({'; '.join(found[:3])}): choose another --out or use --overwrite."
        )
    return not found


def _claim(stack: ExitStack, folder: Path, made: Facts, plan: Plan) -> Path | None:
    """The folder to work in until the stack is closed; None if somebody has finished it meanwhile."""
    until, overwrite = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            return stack.enter_context(reserve(folder, made, overwrite=overwrite))
        except MismatchError:
            if overwrite or not plan.overwrite:
                raise
            _only_ours(folder)
            overwrite = True
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


def _only_ours(folder: Path) -> None:
    """OutputError if finished results lie together with what no stage made, such as a person's review of them."""
    if not folder.exists():
        return
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    foreign = sorted(set(outputs_of(folder)) - set(record["outputs"]))
    if foreign:
        raise OutputError(
            f"{folder} holds {', '.join(foreign)}, which wsiseg run did not make: move it elsewhere first."
        )


def _teller(entry: SlideEntry, tell: Tell) -> Report:
    return lambda now: tell({"event": "tiles", "name": entry.name, "done": now.done, "all": now.total})


def _run_stages(work: Work, made: Facts) -> None:
    """All stages, and the record of them, in a folder that is ours alone."""
    began, clock = datetime.now(UTC), time.monotonic()
    engine = None
    if work.plan.model is not None:
        engine = engines_of(work.plan)[0][1].identity
        _only_of_this_engine(work.folder, engine)
    stages, seconds = {}, {}
    for name in work.plan.recipe.run.stages:
        before = time.monotonic()
        stages[name] = STAGES[name](work)
        seconds[name] = round(time.monotonic() - before, 3)
    work.slide.check_unchanged()
    (work.folder / ENGINE).unlink(missing_ok=True)
    record = {
        "kind": "record",
        "format": FORMAT,
        "slide": made["slide"],
        "patient": work.entry.patient,
        "made_from": made,
        "engine": engine,
        "stages": stages,
        "outputs": outputs_of(work.folder),
        "versions": {"wsiseg": __version__, "python": platform.python_version()},
        "times": {
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
            "stages": seconds,
        },
        "host": platform.node(),
    }
    with atomic_write(work.folder / RECORD) as sink:
        sink.write(json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


def _only_of_this_engine(folder: Path, engine: Facts) -> None:
    """Start again where another engine has begun: its last bits must not be mixed with ours."""
    path = folder / ENGINE
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(engine)):
        return
    for entry in folder.iterdir():
        if entry.name != RESERVATION:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with atomic_write(path) as sink:
        sink.write(json.dumps(engine).encode())


def outputs_of(folder: Path) -> Facts:
    """Path -> bytes and SHA-256 of every result in a folder; a Zarr store counts as one, its files by name."""
    found: Facts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        parts = path.relative_to(folder).parts
        if parts[0] in (RESERVATION, RECORD, ENGINE):
            continue
        store = next((i for i, part in enumerate(parts) if part.endswith(".zarr")), None)
        name = "/".join(parts if store is None else parts[: store + 1])
        entry = found.setdefault(name, {"bytes": 0, "sha256": ""})
        entry["bytes"] += path.stat().st_size
        digest = file_hash(path)
        if store is not None:
            inner = "/".join(parts[store + 1 :])
            digest = hashlib.sha256(f"{entry['sha256']}:{inner}:{digest}".encode()).hexdigest()
        entry["sha256"] = digest
    return found
