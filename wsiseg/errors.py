"""All errors that wsiseg raises on purpose.

    WsisegError                 bad input or a bad surrounding; the command line exits with 2
    ├── GeometryError           a box, frame or grid that makes no sense
    ├── ClassError              a class name or index that a class map does not know
    ├── SlideError              the slide cannot be opened or a part of it cannot be read
    │   └── ResolutionError     the slide does not say how many µm a pixel is
    ├── AnnotationError         an annotation file that cannot be read or written
    ├── TissueError             no tissue where tissue is needed
    ├── StoreError              a TileStore or LabelMap that is damaged or cannot be written
    │   ├── MismatchError       it was made with other parameters, another slide or another model
    │   └── BusyError           another process is writing it
    ├── OutputError             a place that cannot be written, or a disk that is full
    ├── BundleError             a model bundle that is damaged or does not fit
    ├── RecipeError             a recipe with an unknown key or an impossible value
    ├── SplitError              a slide or a patient on two sides of a split
    ├── EngineError             a device or an engine that is not there
    ├── MissingExtraError       a package that belongs to an extra of wsiseg is not installed
    ├── AddressError            a host or a port that cannot be served at
    └── SchedulerError          the scheduler of a run over many slides is not there

A message is one sentence that names the thing at fault and says what to do next.
"""


class WsisegError(Exception):
    """Something is wrong with an input or with the machine; the message is one sentence."""


class GeometryError(WsisegError, ValueError):
    """A box, frame or grid that makes no sense."""


class ClassError(WsisegError, KeyError):
    """A class name or index that a class map does not know."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class SlideError(WsisegError):
    """The slide cannot be opened, or a part of it cannot be read."""


class ResolutionError(SlideError):
    """The slide does not say how many µm a pixel is."""


class AnnotationError(WsisegError):
    """An annotation file that cannot be read or written."""


class TissueError(WsisegError):
    """No tissue where tissue is needed."""


class StoreError(WsisegError):
    """A TileStore or LabelMap that is damaged or cannot be written."""


class MismatchError(StoreError):
    """It was made with other parameters, from another slide or by another model."""


class BusyError(StoreError):
    """Another process is writing it."""


class OutputError(WsisegError, OSError):
    """A place that cannot be written, or a disk that is full."""


class BundleError(WsisegError):
    """A model bundle that is damaged or does not fit."""


class RecipeError(WsisegError, ValueError):
    """A recipe with an unknown key or an impossible value."""


class SplitError(WsisegError, ValueError):
    """A slide or a patient on two sides of a split."""


class EngineError(WsisegError):
    """A device or an engine that is not there."""


class MissingExtraError(WsisegError, ImportError):
    """A package that belongs to an extra of wsiseg is not installed."""


class AddressError(WsisegError):
    """A host or a port that cannot be served at."""


class SchedulerError(WsisegError):
    """The scheduler of a run over many slides is not there."""
