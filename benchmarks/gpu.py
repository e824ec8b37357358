"""What a GPU has to show, in pieces that fit into calls of nine minutes.

    python benchmarks/gpu.py prepare [--python 3.12]
    python benchmarks/gpu.py run [PIECE …] [--device cuda] [--seconds 520] [--results FILE] [--tiny]
    python benchmarks/gpu.py table [--results FILE]

`prepare` needs a network: it packs the packages that a machine with PyTorch, timm, SciPy and pytest lacks into
build/gpu/site.tar.xz, 64 MiB at most with the checkout. `run` needs none. It does one unit of a piece after the other,
each in a process of its own, until the seconds are over, and keeps what each gave in the results; a unit that is there
is not done again, so further calls go on. To repeat a unit, take it out of the results. `--tiny` makes each unit a
smoke test, for machines without a GPU. `table` writes docs/results/gpu.md.

| piece | what |
|---|---|
| contract | the contract of every method, file by file, and of the engine, on the device |
| labels | the label map of a slide against the CPU's |
| forward | tiles/s of the bare network: precisions, memory formats, `torch.compile`, CUDA graphs |
| predict | end to end against the bare network, tiles decoded by threads of the CPU |
| train | steps/s of every method and the fraction of waiting |
| processes | two processes that share the device have the gradients of one |
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.results import machine, record

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ROOT / "build" / "gpu"
RESULTS = CARRIED / "results.json"
MOST = 64 * 2**20  # bytes of the checkout and of what is carried with it
SECONDS = 520  # of a call
LONGEST = 240  # s of a unit
# What the machine lacks; the versions are those of constraints.txt.
MISSING = (
    "annotated-types", "donfig", "geojson", "google-crc32c", "imagecodecs", "lightning-fabric", "lightning-utilities",
    "numcodecs", "openslide-bin", "openslide-python", "orjson", "pydantic", "pydantic-core", "safetensors",
    "segmentation-models-pytorch", "shapely", "simplejpeg", "tifffile", "tiffslide", "timm", "typing-inspection", "zarr",
)  # fmt: skip
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux1")
TRAINING_STEPS = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit runs, and whether it is but a smoke test."""

    device: str
    tiny: bool


# ---------------------------------------------------------------------------------------------------------------- pieces


def contract_units() -> list[str]:
    """The test files that hold a method's contract, and that of the engine."""
    found = (ROOT / "tests" / "methods").glob("test_*.py")
    return ["test_torch_engine", *sorted(p.stem for p in found if "Contract" in p.read_text())]


