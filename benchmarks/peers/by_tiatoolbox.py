"""TIAToolbox's SemanticSegmentor over a whole slide, to the outlines that it writes for QuPath.

Run by `benchmarks/against.py` in an environment of its own. No tissue mask, so that each tile of the grid is predicted,
all else as it is by default: no worker processes, plain means where tiles overlap, one outline for each object.
The probabilities become labels by `argmax`. Its label map is kept as Zarr, and its own converter, the one that
`output_type="qupath"` calls, makes the outlines of it.
"""

# ruff: noqa: I001 — what helps torchvision comes first
from __future__ import annotations

import json
import time
from pathlib import Path

import torchvision_operators  # noqa: F401
import numpy as np
import torch
import zarr
from options import parse
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from tiatoolbox.utils.misc import dict_to_store_semantic_segmentor


class Network(ModelABC):
    """The given network as TIAToolbox wants it."""

    def __init__(self, path: str, classes: list[str]) -> None:
        super().__init__()
        self.net = torch.jit.load(path).eval()
        self.class_dict = dict(enumerate(classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """(n, t, t, 3) uint8 -> (n, t, t, classes) probabilities."""
        with torch.inference_mode():
            return model(batch_data.to(device, torch.uint8)).permute(0, 2, 3, 1).contiguous().numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        """Probabilities to labels."""
        return image.argmax(-1)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    model = Network(args.network, args.classes)
    start = time.perf_counter()
    resolution = [{"units": "mpp", "resolution": args.mpp}]
    config = IOSegmentorConfig(
        input_resolutions=resolution, output_resolutions=resolution, save_resolution=resolution[0],
        patch_input_shape=(args.tile,) * 2, patch_output_shape=(args.tile,) * 2,
        stride_shape=(args.tile - args.overlap,) * 2,
    )  # fmt: skip
    segmentor = SemanticSegmentor(model=model, batch_size=args.batch, num_workers=0, device="cpu")
    slide = Path(args.slide)
    made = segmentor.run(
        [slide], patch_mode=False, ioconfig=config, save_dir=args.out / "tiatoolbox", output_type="zarr",
        auto_get_mask=False, overwrite=True,
    )  # fmt: skip
    tiles = len(segmentor.dataloader.dataset)
    kept = zarr.open(str(made[slide]), mode="r")
    scale = segmentor._calculate_scale_factor(dataloader=segmentor.dataloader)
    written = dict_to_store_semantic_segmentor(
        patch_output=kept, scale_factor=scale, output_type="qupath", class_dict=model.class_dict,
        save_path=args.out / "outlines.geojson", ignore_index=0, verbose=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    np.save(args.out / "labels.npy", np.asarray(kept["predictions"][:], np.uint8))
    objects = len(json.loads(Path(written).read_text())["features"])
    print(json.dumps({"seconds": seconds, "tiles": tiles, "objects": objects}))


if __name__ == "__main__":
    main()
