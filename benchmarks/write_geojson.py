"""How fast outlines become GeoJSON, beside the ways one would write them otherwise.

    python benchmarks/write_geojson.py [--objects 45000]

Every writer gets the same outlines of 44 corners, on whole pixels as they come from a label map and on hundredths as
they come from smoothing, in one process and on one core. `wsiseg` also checks and rounds every outline, gives it an
id, a class and a score; the others write just that. Peak memory is measured for `wsiseg` alone, in processes of its
own, for growing numbers of objects that are made one by one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import shapely
from shapely.geometry import mapping

from wsiseg.annotations.geojson_read import read_geojson
from wsiseg.annotations.geojson_write import write_geojson
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap

CLASSES = ClassMap(("Background", "Nucleus"))
CORNERS = 44
PROPERTIES = {
    "objectType": "detection",
    "classification": {"name": "Nucleus", "color": [0, 114, 178]},
    "measurements": {"score": 0.875},
}


def outlines(count: int, step: float) -> Iterator[LabelledPolygon]:
    """Wavy circles of about 100 px, somewhere on a slide of 100,000 px, their corners on multiples of `step`."""
    random = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    for number in range(count):
        radius = random.uniform(40, 60) * (1 + 0.05 * np.sin(5 * angle + number))
        centre = random.uniform(100, 99_900, 2)
        corners = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
        yield LabelledPolygon(shapely.Polygon(np.rint(corners / step) * step), "Nucleus", score=0.875)


def with_geojson(path: Path, regions: list[LabelledPolygon]) -> None:
    """The `geojson` package: objects, then `dump`."""
    features = [
        geojson.Feature(id=str(i), geometry=geojson.Polygon(mapping(r.polygon)["coordinates"]), properties=PROPERTIES)
        for i, r in enumerate(regions)
    ]
    with path.open("w") as file:
        geojson.dump(geojson.FeatureCollection(features), file)


def with_json(path: Path, regions: list[LabelledPolygon]) -> None:
    """Dictionaries and the standard library."""
    features = [
        {"type": "Feature", "id": str(i), "geometry": mapping(r.polygon), "properties": PROPERTIES}
        for i, r in enumerate(regions)
    ]
    with path.open("w") as file:
        json.dump({"type": "FeatureCollection", "features": features}, file)


def with_shapely(path: Path, regions: list[LabelledPolygon]) -> None:
    """shapely's own GeoJSON of the geometries, the rest as text around it."""
    shapes = shapely.to_geojson([r.polygon for r in regions])
    tail = json.dumps(PROPERTIES)
    rows = [f'{{"type":"Feature","id":"{i}","geometry":{shape},"properties":{tail}}}' for i, shape in enumerate(shapes)]
    path.write_text('{"type":"FeatureCollection","features":[' + ",\n".join(rows) + "]}")


def with_wsiseg(path: Path, regions: list[LabelledPolygon]) -> None:
    """`wsiseg.annotations.geojson_write.write_geojson`."""
    write_geojson(path, regions, classes=CLASSES, kind="detection")


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of one call: on an idle machine what the clock says too, on a shared one still the truth."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_mib(count: int) -> float:
    """Peak resident memory of a process that writes so many objects (Linux)."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]\n"
        "from pathlib import Path\n"
        "from write_geojson import CLASSES, outlines, write_geojson\n"
        "write_geojson(Path(sys.argv[2]), outlines(int(sys.argv[3]), 1), classes=CLASSES)\n"
        # not ru_maxrss, which begins with the parent's
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        here = str(Path(__file__).parent)
        done = subprocess.run(
            [sys.executable, "-c", code, here, str(path), str(count)], check=True, capture_output=True, text=True
        )
    return float(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=45_000)
    count = parser.parse_args().objects
    print(f"{count:,} outlines, {count * (CORNERS + 1):,} vertices\n")
    print("| corners on | writer | CPU seconds | times wsiseg | MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, step in (("whole px", 1.0), ("0.01 px", 0.01)):
            regions = list(outlines(count, step))
            base = 0.0
            for writer in (with_wsiseg, with_shapely, with_json, with_geojson):
                path = Path(folder) / f"{writer.__name__}.geojson"
                writer(path, regions[:100])  # pay for what is loaded on first use
                took = seconds(lambda write=writer, to=path, what=regions: write(to, what))
                base = base or took
                label = writer.__name__.removeprefix("with_")
                print(
                    f"| {name} | {label} | {took:.2f} | {took / base:.1f} | {path.stat().st_size / 1e6:.0f} |",
                    flush=True,
                )
        took = seconds(lambda: read_geojson(Path(folder) / "with_wsiseg.geojson"))
    print(f"\nReading the last file of wsiseg back, with all checks: {took:.2f} CPU s\n")
    print("| objects | peak memory, MiB |\n|---|---|")
    for objects in (count // 10, count, 4 * count):
        print(f"| {objects:,} | {peak_mib(objects):.0f} |", flush=True)


if __name__ == "__main__":
    main()
