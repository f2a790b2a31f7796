"""Sums over the updates of plain SGD, so that a question about any step costs a bisection.

A learning rate that changes at every step makes a phase of each: a run of 100 000 of them is asked
about at hundreds of snapshots.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from rankscope.bounds.dynamics import Dynamics

# Sums of floats are trusted to this share of themselves; nearer to a tie, decimals decide.
DOUBT = 1e-9


class Cumulated:
    """What the updates before each step add up to.

    Args:
        dynamics: of the run.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics
        self._starts = [phase.start for phase in dynamics.phases]
        self._rates = [-math.log1p(-one.mu * one.weight_decay) for one in dynamics.phases]
        self._decays, self._samples = [0.0], [0]
        for index in range(len(self._starts) - 1):
            length = self._starts[index + 1] - self._starts[index]
            self._decays.append(self._decays[-1] + self._rates[index] * length)
            self._samples.append(self._samples[-1] + dynamics.phases[index].batch * length)

    def decay(self, step: int) -> float:
        """-ln of what plain SGD leaves of W_0 after so many updates."""
        index = bisect_right(self._starts, step) - 1
        return self._decays[index] + self._rates[index] * (step - self._starts[index])

    def samples(self, step: int, n: int) -> int:
        """As `Dynamics.samples`."""
        extra = self.dynamics.nesterov_samples(step, n)
        return self._samples_until(step) - self._samples_until(step - n) + extra

    def _samples_until(self, step: int) -> int:
        index = bisect_right(self._starts, step) - 1
        batch = self.dynamics.phases[index].batch
        return self._samples[index] + batch * (step - self._starts[index])

    def steps_needed(self, step: int | None, eps: float) -> int | None:
        """As `Dynamics.steps_needed`."""
        if step is None or self.dynamics.momentum:
            return self.dynamics.steps_needed(step, eps)
        whole = self.decay(step)
        target, doubt = whole - (math.log(2) - math.log(eps)), DOUBT * (1 + whole)
        if target < -doubt:
            return None
        # The latest step after which at most eps / 2 is left: the last in its phase, by the rate.
        index = bisect_right(self._decays, target, hi=bisect_right(self._starts, step)) - 1
        rate = self._rates[max(index, 0)]
        if index < 0 or rate == 0:
            return self.dynamics.steps_needed(step, eps)
        then = self._starts[index] + int((target - self._decays[index]) / rate)
        if min(target - self.decay(then), self.decay(then + 1) - target) < doubt:
            return self.dynamics.steps_needed(step, eps)
        return step - then
