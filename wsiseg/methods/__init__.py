"""Learning methods, one readable file each."""

from wsiseg.methods.adversarial import Adversarial
from wsiseg.methods.method import MethodClass
from wsiseg.methods.supervised import Supervised

METHODS: dict[str, MethodClass] = {"supervised": Supervised, "adversarial": Adversarial}
