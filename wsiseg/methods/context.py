"""What a learning method is given, and what it must do. It owns networks, optimisers and phases; the Trainer owns time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from wsiseg.classes import ClassMap
from wsiseg.data.crops import STREAMS, Batch, Pools, Stream
from wsiseg.data.options import Augment
from wsiseg.errors import RecipeError
from wsiseg.nets.discriminators import Discriminator
from wsiseg.nets.segmentation import SegmentationNet


class NetworkMaker(Protocol):
    """Makes a segmentation network with the recipe's starting weights; `encoder` replaces the recipe's."""

    def __call__(self, encoder: str | None = None) -> SegmentationNet: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a method is made from.

    Attributes:
        options: the method's own table of the recipe
        classes: labels, background first
        mpp: µm/px of the crops
        crop: px, width of what the network sees
        augment: the recipe's table [augment]
        fabric: device, precision and processes (a Lightning Fabric); networks and optimisers go through its `setup`
        new_network: makes a network, as often as it is called; where weights are random, each is another one
        pools: where crops come from, and what a method decides about it
    """

    options: Any
    classes: ClassMap
    mpp: float
    crop: int
    augment: Augment
    fabric: Any
    new_network: NetworkMaker
    pools: Pools

    @property
    def device(self) -> torch.device:
        """The device of training."""
        device: torch.device = self.fabric.device
        return device

    def per_class(self, key: str) -> torch.Tensor:
        """(classes,) from an option with one number for all classes or one for each.

        Raises:
            RecipeError: it holds another number of numbers
        """
        values = getattr(self.options, key)
        if len(values) not in (1, len(self.classes)):
            raise RecipeError(
                f"method.{key} has {len(values)} numbers: give one for all classes, or {len(self.classes)} in their order."
            )
        return torch.tensor(values).expand(len(self.classes)).clone()


@dataclass(frozen=True, slots=True)
class Batches:
    """The crops of one step; None for a kind that has no slides or was not requested.

    Attributes:
        labelled: crops of annotated slides
        unlabelled: crops whose labels are all IGNORE
        held_out: labelled crops of the tiles that the method has held out from `labelled`
    """

    labelled: Batch
    unlabelled: Batch | None = None
    held_out: Batch | None = None


class Method(ABC):
    """A way of learning. Its constructor takes a `Context`.

    Attributes:
        streams: which crops it is given, where there are any
    """

    streams: ClassVar[tuple[Stream, ...]] = STREAMS

    @abstractmethod
    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """Learn from one step's crops; progress goes from 0 to 1 over the run. Returns the losses and metrics to log."""

    @abstractmethod
    def predictor(self) -> SegmentationNet:
        """The network that would predict now, in eval mode."""

    def finish(self, crops: Iterable[Batches]) -> None:  # noqa: B027  # most methods have nothing left to do
        """Called once after the last step, with further crops; may settle batch statistics, for instance."""

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user, such as a warning; they also go into the bundle."""
        return ()

    def judge(self) -> Discriminator | None:
        """A discriminator that tells right pixels from wrong ones, for `wsiseg.inference.trust`; None: it has none."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: of each attribute that has a `state_dict`, what that gives."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if hasattr(part, "state_dict")}


MethodClass = Callable[[Context], Method]
