"""Which predicted objects should a person look at first? Sorts them by what the discriminator makes of them.

    python pipelines/experiments/trust.py --run runs/kidney --slide S.svs --prediction P.geojson --out review.geojson

--run is a training run with `method.name = "adversarial"`: its model and its discriminator. The output holds the objects
of the prediction with the measurement "Trust", the least trusted first. With --reference it also prints how well trust
tells matched objects from unmatched ones: the area under the ROC curve, 0.5 is guessing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scipy.stats import mannwhitneyu

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.bundle import load_bundle
from wsiseg.evaluation.evaluate import match_objects
from wsiseg.inference.trust import TRUST, with_trust
from wsiseg.nets.discriminators import load_discriminator
from wsiseg.slides.open import open_slide
from wsiseg.stores.prediction import read_prediction


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--prediction", type=Path, required=True, help="annotations or a label map")
    parser.add_argument("--reference", type=Path, help="annotations to compare with")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bundle, judge = load_bundle(args.run / "model"), load_discriminator(args.run / "discriminator.safetensors")
    with open_slide(args.slide) as slide:
        objects = list(
            with_trust(slide, read_prediction(args.prediction).objects(), bundle.network(), judge, bundle.usage.mpp)
        )
    write_annotations(args.out, sorted(objects, key=lambda o: o.measurements[TRUST]), classes=bundle.classes)
    print(f"{args.out}: {len(objects)} objects, the least trusted first")
    if args.reference:
        reference = [r for r in read_annotations(args.reference).polygons if r.label is not None]
        unmatched = set(match_objects(reference, objects).unmatched)
        good = [o.measurements[TRUST] for i, o in enumerate(objects) if i not in unmatched]
        bad = [o.measurements[TRUST] for i, o in enumerate(objects) if i in unmatched]
        if good and bad:
            auc = mannwhitneyu(good, bad).statistic / (len(good) * len(bad))
            print(f"Trust of {len(good)} matched against {len(bad)} unmatched objects: AUC {auc:.3f}")
        else:
            print("All objects are matched, or none is: there is nothing to tell apart.")


if __name__ == "__main__":
    main()
