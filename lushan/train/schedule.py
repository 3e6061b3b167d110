"""How the learning rate and the momentum change from step to step.

A step's numbers depend on its place among all steps of the run and on nothing else, so a run that
is resumed goes on exactly where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lushan.train.checks import check_choice, check_number, check_pair

Kind = Literal["cosine", "step", "one_cycle", "constant"]
KINDS: tuple[Kind, ...] = ("cosine", "step", "one_cycle", "constant")


@dataclass(frozen=True)
class Schedule:
    """The course of the learning rate, as factors of its peak, and of the momentum.

    ``warmup`` is the part of all steps in which the rate rises from ``start`` to 1: in a straight
    line, or along a cosine for "one_cycle". After that:

    * "cosine" falls along half a cosine to ``end`` at the last step (Loshchilov & Hutter 2017);
    * "step" multiplies by ``factor`` at each of the ``milestones``, which are parts of all steps;
    * "one_cycle" falls like "cosine", and meanwhile the momentum goes from the second number of
      ``momentum_range`` to the first, and back up as the rate falls (Smith & Topin 2019);
    * "constant" stays.
    """

    kind: Kind = "cosine"
    warmup: float = 0.05
    start: float = 0.04
    end: float = 0.001
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    momentum_range: tuple[float, float] = (0.85, 0.95)

    def __post_init__(self) -> None:
        check_choice("schedule.kind", self.kind, KINDS)
        check_number("schedule.warmup", self.warmup, 0, 0.95)
        check_number("schedule.start", self.start, 0, 1)
        check_number("schedule.end", self.end, 0, 1)
        check_number("schedule.factor", self.factor, 0, 1)
        check_pair("schedule.momentum_range", self.momentum_range, 0, 0.999)
        milestones = self.milestones if isinstance(self.milestones, tuple) else (self.milestones,)
        for before, milestone in zip((0.0, *milestones), milestones, strict=False):
            check_number("schedule.milestones", milestone, before, 1)

    def at(
        self, step: int, steps: int, *, learning_rate: float, momentum: float
    ) -> tuple[float, float]:
        """Return (learning rate, momentum) of ``step``, counted from 0, of ``steps`` in all.

        ``learning_rate`` is the peak. ``momentum`` is for every kind but "one_cycle".
        """
        cycles = self.kind == "one_cycle"
        # The peak is at step `top`: one cycle counts the steps as PyTorch's OneCycleLR does.
        top = max(0.0, self.warmup * steps - 1 if cycles else float(round(self.warmup * steps)))
        low, high = self.momentum_range if cycles else (momentum, momentum)
        if step < top:
            rise = _half_cosine(step / top) if cycles else step / top
            factor = self.start + (1 - self.start) * rise
            return learning_rate * factor, high + (low - high) * rise
        fall = _half_cosine(min(1.0, (step - top) / max(1.0, steps - 1 - top)))
        return learning_rate * self._after(step / steps, fall), low + (high - low) * fall

    def _after(self, place: float, fall: float) -> float:
        """Return the factor after the warm-up, at ``place`` of the run."""
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return self.factor ** sum(place >= milestone for milestone in self.milestones)
        return 1 + (self.end - 1) * fall


def _half_cosine(part: float) -> float:
    """Return a smooth way from 0 to 1: half a cosine wave."""
    return (1 - math.cos(math.pi * part)) / 2
