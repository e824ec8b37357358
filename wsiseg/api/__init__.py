"""wsiseg for scripts and notebooks: a few functions, and results that show themselves.

    functions    open_slide, read_annotations, predict, tile, train, evaluate, measure_objects
    polygons     Polygons: annotations or predicted objects of one slide
    results      Tiles, Training, Comparison, Tables
    drawing      plot

A slide is given as its path or as what `open_slide` returns. Each function does what the command of its name does, with
the same defaults.
"""

from wsiseg.api.drawing import plot
from wsiseg.api.functions import evaluate, measure_objects, open_slide, predict, read_annotations, tile, train
from wsiseg.api.polygons import Polygons
from wsiseg.api.results import Comparison, Tables, Tiles, Training

__all__ = [
    "Comparison",
    "Polygons",
    "Tables",
    "Tiles",
    "Training",
    "evaluate",
    "measure_objects",
    "open_slide",
    "plot",
    "predict",
    "read_annotations",
    "tile",
    "train",
]
