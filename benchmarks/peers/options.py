"""What every program of the comparison is told. It runs in environments that have nothing of wsiseg."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slide", required=True, help="the slide's file")
    parser.add_argument(
        "--network", required=True, help="TorchScript: (n, t, t, 3) uint8 -> (n, c, t, t) probabilities"
    )
    parser.add_argument("--mpp", type=float, required=True, help="µm/px that the network works at")
    parser.add_argument("--tile", type=int, required=True, help="px")
    parser.add_argument("--overlap", type=int, required=True, help="px")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--classes", type=lambda text: text.split(","), required=True, help="background first")
    parser.add_argument("--out", type=Path, required=True, help="a folder for outlines.geojson and labels.npy")
    parser.add_argument("--engine", default="", help="of wsiseg alone")
    parser.add_argument("--model", type=Path, help="of wsiseg alone: the bundle")
    return parser.parse_args()