def contract(unit: str, place: Place) -> dict[str, Any]:
    """Run the contract's own tests of a file; those that the file adds are about other things than the device."""
    from tests.methods.contract import MethodContract

    tests = [name for name, _ in inspect.getmembers(MethodContract, inspect.isfunction) if name.startswith("test_")]
    chosen = tests[:1] if place.tiny else tests
    file = ROOT / "tests" / ("" if unit == "test_torch_engine" else "methods") / f"{unit}.py"
    command = [sys.executable, "-m", "pytest", str(file), "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["--import-mode=importlib"] + ([] if unit == "test_torch_engine" else ["-k", " or ".join(chosen)])
    settings = {"WSISEG_TEST_DEVICE": place.device, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    if not counts:
        raise RuntimeError((done.stdout + done.stderr)[-2000:])
    bad = re.findall(r"^(?:FAILED|ERROR) \S*::(\S+.*)$", done.stdout, re.MULTILINE)
    return {"passed": counts.get("passed", 0), "failed": [line[:300] for line in bad]}


def labels(unit: str, place: Place) -> dict[str, Any]:
    """Predict a slide on the CPU and on the device; fraction of the tissue's pixels that agree."""
    from wsiseg.bundle import load_bundle
    from wsiseg.inference.engines import make_engine
    from wsiseg.inference.predict import PredictOptions, grid_for, predict_slide
    from wsiseg.models import BUNDLED
    from wsiseg.selection.tissue import tissue_of
    from wsiseg.slides.open import open_slide
    from wsiseg.stores.labels import LabelMap
    from wsiseg.synthetic import SlideSpec, generate, write_slide

    side = 1000 if place.tiny else 4000
    bundle = load_bundle(BUNDLED[unit])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(generate(SlideSpec(31, side, side, "pas", 1.0, ())), folder / "slide.svs")
        maps, objects = [], []
        for device in ("cpu", place.device):
            job = PredictOptions(folder / f"{len(maps)}.geojson", labels=folder / f"{len(maps)}.zarr")
            with open_slide(folder / "slide.svs") as slide:
                objects.append(predict_slide(slide, bundle, make_engine(bundle, "torch", device), job).objects)
                tissue = tissue_of(slide, mpp=grid_for(slide, bundle).frame.mpp).mask
            there = LabelMap(folder / f"{len(maps)}.zarr")
            maps.append(there.read(there.frame.box))
    finer = bundle.usage.upsample  # pixels of the label map for each of the network, in which tissue was looked for
    tissue = tissue.repeat(finer, 0).repeat(finer, 1)
    height, width = (min(a, b) for a, b in zip(tissue.shape, maps[0].shape, strict=True))
    one, other = (found[:height, :width][tissue[:height, :width]] for found in maps)
    iou = {
        name: float(((one == i) & (other == i)).sum() / max(1, ((one == i) | (other == i)).sum()))
        for i, name in enumerate(bundle.classes.names)
    }
    return {"agree": float((one == other).mean()), "iou": iou, "objects": objects, "tissue_px": int(one.size)}


# precision, TF32, channels-last, compiled, graph
FORWARD = {
    "fp32": ("float32", False, False, False, False),
    "TF32": ("float32", True, False, False, False),
    "TF32, channels-last": ("float32", True, True, False, False),
    "bf16": ("bfloat16", True, False, False, False),
    "bf16, channels-last": ("bfloat16", True, True, False, False),
    "bf16, channels-last, compiled": ("bfloat16", True, True, True, False),
    "bf16, channels-last, CUDA graph": ("bfloat16", True, True, False, True),
}
BATCHES = (2, 8, 32)


def forward(unit: str, place: Place) -> dict[str, Any]:
    """Tiles/s of the bare network, tiles on the device already, and the fraction of pixels that fp32 labels alike."""
    import torch

    from wsiseg.bundle import load_bundle
    from wsiseg.data.augment import to_float
    from wsiseg.models import KIDNEY

    name, tf32, channels_last, compiled, graph = FORWARD[unit]
    dtype, device = getattr(torch, name), torch.device(place.device)
    cuda = device.type == "cuda"
    if (graph and not cuda) or (compiled and place.tiny):  # compiling takes minutes on two cores
        return {"left_out": True}
    bundle = load_bundle(KIDNEY)
    net = bundle.network().eval().to(device)
    side = 64 if place.tiny else bundle.usage.tile
    sample = torch.from_numpy(_tissue_tiles(side, 2)).to(device)
    wait: Callable[[], Any] = torch.cuda.synchronize if cuda else lambda: None

    def plain(pixels: Any) -> Any:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=not graph):
            return net(to_float(pixels)).float().softmax(1)

    rates = {}
    with torch.inference_mode() if not graph else torch.no_grad():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        with torch.autocast(device.type, enabled=False):
            exact = net(to_float(sample)).argmax(1)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
        work = torch.compile(plain) if compiled else plain
        agree = float((work(sample).argmax(1) == exact).float().mean())
        for batch in BATCHES[:1] if place.tiny else BATCHES:
            pixels = sample.repeat(batch // 2, 1, 1, 1)
            step = _graphed(work, pixels) if graph else lambda work=work, pixels=pixels: work(pixels)
            for _ in range(3):
                step()
            wait()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < (0.1 if place.tiny else 3.0):
                for _ in range(1 if place.tiny else 10):
                    step()
                wait()
                count += 1 if place.tiny else 10
            rates[str(batch)] = count * batch / (time.perf_counter() - start)
    return {"tiles_per_second": rates, "agree": agree}


def _graphed(work: Callable[[Any], Any], pixels: Any) -> Callable[[], Any]:
    """The same pass, recorded as a CUDA graph and replayed on the same tiles."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            work(pixels)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work(pixels)
    return graph.replay


def _tissue_tiles(side: int, count: int) -> Any:
    """(count, side, side, 3) uint8 of generated tissue at the bundle's µm/px."""
    import numpy as np

    from wsiseg.geometry import Box
    from wsiseg.synthetic import SlideSpec, generate

    made = generate(SlideSpec(3, 2500, 2500, "pas", 1.0, ()))
    frame = made.frame.at(2.25)
    return np.stack([made.read(Box(100 + 60 * i, 200, side, side), frame) for i in range(count)])


def predict(unit: str, place: Place) -> dict[str, Any]:
    """End to end against the bare network, in a slide that is large enough for a GPU."""
    from predict import bare
    from shared.slides import aperio

    from wsiseg.bundle import load_bundle
    from wsiseg.inference.engines import make_engine
    from wsiseg.inference.engines.engine import readers_for
    from wsiseg.inference.predict import PredictOptions, predict_slide
    from wsiseg.models import KIDNEY
    from wsiseg.slides.open import open_slide

    bundle = load_bundle(KIDNEY)
    batch = int(unit)
    tile = 128 if place.tiny else bundle.usage.tile
    bundle = replace(bundle, usage=replace(bundle.usage, batch=batch, tile=tile, overlap=tile // 4))
    engine = make_engine(bundle, "torch", place.device)
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = aperio(folder, 2048 if place.tiny else 30_000, 1.0)
        for number in range(1 if place.tiny else 3):
            tiles, least = bare(path, bundle, engine, 2 if place.tiny else 40)
            job = PredictOptions(folder / f"{number}.geojson")
            start = time.perf_counter()
            with open_slide(path) as slide:
                predict_slide(slide, bundle, engine, job)
            runs.append((least, time.perf_counter() - start))
    runs.sort(key=lambda run: run[1] / run[0])
    found = {"tiles": tiles, "runs": runs, "readers": readers_for(engine), "precision": engine.identity["precision"]}
    return found


def train_units() -> list[str]:
    """Every method."""
    from wsiseg.methods import METHODS

    return list(METHODS)


def only_name(method: str) -> str:
    """The override of a recipe that chooses a method with its own options, whatever the recipe says of another one."""
    return f'method={{name="{method}"}}'


def train(unit: str, place: Place) -> dict[str, Any]:
    """Steps/s and fraction of waiting of a method in fp32 and in bf16; random weights, generated slides."""
    from training import slides

    from wsiseg.progress import silent
    from wsiseg.recipe import load_recipe
    from wsiseg.training.run import train as learn
    from wsiseg.training.trainer import LOG_EVERY

    steps = 3 if place.tiny else TRAINING_STEPS
    folder = Path(tempfile.gettempdir()) / "wsiseg-gpu-training"
    changes = [f"data.slides={slides(folder, place.tiny)}", f"training.steps={steps}", "model.weights=none"]
    changes += [only_name(unit), *(f"training.{name}_every={steps}" for name in ("evaluate", "checkpoint"))]
    changes += ["training.batch=2", "training.crop=64", "training.loaders=0"] if place.tiny else [
        "training.batch=16", "training.crop=256", "training.loaders=4",
    ]  # fmt: skip
    found: dict[str, Any] = {}
    for precision in ("32-true",) if place.tiny else ("32-true", "bf16-mixed"):
        recipe = load_recipe(ROOT / "pipelines" / "demo.toml", (*changes, f"training.precision={precision}"))
        with tempfile.TemporaryDirectory() as out:
            learn(recipe, Path(out) / "run", device=place.device, resume=False, overwrite=False, report=silent)
            (log,) = sorted((Path(out) / "run").rglob("log.csv"))[-1:]
            rows = list(csv.DictReader(log.open(newline="")))
        means = {}
        for name in ("steps_per_second", "waiting"):
            values = [float(r["value"]) for r in rows if r["name"] == name]
            values = values[1:] or values  # the first ones pay for what is loaded and chosen
            means[name] = sum(values) / len(values)
        found[precision] = means
    assert steps % LOG_EVERY == 0 or place.tiny
    return found


def processes(unit: str, place: Place) -> dict[str, Any]:
    """The largest difference of a gradient between two processes that share the device and one with the whole batch."""
    import torch

    script = ROOT / "tests" / "methods" / "two_processes.py"
    kind = place.device.partition(":")[0]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            out = Path(folder) / f"{count}.pt"
            command = [sys.executable, str(script), unit, str(out), str(count), kind]
            settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29_400 + os.getpid() % 500), "LOCAL_RANK": "0"}
            started = [
                subprocess.Popen(
                    command, env={**os.environ, **settings, "NODE_RANK": str(rank)}, stderr=subprocess.PIPE, text=True
                )
                for rank in range(count)
            ]
            errors = [process.communicate()[1] for process in started]
            if any(process.returncode for process in started):
                raise RuntimeError("\n".join(errors)[-2000:])
            found.append(torch.load(out, weights_only=True))
    one, two = found
    worst = max(float((one[k] - two[k]).abs().max() / (one[k].abs().max() + 1e-9)) for k in one)
    return {"gradients": len(one), "worst": worst}


PIECES: dict[str, tuple[Callable[[], list[str]], Callable[[str, Place], dict[str, Any]]]] = {
    "labels": (lambda: ["kidney-glomeruli"], labels),
    "contract": (contract_units, contract),
    "forward": (lambda: list(FORWARD), forward),
    "predict": (lambda: [str(batch) for batch in BATCHES], predict),
    "train": (train_units, train),
    "processes": (lambda: ["supervised", "adversarial"], processes),
}


# -------------------------------------------------------------------------------------------------------------- commands


def prepare(version: str) -> None:
    """Pack what is missing; RuntimeError if it is too large to travel with the checkout."""
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [line for line in pinned if line.partition("==")[0].lower() in MISSING]
    assert len(wanted) == len(MISSING), "constraints.txt lacks a package"
    CARRIED.mkdir(parents=True, exist_ok=True)
    target = CARRIED / "site.tar.xz"
    with tempfile.TemporaryDirectory() as site:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:"]
        command += ["--target", site, "--python-version", version, "--implementation", "cp"]
        command += [word for libc in GLIBC for word in ("--platform", f"{libc}_x86_64")]
        subprocess.run([*command, *wanted], check=True)
        with tarfile.open(target, "w:xz") as archive:
            archive.add(site, ".")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")  # fmt: skip
    tree = sum((ROOT / os.fsdecode(name)).stat().st_size for name in listed if name)
    whole = tree + target.stat().st_size
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB; with the checkout {whole / 2**20:.1f} of 64 MiB.")
    if whole > MOST:
        raise RuntimeError("That is too much: leave a package out of MISSING, or carry a smaller checkout.")


def run(pieces: list[str], place: Place, results: Path, seconds: float) -> bool:
    """Do units until the time is over; whether all are done."""
    found = json.loads(results.read_text()) if results.exists() else {"units": {}}
    about = {"device": place.device, "tiny": place.tiny}
    if any(found.get("about", about)[key] != value for key, value in about.items()):
        raise SystemExit(f"{results} is of another device or size: choose other --results.")
    found["about"] = {**about, "machine": _machine(place.device)}
    end = time.monotonic() + seconds
    for piece in pieces:
        for unit in PIECES[piece][0]():
            key = f"{piece}/{unit}"
            left = end - time.monotonic()
            if key in found["units"]:
                continue
            if left < (5 if place.tiny else 60):
                return False
            print(f"{key} …", flush=True)
            start = time.perf_counter()
            given = _in_process(piece, unit, place, min(LONGEST, left))
            if given is None and left < LONGEST:
                return False  # it had less time than it may take: the next call begins with it
            value = {"failed": f"it took more than {LONGEST} s"} if given is None else given
            found["units"][key] = {**value, "seconds": round(time.perf_counter() - start, 1)}
            print(json.dumps(found["units"][key]), flush=True)
            results.parent.mkdir(parents=True, exist_ok=True)
            partial = results.with_name(f"{results.name}.partial")
            partial.write_text(json.dumps(found, indent=1) + "\n")
            partial.replace(results)
    return True


def _in_process(piece: str, unit: str, place: Place, limit: float) -> dict[str, Any] | None:
    """What a unit gives in a process of its own; None where it took too long."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, __file__, "unit", piece, unit, "--device", place.device, "--out", out.name]
        process = subprocess.Popen(
            [*command, *(["--tiny"] if place.tiny else [])], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            return None
        if process.returncode:
            return {"failed": errors.strip()[-2000:]}
        given: dict[str, Any] = json.loads(Path(out.name).read_text())
        return given


def _machine(device: str) -> str:
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "no GPU"
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return f"{machine()[:-1]}; {name}, PyTorch {torch.__version__}{cuda}."


def table(results: Path) -> str:
    """All results as Markdown."""
    units = json.loads(results.read_text())["units"]
    parts = []
    for piece in PIECES:
        mine = {key.partition("/")[2]: value for key, value in units.items() if key.startswith(f"{piece}/")}
        good = {
            unit: value for unit, value in mine.items() if "failed" not in value or isinstance(value["failed"], list)
        }
        if good:
            parts.append(f"### {piece}\n\n{ROWS[piece](good)}")
        parts += [f"{piece}/{unit} failed: `{value['failed'].splitlines()[-1]}`" for unit, value in mine.items() if unit not in good]  # fmt: skip
    return "\n\n".join(parts)


def _rows(head: str, lines: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|---|" + "--:|" * (columns - 1), *lines])


def _forward_rows(found: dict[str, Any]) -> str:
    lines = []
    for unit, value in found.items():
        rates = value.get("tiles_per_second", {})
        cells = " | ".join(f"{rates[str(b)]:,.0f}" if str(b) in rates else "–" for b in BATCHES)
        agree = f"{value['agree']:.4%}" if rates else "–"
        lines.append(f"| {unit} | {cells} | {agree} |")
    heads = " | ".join(f"tiles/s, batches of {b}" for b in BATCHES)
    return _rows(f"| network | {heads} | pixels as fp32 |", lines)


def _train_rows(found: dict[str, Any]) -> str:
    lines = [
        f"| {unit} | {precision} | {each['steps_per_second']:.2f} | {each['waiting']:.1%} |"
        for unit, value in found.items()
        for precision, each in value.items()
        if isinstance(each, dict)
    ]
    return _rows("| method | precision | steps/s | waiting |", lines)


def _predict_rows(found: dict[str, Any]) -> str:
    lines = []
    for unit, value in found.items():
        bare, whole = value["runs"][len(value["runs"]) // 2]
        lines.append(
            f"| {unit} | {value['precision']} | {value['readers']} | {value['tiles']:,} | {bare:.1f} | {whole:.1f} | "
            f"{whole / bare:.2f} | {value['tiles'] / whole:,.0f} |"
        )
    head = "| tiles in a batch | precision | threads that read | tiles | bare, s | end to end, s | ratio | tiles/s |"
    return _rows(head, lines) + "\n\nGoal: end to end at most 1.15 × bare."


ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "labels": lambda found: _rows(
        "| model | tissue pixels as on the CPU | least IoU of a class | objects, CPU | objects |",
        [f"| {u} | {v['agree']:.4%} | {min(v['iou'].values()):.4f} | {v['objects'][0]} | {v['objects'][1]} |" for u, v in found.items()],
    ),
    "contract": lambda found: _rows(
        "| file | passed | failed |",
        [f"| `{u}.py` | {v['passed']} | {'; '.join(v['failed']) or 'none'} |" for u, v in found.items()],
    ),
    "forward": _forward_rows,
    "predict": _predict_rows,
    "train": _train_rows,
    "processes": lambda found: _rows(
        "| method | gradients | largest difference of one, relative |",
        [f"| {u} | {v['gradients']} | {v['worst']:.1e} |" for u, v in found.items()],
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("prepare")
    packing.add_argument("--python", default="3.12", help="version of Python on the machine")
    running, one = commands.add_parser("run"), commands.add_parser("unit")
    running.add_argument("pieces", nargs="*", metavar="PIECE", help=", ".join(PIECES))
    running.add_argument("--seconds", type=float, default=SECONDS)
    one.add_argument("piece")
    one.add_argument("unit")
    one.add_argument("--out", type=Path, required=True)
    for command in (running, one):
        command.add_argument("--device", default="cuda")
        command.add_argument("--tiny", action="store_true")
    for command in (running, commands.add_parser("table")):
        command.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.command == "prepare":
        prepare(args.python)
    elif args.command == "run":
        unknown = set(args.pieces) - set(PIECES)
        if unknown:
            parser.error(f"there is no piece {', '.join(sorted(unknown))}")
        done = run(args.pieces or list(PIECES), Place(args.device, args.tiny), args.results, args.seconds)
        print("All is done." if done else "Call it again: it goes on.")
    elif args.command == "unit":
        given = PIECES[args.piece][1](args.unit, Place(args.device, args.tiny))
        args.out.write_text(json.dumps(given))
    else:
        if not args.results.exists():
            raise SystemExit(f"{args.results} does not exist: nothing has been measured yet.")
        about = json.loads(args.results.read_text())["about"]
        record("gpu.md", "benchmarks/gpu.sh table", table(args.results), quick=about["tiny"], measured=about["machine"])


if __name__ == "__main__":
    main()
