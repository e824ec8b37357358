"""Rounds: networks of earlier rounds label unlabelled crops for the next one, which starts again."""

from __future__ import annotations

from typing import Any

from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.semi import SemiSupervised
from wsiseg.methods.parts.teachers import Ensemble
from wsiseg.nets.segmentation import SegmentationNet


class Rounds(SemiSupervised):
    """A student that is taught by an ensemble of its EMAs of earlier rounds, with options of `RoundsOptions`.

    At the end of each round the EMA joins the ensemble, the oldest member leaves it, and the student starts again from its
    first weights with a learning rate that rises and falls again: a student that goes on would only keep what it has said
    itself. With `taught_from_start` the network that training starts from labels the first round.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.first = {k: v.detach().clone() for k, v in self.student.net.module.state_dict().items()}
        self.teacher = self.ensemble = self.make_ensemble(ctx)
        if ctx.options.taught_from_start:
            self.ensemble.add(self.student.ema.net)
        self.rounds_done = 0

    def make_ensemble(self, ctx: Context) -> Ensemble:
        """The teacher, without members."""
        return Ensemble(ctx.fabric, self.student.ema.net, ctx.options.members)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step, after the end of a round where that is due. Returns all losses and the round."""
        if int(progress * self.options.rounds) > self.rounds_done:
            self._end_round(int(progress * self.options.rounds))
        return super().update(batches, progress) | {"round": self.rounds_done + 1.0}

    def weight(self, progress: float) -> float:
        """As in other methods, but of the progress of this round; 0 before there is an ensemble."""
        return super().weight(self._within(progress)) if self.ensemble else 0.0

    def lr_progress(self, progress: float) -> float:
        """With `restart` the progress of this round."""
        return self._within(progress) if self.options.restart else progress

    def _within(self, progress: float) -> float:
        return progress * self.options.rounds - self.rounds_done

    def _end_round(self, rounds_done: int) -> None:
        self.rounds_done = rounds_done
        self.ensemble.add(self.student.ema.net)
        if self.options.restart:
            self.student.restart(self.first)

    def predictor(self) -> SegmentationNet:
        """The EMA of this round; in the first steps of a round that starts again, that of the round before."""
        early = self.options.restart and self.student.ema.updates < 1 and self.ensemble
        return self.ensemble.members[-1] if early else self.student.ema.net

    def state_dict(self) -> dict[str, Any]:
        """That of all parts, the first weights and the round."""
        return super().state_dict() | {"first": dict(self.first), "rounds_done": self.rounds_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.first = {k: v.to(self.first[k].device) for k, v in state["first"].items()}
        self.rounds_done = state["rounds_done"]

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in super()._parts().items() if name != "ensemble"}  # it is the teacher
