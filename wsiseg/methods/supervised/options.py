"""[method] name = "supervised"."""

from __future__ import annotations

from typing import ClassVar, Literal

from wsiseg.methods.options import LearningOptions


class SupervisedOptions(LearningOptions):
    """Labelled slides alone."""

    implementation: ClassVar[str] = "wsiseg.methods.supervised.method:Supervised"
    name: Literal["supervised"] = "supervised"
