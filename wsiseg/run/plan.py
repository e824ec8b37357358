"""The plan of a run: what is done with every slide, and what identifies the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash
from wsiseg.data.slides import SlideEntry
from wsiseg.recipe import Recipe
from wsiseg.slides.slide import Slide

if TYPE_CHECKING:
    from wsiseg.bundle import ModelBundle

FORMAT = 1

Facts = dict[str, Any]  # JSON values, a few kB: what the scheduler carries and run.json keeps of a slide
Tell = Callable[[Facts], None]  # told what happens: {"event": "tiles" | "slide" | "lost" | …, …}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with every slide; small, because it is sent with each entry of the slide list.

    Attributes:
        recipe: its tables `run` and, for tiles, `data` and `classes` count
        results: folder or URL
        model: path of the bundle; None where no stage needs one
        identity: of that bundle, see `identity_of`
        engine, device: what runs the network, and where; see `wsiseg.inference.engines.make_engine`
        threads: of a CPU, for one slide
        scratch: folder on the worker's own disk for results that go to a URL
        max_ram: bytes that a worker may use; None for no limit
        overwrite: replace results that were made from something else
    """

    recipe: Recipe
    results: str
    model: str | None = None
    identity: Facts = field(default_factory=dict)
    engine: str = "auto"
    device: str = "auto"
    threads: int = 1
    scratch: str = ""
    max_ram: int | None = None
    overwrite: bool = False

    @property
    def wants_gpu(self) -> bool:
        """Whether a worker must have declared a GPU of its own."""
        return self.model is not None and self.device.startswith("cuda")


def identity_of(bundle: ModelBundle) -> Facts:
    """What decides a bundle's results, that of its parent model too."""
    return bundle.identity | ({} if bundle.parent is None else {"parent": identity_of(bundle.parent)})


def classes_of(bundle: ModelBundle) -> tuple[str, ...]:
    """The classes that a prediction has, those of the parent model first; without the background."""
    first = () if bundle.parent is None else classes_of(bundle.parent)
    return first + bundle.classes.names[1:]


def made_from(slide: Slide, entry: SlideEntry, plan: Plan) -> Facts:
    """What decides a slide's results, as JSON values.

    The engine (device, number of threads, PyTorch) is not among it, though it can change last bits: a run may go on
    elsewhere than it began. It stands in the record.

    Raises:
        AnnotationError: the annotations for the stage `tile` cannot be read
    """
    recipe = plan.recipe
    made: Facts = {
        "kind": "slide of a run",
        "format": FORMAT,
        "version": __version__,
        "slide": dict(slide.identity),
        "level0": slide.frame.to_json(),
        "scaled_decoding": slide.scaled_decoding,
        "run": recipe.run.model_dump(mode="json"),
        "measure": recipe.measure.stated,
        "model": plan.identity or None,
    }
    if "tile" in recipe.run.stages:
        data = recipe.data.model_dump(mode="json")
        made["tiles"] = {key: value for key, value in data.items() if key not in ("slides", "root")}
        made["tiles"]["classes"] = recipe.classes.class_map().to_json()
        for name, file in (("annotations", entry.annotations), ("roi", entry.roi)):
            made["tiles"][f"{name}_sha256"] = None if file is None else file_hash(file)
    return made
