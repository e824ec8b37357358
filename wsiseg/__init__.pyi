from wsiseg.api import Comparison as Comparison
from wsiseg.api import Polygons as Polygons
from wsiseg.api import Tables as Tables
from wsiseg.api import Tiles as Tiles
from wsiseg.api import Training as Training
from wsiseg.api import evaluate as evaluate
from wsiseg.api import measure_objects as measure_objects
from wsiseg.api import open_slide as open_slide
from wsiseg.api import plot as plot
from wsiseg.api import predict as predict
from wsiseg.api import read_annotations as read_annotations
from wsiseg.api import tile as tile
from wsiseg.api import train as train

__version__: str
