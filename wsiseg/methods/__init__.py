"""Learning methods. Each is a package: `options` (the keys of its recipe, without torch) and `method` (the code).

    parts/     what several methods are made of: the student, views, teachers, gates, banks, the critic
    context    what a method is given, and what it must do
    options    keys that several methods share

To add one: write the package, and put its options into `MethodOptions` below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, get_args

from wsiseg.methods.adaptation.options import AdaptationOptions
from wsiseg.methods.adversarial.options import AdversarialOptions
from wsiseg.methods.ael.options import AELOptions
from wsiseg.methods.consistency.options import ConsistencyOptions
from wsiseg.methods.contrastive.options import ContrastiveOptions
from wsiseg.methods.copy_paste.options import CopyPasteOptions
from wsiseg.methods.dmpct.options import DMPCTOptions
from wsiseg.methods.dtc.options import DTCOptions
from wsiseg.methods.mean_teacher.options import MeanTeacherOptions
from wsiseg.methods.mix_and_match.options import MixAndMatchOptions
from wsiseg.methods.mutual_learning.options import MutualLearningOptions
from wsiseg.methods.options import LearningOptions
from wsiseg.methods.s4l.options import S4LOptions
from wsiseg.methods.self_training.options import SelfTrainingOptions
from wsiseg.methods.style_match.options import StyleMatchOptions
from wsiseg.methods.supervised.options import SupervisedOptions
from wsiseg.methods.weak_labels.options import WeakLabelsOptions

if TYPE_CHECKING:
    from wsiseg.methods.context import Context, Method

MethodOptions = (
    SupervisedOptions
    | AdversarialOptions
    | ConsistencyOptions
    | CopyPasteOptions
    | MeanTeacherOptions
    | SelfTrainingOptions
    | AdaptationOptions
    | MutualLearningOptions
    | ContrastiveOptions
    | S4LOptions
    | MixAndMatchOptions
    | WeakLabelsOptions
    | AELOptions
    | StyleMatchOptions
    | DTCOptions
    | DMPCTOptions
)  # fmt: skip

METHODS: dict[str, type[LearningOptions]] = {
    options.model_fields["name"].default: options for options in get_args(MethodOptions)
}


def make_method(context: Context) -> Method:
    """The method whose options a context holds; only now is its code imported, and torch with it."""
    module, _, name = context.options.implementation.partition(":")
    method: Method = getattr(import_module(module), name)(context)
    return method
