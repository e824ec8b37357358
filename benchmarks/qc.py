"""How well `wsiseg qc` finds the artefacts of generated slides, whose place is known.

    python benchmarks/qc.py [--seeds 400 401 …] [--pictures DIR]

Every seed makes two slides of 4 × 3 mm at 1 µm/px, one without artefacts and one with folds, a pen mark, defocus and
bubbles, written as JPEG and read again. Pixels are compared at 8 µm/px; slides count as found
when any outline of the artefact meets a true one, and as false when there is an outline and no such artefact was drawn.
Generated slides prove nothing about real ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from wsiseg.annotations.rasterise import rasterise
from wsiseg.classes import ClassMap
from wsiseg.pictures import save_picture
from wsiseg.qc.files import picture_of
from wsiseg.selection.artefacts import CLASSES, find_artefacts
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import SlideSpec, generate, write_slide

ALL = ("fold", "pen", "blur", "bubble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(400, 412)))
    parser.add_argument("--pictures", type=Path, help="write what was found here, one picture a slide")
    options = parser.parse_args()
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))  # pixels: hit, said, true
    slides: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))  # with it, found, without it, false
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for drawn in ((), ALL):
                stain = "he" if seed % 2 else "pas"
                made = generate(SlideSpec(seed, 4000, 3000, stain, 1.0, artefacts=drawn))
                path = Path(folder) / f"{seed}-{len(drawn)}.svs"
                write_slide(made, path, workers=1)
                with open_slide(path) as slide:
                    quality = find_artefacts(slide)
                said = list(quality.polygons())
                for name in CLASSES.names[1:]:
                    one = ClassMap(("Background", name))
                    maps = [
                        rasterise(
                            [r for r in side if r.label == name], one, quality.frame.box, quality.frame, made.frame
                        )
                        for side in (made.artefacts(), said)
                    ]
                    true, mine = (m > 0 for m in maps)
                    counts[name] += ((true & mine).sum(), mine.sum(), true.sum())
                    slides[name] += (true.any(), (true & mine).any(), not true.any(), mine.any() and not true.any())
                    print(seed, len(drawn), name, true.sum(), mine.sum(), (true & mine).sum(), flush=True)
                if options.pictures:
                    save_picture(options.pictures / f"{seed}-{len(drawn)}.png", picture_of(quality))
                path.unlink()
    print("| artefact | precision, pixels | recall, pixels | slides with it | found | slides without it | false |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in CLASSES.names[1:]:
        hit, said, true = counts[name]
        there, found, absent, false = slides[name].astype(int)
        print(
            f"| {name} | {hit / max(said, 1):.2f} | {hit / max(true, 1):.2f} | {there} | {found} | {absent} | {false} |"
        )


if __name__ == "__main__":
    main()
