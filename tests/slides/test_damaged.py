"""Slides damaged at random: one sentence, or the right pixels; never another error, a hang or a huge allocation.

The files are made from fixed seeds, and read in a process of its own, which has a limit of memory and of seconds for
each file: a decoder in C that runs wild ends that process, and the file is named. WSISEG_DAMAGE is the number of damaged
files of each kind of slide.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.slides.make import aperio, pyramid, texture, write_ome_tiff, write_tiles

WIDTH, HEIGHT, TILE = 500, 400, 64
SECONDS = 30  # for one file, on a busy machine
MEMORY_MIB = 3072  # of address space, beyond that of a process that has all libraries

Base = Callable[[Path], Path]


def deflate(path: Path) -> Path:
    return write_tiles(path, pyramid(texture(WIDTH, HEIGHT), (4,)), "deflate", tile=TILE)


def big_deflate(path: Path) -> Path:
    return write_tiles(path, pyramid(texture(WIDTH, HEIGHT), (4,)), "deflate", tile=TILE, bigtiff=True)


def jpeg(path: Path) -> Path:
    levels = pyramid(texture(WIDTH, HEIGHT), (4,))
    return write_tiles(path, levels, "jpeg", tile=TILE, about=aperio(levels))


def jpeg2000(path: Path) -> Path:
    levels = pyramid(texture(WIDTH, HEIGHT), (4,))
    return write_tiles(path, levels, "jpeg2000", tile=TILE, about=aperio(levels))


def zstd(path: Path) -> Path:
    return write_tiles(path, pyramid(texture(WIDTH, HEIGHT), (4,)), "zstd", tile=TILE)


def webp(path: Path) -> Path:
    return write_tiles(path, [texture(WIDTH, HEIGHT)], "webp", tile=TILE)


def lzw(path: Path) -> Path:
    return write_tiles(path, [texture(WIDTH, HEIGHT)], "lzw-predictor", tile=TILE)


def ome(path: Path) -> Path:
    return write_ome_tiff(path, pyramid(texture(WIDTH, HEIGHT), (4,)))


def planar(path: Path) -> Path:
    planes = np.ascontiguousarray(np.moveaxis(texture(WIDTH, HEIGHT), -1, 0))
    tifffile.imwrite(path, planes, tile=(TILE, TILE), photometric="minisblack", compression="zlib", ome=True)
    return path


def deep(path: Path) -> Path:
    array = texture(WIDTH, HEIGHT).astype(np.uint16) << 4
    tifffile.imwrite(path, array, tile=(TILE, TILE), photometric="rgb", compression="lzma", metadata=None)
    return path


def flat(path: Path) -> Path:
    tifffile.imwrite(path, texture(WIDTH, HEIGHT), photometric="rgb", compression="zlib", rowsperstrip=37)
    return path


BASES: dict[str, tuple[Base, str]] = {
    "deflate": (deflate, ".tif"), "bigtiff": (big_deflate, ".tif"), "jpeg": (jpeg, ".svs"),
    "jpeg2000": (jpeg2000, ".svs"), "zstd": (zstd, ".tif"), "webp": (webp, ".tif"), "lzw": (lzw, ".tif"),
    "ome": (ome, ".ome.tif"), "planar": (planar, ".tif"), "deep": (deep, ".tif"), "flat": (flat, ".tif"),
}  # fmt: skip

# Codecs with a checksum, so that a changed byte is noticed. Nobody can tell other pixels of a JPEG from right ones.
CHECKED = ("deflate", "bigtiff", "ome", "planar", "deep", "flat")


class Anatomy:
    """Where the parts of a TIFF are, in bytes."""

    def __init__(self, path: Path) -> None:
        self.tiles: list[range] = []
        self.lists: list[tuple[int, int]] = []  # of tile offsets: place and size of each number
        self.counts: list[tuple[int, ...]] = []
        self.head: list[range] = [range(16)]
        with tifffile.TiffFile(path) as tiff:
            pages = [page for top in tiff.pages for page in (top, *(top.pages if top.subifds else ()))]
            for page in pages:
                self.tiles += [range(o, o + n) for o, n in zip(page.dataoffsets, page.databytecounts, strict=True) if n]
                self.head.append(range(page.offset, page.offset + 20 * len(page.tags)))
                self.head += [range(t.valueoffset, t.valueoffset + t.valuebytecount) for t in page.tags.values()]
                for code in (273, 324):
                    if code in page.tags:
                        tag = page.tags[code]
                        self.lists.append((tag.valueoffset, tag.valuebytecount // max(tag.count, 1)))
                        self.counts.append(page.databytecounts)


def flip_in(places: list[range], content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        place = places[int(rng.integers(len(places)))]
        at = place.start + int(rng.integers(max(len(place), 1)))
        if at < len(content):
            content[at] ^= int(rng.integers(1, 256))


def damaged(anatomy: Anatomy, content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    if kind == "cut":
        return content[: int(rng.integers(1, len(content)))]
    if kind == "zeros":
        return content[: (at := int(rng.integers(1, len(content))))] + bytes(len(content) - at)
    if kind == "swapped":
        at, size = anatomy.lists[0]
        lengths = anatomy.counts[0]
        first, second = rng.choice(min(len(lengths), 9), 2, replace=False)
        while lengths[first] == lengths[second]:  # two tiles of one length cannot be told apart
            second = (second + 1) % len(lengths)
        i, j = at + int(first) * size, at + int(second) * size
        changed[i : i + size], changed[j : j + size] = content[j : j + size], content[i : i + size]
    elif kind == "tiles":
        flip_in(anatomy.tiles, changed, rng)
    else:
        flip_in(anatomy.head, changed, rng)
    return bytes(changed)


KINDS = ("head", "tiles", "cut", "zeros", "swapped")
EACH = int(os.environ.get("WSISEG_DAMAGE", "25")) // len(KINDS)  # files of each kind and base


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each damaged file, as `read_one` tells it."""
    folder = tmp_path_factory.mktemp("damaged")
    for b, (name, (make, suffix)) in enumerate(BASES.items()):
        sound = make(folder / f"sound-{name}{suffix}")
        anatomy, content = Anatomy(sound), sound.read_bytes()
        for k, kind in enumerate(KINDS):
            for i in range(EACH):
                rng = np.random.default_rng([b, k, i])
                (folder / f"{name}-{kind}-{i}{suffix}").write_bytes(damaged(anatomy, content, kind, rng))
    return dict(_read_all(sorted(folder.iterdir())))


