"""What the processes of tests.command are forked with."""

from __future__ import annotations

import os

import wsiseg.evaluation.evaluate
import wsiseg.inference.engines
import wsiseg.training.run  # noqa: F401  loaded once
from tests.test_predict import CLASSES, draw, label_of
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.trace import trace
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide

LOADED_BY = os.getpid()

# Numba's kernels, which each process would load, and compile in a fresh checkout.
with Slide(MemoryBackend(draw(), mpp=1.0)) as slide:
    tissue_of(slide)
    found = list(trace([label_of(draw())], CLASSES, slide.frame, slide.frame))
    rasterise(found, CLASSES, slide.frame.box, slide.frame, slide.frame)
