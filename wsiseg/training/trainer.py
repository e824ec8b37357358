"""The Trainer: it feeds crops to a method, and evaluates and saves checkpoints from time to time.

It owns time: steps, logs, evaluation, checkpoints. It knows no method; a method knows networks, losses and phases.

FOLDER/
  log.csv         every metric: step, name, value
  tensorboard/    the same for TensorBoard
  pictures/       image, reference and prediction of some validation tiles at each evaluation
  checkpoint/     the newest state
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from wsiseg.atomic import translate_os_errors
from wsiseg.bundle import Usage
from wsiseg.data.crops import Drawing, Pools, Stream, loader, side_for
from wsiseg.errors import WsisegError
from wsiseg.methods import make_method
from wsiseg.methods.context import Batches, Context
from wsiseg.nets.depthwise import speed_up_depthwise
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.progress import Progress, Report
from wsiseg.recipe import Recipe
from wsiseg.stores.tiles import TileStore
from wsiseg.training.checkpoint import load_checkpoint, save_checkpoint
from wsiseg.training.log import Log
from wsiseg.training.start import build_network
from wsiseg.training.validate import validate

LOG_EVERY = 20  # steps
FINISHING_STEPS = 20  # batches that a method may ask for after the last step


@dataclass(frozen=True, slots=True)
class TrainingSlides:
    """The tile stores of a run.

    Attributes:
        labelled, unlabelled: what is learnt from
        validation: what is looked at now and then
        tags: of the slide of each store, by the store's path
        names: split -> names of its slides, for the bundle
    """

    labelled: Sequence[TileStore]
    unlabelled: Sequence[TileStore] = ()
    validation: Sequence[TileStore] = ()
    tags: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)


class Trainer:
    """Trains one method, from its start or from its checkpoint, to the end.

    Args:
        recipe: of this stage
        slides: what it learns from
        folder: see the module's docstring
        fabric: device, precision and processes; each process makes a Trainer of its own
        usage: how the network will be used, for the evaluation
        about: what a checkpoint belongs to
        report: told of each step, and of what people should know

    Attributes:
        method: what learns
        step: steps done
        origin: where the network's starting weights come from
        metrics: of the latest evaluation
    """

    def __init__(
        self, recipe: Recipe, slides: TrainingSlides, folder: Path, *, fabric: Any, usage: Usage,
        about: dict[str, Any], report: Report,
    ) -> None:  # fmt: skip
        self.recipe, self.slides, self.folder, self.fabric = recipe, slides, folder, fabric
        self.usage, self.about, self.report = usage, about, report
        self.classes = recipe.classes.class_map()
        self.first = fabric.is_global_zero  # keeps the log and the checkpoints; the others only compute
        self.origin = ""
        self.metrics: dict[str, float] = {}
        t, a = recipe.training, recipe.augment
        drawing = Drawing(
            batch=t.batch, side=side_for(t.crop, a.scale, a.rotate), seed=t.seed, object_fraction=t.object_fraction,
            class_weights=t.class_weights, jitter=t.crop // 3, offset=fabric.global_rank * t.batch,
        )  # fmt: skip
        tags: dict[Stream, Sequence[tuple[str, ...]]] = {
            "labelled": [slides.tags.get(s.path, ()) for s in slides.labelled],
            "unlabelled": [slides.tags.get(s.path, ()) for s in slides.unlabelled],
        }
        self.pools = Pools(slides.labelled, slides.unlabelled, drawing, tags=tags)
        torch.manual_seed(t.seed)
        self.method = make_method(
            Context(
                options=recipe.method,
                classes=self.classes,
                mpp=recipe.data.mpp,
                crop=t.crop,
                augment=a,
                fabric=fabric,
                new_network=self._new_network,
                pools=self.pools,
            )
        )
        self.step = 0
        found = load_checkpoint(folder / "checkpoint")
        if found is not None:
            self.step, state, _ = found
            self.pools.load_state_dict(state["pools"])
            self.method.load_state_dict(state["method"])

    def _new_network(self, encoder: str | None = None) -> SegmentationNet:
        network, self.origin = build_network(self.recipe, len(self.classes), encoder)
        speed_up_depthwise(network)  # on CPUs; the weights and their names stay
        return network

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.recipe.training.steps

    def run(self) -> SegmentationNet:
        """Train to the end; gives the network that predicts, in eval mode.

        Raises:
            WsisegError: a loss is no longer a finite number
        """
        t = self.recipe.training
        if self.first:
            with translate_os_errors(self.folder):
                (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        log = Log(self.folder, self.step) if self.first else None
        sums: dict[str, list[float]] = defaultdict(list)  # not every metric is there in every step
        waited, busy, version = 0.0, 0.0, self.pools.version
        crops = self._crops(self.step, t.steps)
        while self.step < t.steps:
            asked = time.perf_counter()
            batches = next(crops)
            got = time.perf_counter()
            self._seed(self.step)
            metrics = self.method.update(batches, self.step / t.steps)
            self._check(metrics)
            self.step += 1
            waited, busy = waited + got - asked, busy + time.perf_counter() - got
            for name, value in metrics.items():
                sums[name].append(value)
            if self.step % LOG_EVERY == 0 or self.finished:
                if log is not None:
                    means = {name: sum(values) / len(values) for name, values in sums.items()}
                    count = len(sums["loss"])
                    pace = {"waiting": waited / (waited + busy), "steps_per_second": count / (waited + busy)}
                    log.write(self.step, means | pace)
                sums, waited, busy = defaultdict(list), 0.0, 0.0
            self._tell(metrics=metrics)
            if self.step % t.evaluate_every == 0 and not self.finished:
                self.evaluate(log)
            if self.pools.version != version:  # the method has chosen other crops: those read ahead are of no use
                version = self.pools.version
                choice = self.fabric.broadcast((self.pools.weights, self.pools.class_weights))  # one for all processes
                self.pools.weights, self.pools.class_weights = choice
                crops = self._crops(self.step, t.steps)
            if self.step % t.checkpoint_every == 0 or self.finished:
                self.checkpoint()
        self._seed(t.steps)
        self.method.finish(self._crops(t.steps, t.steps + FINISHING_STEPS))
        self.evaluate(log)
        for remark in self.method.remarks():
            self._tell(remark)
        if log is not None:
            log.close()
        return self.method.predictor()

    def evaluate(self, log: Log | None) -> None:
        """Measure the present network on the validation slides and log it; in the first process alone."""
        if log is None:
            return
        self.metrics = validate(
            self.method.predictor(), self.slides.validation, self.classes, self.usage, self.fabric.device,
            self.folder, self.step, log,
        )  # fmt: skip
        dice = [f"{name} {value:.3f}" for name, value in self.metrics.items() if name.endswith("dice")]
        if dice:
            self._tell(f"Step {self.step}: {', '.join(dice)}")

    def checkpoint(self) -> None:
        """Keep all that a resumed run needs."""
        if self.first:
            state = {"method": self.method.state_dict(), "pools": self.pools.state_dict()}
            save_checkpoint(self.folder / "checkpoint", self.step, state, self.about)

    def _crops(self, start: int, stop: int) -> Iterator[Batches]:
        """The batches of the steps start, …, stop - 1, under the pools' present decisions."""
        streams = {}
        for name in self.method.streams:
            dataset = self.pools.dataset(name)
            if dataset is not None:
                crops = loader(dataset, start, stop, self.recipe.training.loaders)
                streams[name] = iter(self.fabric.setup_dataloaders(crops, use_distributed_sampler=False))
        for _ in range(start, stop):
            yield Batches(**{cast(str, name): next(crops) for name, crops in streams.items()})

    def _seed(self, step: int) -> None:
        # Dropout and augmentation of a step depend on nothing before it, so there is no random state to save.
        seed = self.recipe.training.seed + (self.fabric.global_rank << 16)
        torch.manual_seed((seed << 32) + step)

    def _check(self, metrics: dict[str, float]) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise WsisegError(
                f"At step {self.step} {bad[0]} is no longer a number: lower method.learning_rate and start again with "
                "--overwrite."
            )

    def _tell(self, message: str = "", metrics: dict[str, float] | None = None) -> None:
        if self.first:
            total = self.recipe.training.steps
            self.report(Progress(self.step, total, message=message, metrics=metrics or {}))