def _read_all(paths: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outcome of each file; a process that dies or hangs is one of them, and another goes on."""
    waiting = list(paths)
    while waiting:
        with subprocess.Popen(
            [sys.executable, "-m", "tests.slides.test_damaged"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as child:  # fmt: skip
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            while waiting:
                path = waiting.pop(0)
                child.stdin.write(f"{path}\n")
                child.stdin.flush()
                line = _line(child, SECONDS)
                if line is None:
                    child.kill()
                    yield path.name, {"outcome": "died or hung"}
                    break
                yield path.name, json.loads(line)
            else:
                child.stdin.close()


def _line(child: Any, seconds: float) -> str | None:
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() or None if selector.select(seconds) else None


def read_one(path: Path) -> dict[str, Any]:
    """Opens a slide and reads all of it at two resolutions."""
    from wsiseg.errors import WsisegError
    from wsiseg.slides.open import open_slide

    began = time.monotonic()
    facts: dict[str, Any] = {"outcome": "read"}
    try:
        with open_slide(path, mpp=0.5) as slide:
            facts["notes"] = list(slide.cautions)
            if slide.frame.width * slide.frame.height > 10**8:
                return facts | {"outcome": "huge"}
            full = slide.read(slide.frame.box, slide.frame)
            coarse = slide.frame.at(slide.frame.mpp * 4)
            slide.read(coarse.box, coarse)
            original = texture(WIDTH, HEIGHT)
            same = full.shape == original.shape
            facts["off"] = int(np.abs(full.astype(int) - original).max()) if same else 999
    except WsisegError as error:
        facts |= {"outcome": "refused", "said": str(error)}
    except Exception as error:
        facts |= {"outcome": f"{type(error).__name__}: {error}"}
    return facts | {"seconds": time.monotonic() - began}


def test_each_file_is_read_or_refused(outcomes: dict[str, dict[str, Any]]) -> None:
    assert len(outcomes) >= 200
    strange = {n: o["outcome"] for n, o in outcomes.items() if o["outcome"] not in ("read", "refused", "huge")}
    assert not strange
    sound = [n for n in outcomes if n.startswith("sound")]
    assert all(outcomes[n]["outcome"] == "read" for n in sound)
    assert sum(o["outcome"] == "refused" for o in outcomes.values()) > len(outcomes) / 3


def test_a_refusal_is_one_sentence(outcomes: dict[str, dict[str, Any]]) -> None:
    for name, outcome in outcomes.items():
        if outcome["outcome"] == "refused":
            assert name in outcome["said"]
            assert "\n" not in outcome["said"]
            assert outcome["said"].endswith(".")
            assert "Traceback" not in outcome["said"]


def test_what_is_read_without_a_note_is_right(outcomes: dict[str, dict[str, Any]]) -> None:
    """Of whatever can be noticed: the end of the file, tiles with a checksum, the order of packed tiles."""
    wrong = {}
    for name, outcome in outcomes.items():
        base, kind = name.split(".")[0].split("-")[:2]
        seen = base in CHECKED or kind in ("cut", "swapped")
        if kind == "head" or not seen or outcome["outcome"] != "read" or base == "sound":
            continue
        allowed = {"jpeg": 40, "deep": 1}.get(base, 0)
        if outcome["off"] > allowed and not outcome["notes"]:
            wrong[name] = outcome
    assert not wrong


if __name__ == "__main__":
    import resource

    from wsiseg.slides.open import open_slide  # noqa: F401  the libraries come first

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEMORY_MIB << 20),) * 2)
    print("ready", flush=True)
    for given in sys.stdin:
        print(json.dumps(read_one(Path(given.strip()))), flush=True)
