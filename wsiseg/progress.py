"""The progress event of long jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come.

    Attributes:
        done, total: units of work (tiles, blocks, training steps) that are finished, and all of them
        task: which part of the job is running, where it has several: "glomeruli", "podocytes"
        message: one line for people, often empty
        metrics: name -> latest value, such as the losses of a training step
    """

    done: int
    total: int
    task: str = ""
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Report nothing."""
