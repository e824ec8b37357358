"""Learning methods, one readable file each."""

from wsiseg.methods.adversarial import Adversarial
from wsiseg.methods.consistency import Consistency
from wsiseg.methods.mean_teacher import MeanTeacher
from wsiseg.methods.method import MethodClass
from wsiseg.methods.self_training import SelfTraining
from wsiseg.methods.supervised import Supervised

METHODS: dict[str, MethodClass] = {
    "supervised": Supervised,
    "adversarial": Adversarial,
    "consistency": Consistency,
    "mean_teacher": MeanTeacher,
    "self_training": SelfTraining,
}
