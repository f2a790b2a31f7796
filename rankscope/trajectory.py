"""A matrix through a run: norm ratios, bounds and the theorem's assumption.

The columns that need more than one spectrum. `norm_ratio` is what Theorem 3.3 of P1 assumes to
tend to 1; the bounds are those of `rankscope.bounds` with the run's own hyperparameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankscope.bounds.closed import closed_form
from rankscope.bounds.cumulated import Cumulated
from rankscope.bounds.dynamics import Dynamics
from rankscope.metrics.thresholded import Norm, norm_of
from rankscope.question import eps_key
from rankscope.records import INFINITE, Reading, Spectrum
from rankscope.training import Training
from rankscope.walk import steps_needed_at

Vector = NDArray[np.float64]

RATIO = "norm_ratio"
CLOSED, EXACT, MEASURED, VACUOUS = "bound_closed", "bound_exact", "bound_measured", "vacuous"

NO_SERIES = "needs a series of snapshots"
NO_DECAY = f"{INFINITE}: mu or weight decay is 0"

# How far from 1 a ratio of norms may be and count as converged. P1's Figs. 14 and 15 show curves
# that settle within a line's width of 1; from there to 0.01, the theorem's factor 2 is safe for
# 69 snapshots (1.01^69 < 2).
TOLERANCE = 0.01

MANY_PHASES = 100  # learning rates that change more often change at every step


def followed_norm(spectrum: Spectrum, norm: Norm) -> float:
    """The norm of a matrix that is followed; Frobenius' where eps is relative to none."""
    return norm_of(spectrum, 0.0, "frobenius" if norm == "none" else norm)


@dataclass(frozen=True, slots=True)
class Passage:
    """One matrix through a series.

    Attributes:
        tensor: the name of its tensor, which m_l is recorded for.
        smaller: min(rows, columns).
        steps: of the snapshots where it has a spectrum, ascending; None of a single file.
        before: for each of them, the step of the series' snapshot before it, whether or not the
            matrix has a spectrum there; None of the first.
        norms: at each of them, in the norm asked for.
    """

    tensor: str
    smaller: int
    steps: Sequence[int | None]
    before: Sequence[int | None]
    norms: Sequence[float]


@dataclass(frozen=True, slots=True)
class RunBounds:
    """The bounds in one run, with what its matrices share computed once.

    Attributes:
        dynamics: its updates.
        sums: over them.
        needed: n* by (step, eps).
        between: what the updates between two snapshots do to (W, v), by their steps.
    """

    dynamics: Dynamics
    sums: Cumulated
    needed: dict[tuple[int | None, float], int | None] = field(default_factory=dict)
    between: dict[tuple[int, int], tuple[float, float, float, float]] = field(default_factory=dict)

    def closed(self, inputs: int, step: int | None, eps: float) -> Reading:
        """Theorem 3.3 with the hyperparameters of the last update."""
        if self.dynamics.momentum:
            return Reading(None, "Theorem 3.3 is about SGD without momentum")
        last = self.dynamics.phases[-1]
        phase = last if step is None else self.dynamics.phase(max(step - 1, 0))
        value = closed_form(inputs, phase.batch, phase.mu, phase.weight_decay, eps)
        return Reading(value, "" if math.isfinite(value) else NO_DECAY)

    def prepare(self, steps: Sequence[int | None], eps: float) -> None:
        """Count for all snapshots at once where one by one would take long."""
        wanted = [step for step in steps if step and (step, eps) not in self.needed]
        if self.dynamics.momentum and len(self.dynamics.phases) > MANY_PHASES and wanted:
            found = steps_needed_at(self.dynamics, wanted, eps)
            self.needed.update({(step, eps): count for step, count in found.items()})

    def exact(self, inputs: int, step: int | None, eps: float) -> Reading:
        """The exact count, with the schedule up to this step."""
        key = (step, eps)
        if key not in self.needed:
            self.needed[key] = None if step == 0 else self.sums.steps_needed(step, eps)
        steps = self.needed[key]
        if steps is None and any(one.mu * one.weight_decay > 0 for one in self.dynamics.phases):
            return Reading(None, "too few steps so far")
        if steps is None:
            return Reading(math.inf, NO_DECAY)
        found = (
            self.dynamics.samples(None, steps) if step is None else self.sums.samples(step, steps)
        )
        return Reading(inputs * found)

    def measured(self, inputs: int, passage: Passage, eps: float) -> list[Reading]:
        """Lemma 3.2 at each snapshot: the norms of the run, the latest snapshot that will do."""
        found = (
            self._momentum(passage, eps) if self.dynamics.momentum else self._plain(passage, eps)
        )
        readings = []
        for now, then in zip(passage.steps, found, strict=True):
            if now is None:
                readings.append(Reading(None, NO_SERIES))
            elif then is None:
                readings.append(
                    Reading(None, "no snapshot is so far back that this little is left")
                )
            else:
                readings.append(Reading(inputs * self.sums.samples(now, now - then)))
        return readings

    def _plain(self, passage: Passage, eps: float) -> list[int | None]:
        """The latest step of which at most eps is left, for each snapshot."""
        steps = [step for step in passage.steps if step is not None]
        if len(steps) < len(passage.steps):
            return [None] * len(passage.steps)
        decay = np.array([self.sums.decay(step) for step in steps])
        with np.errstate(divide="ignore"):  # a zero matrix has norm 0, and nothing is left of it
            size = np.log(np.asarray(passage.norms)) + decay
        enough = size + math.log(eps)
        found: list[int | None] = []
        for index in range(len(steps)):
            fit = np.flatnonzero(size[:index] <= enough[index])
            found.append(steps[fit[-1]] if fit.size else None)
        return found

    def _momentum(self, passage: Passage, eps: float) -> list[int | None]:
        """The same with momentum, whose state shows in two consecutive snapshots.

        From the last snapshot backwards, with the rows of Phi of all later ones at once.
        """
        steps = [step for step in passage.steps if step is not None]
        if len(steps) < len(passage.steps):
            return [None] * len(passage.steps)
        norms, found = np.asarray(passage.norms), np.full(len(steps), -1)
        x, y = np.zeros(len(steps)), np.zeros(len(steps))
        for then in reversed(range(len(steps) - 1)):
            later = slice(then + 1, None)
            x[then + 1], y[then + 1] = 1.0, 0.0
            a, b, c, d = self._between(steps[then], steps[then + 1])
            x[later], y[later] = x[later] * a + y[later] * c, x[later] * b + y[later] * d
            left = self._left(steps, norms, then, x[later], y[later])
            if left is not None:
                fit = (left <= eps * norms[later]) & (found[later] < 0)
                found[later][fit] = then
        return [steps[then] if then >= 0 else None for then in found]

    def _left(
        self, steps: Sequence[int], norms: Vector, then: int, x: Vector, y: Vector
    ) -> Vector | None:
        """A bound on the norm of what later snapshots hold of one; None where it cannot be told."""
        if steps[then] == 0:  # momentum starts at 0
            return np.abs(x) * float(norms[then])
        if then == 0 or steps[then - 1] != steps[then] - 1:
            return None
        factors = self.dynamics.momentum_factors(steps[then])
        if factors is None:
            return None
        share = y * float(factors[0])
        now, before = float(norms[then]), float(norms[then - 1])
        return np.abs(x - share) * now + np.abs(share * float(factors[1])) * before

    def _between(self, start: int, end: int) -> tuple[float, float, float, float]:
        if (start, end) not in self.between:
            self.between[start, end] = self.dynamics.transfer(start, end)
        return self.between[start, end]


@dataclass(frozen=True, slots=True)
class Theory:
    """What the theory says of one series.

    Attributes:
        training: how it was trained; None when nothing is known.
        eps: thresholds of the ranks.
        norm: what they are relative to.
    """

    training: Training | None
    eps: tuple[float, ...]
    norm: Norm

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns there are."""
        bounds = [] if self.training is None else [key for eps in self.eps for key in self._at(eps)]
        return (RATIO, *bounds)

    @property
    def bounded(self) -> tuple[float, ...]:
        """The thresholds for which there may be a bound."""
        return () if self.training is None or self.training.dynamics is None else self.eps

    def averaged(self, tensor: str) -> bool | None:
        """Whether the run counts a tensor in its average; None when it does not say of any."""
        marks = self.training.averaged if self.training else {}
        return marks.get(tensor, False) if marks else None

    def _at(self, eps: float) -> tuple[str, ...]:
        names = (CLOSED, EXACT, MEASURED, VACUOUS)
        return tuple(eps_key(name, eps, self.eps) for name in names)

    def readings(self, passages: Iterable[Passage]) -> Iterator[list[dict[str, Reading]]]:
        """For each matrix the readings at each of its snapshots."""
        dynamics = self.training.dynamics if self.training else None
        bounds = None if dynamics is None else RunBounds(dynamics, Cumulated(dynamics))
        for passage in passages:
            found = [{RATIO: norm_ratio(passage, index)} for index in range(len(passage.steps))]
            for eps in self.eps if self.training else ():
                reason = self._refusal(passage, eps)
                if bounds is None or reason:
                    nothing = dict.fromkeys(self._at(eps), Reading(None, reason))
                    found = [one | nothing for one in found]
                else:
                    found = [
                        one | dict(zip(self._at(eps), readings, strict=True))
                        for one, readings in zip(
                            found, self._bounds(bounds, passage, eps), strict=True
                        )
                    ]
            yield found

    def _refusal(self, passage: Passage, eps: float) -> str:
        """Why there is no bound for a matrix; empty when there is."""
        if self.training is None or self.training.dynamics is None:
            return self.training.reason if self.training else ""
        if self.norm == "none":
            return "the theorem is about W / ||W||; choose another --norm"
        if not 0 < eps < 2:
            return "the theorem needs eps above 0 and below 2"
        return self.training.lacks_inputs(passage.tensor)

    def _bounds(
        self, bounds: RunBounds, passage: Passage, eps: float
    ) -> Iterator[tuple[Reading, Reading, Reading, Reading]]:
        inputs = (self.training.inputs_of(passage.tensor) if self.training else None) or 1
        bounds.prepare(passage.steps, eps)
        measured = bounds.measured(inputs, passage, eps)
        for step, by_norms in zip(passage.steps, measured, strict=True):
            exact = bounds.exact(inputs, step, eps)
            # A bound that is no smaller than the number of singular values says nothing.
            vacuous = exact.value is None or exact.value >= passage.smaller
            yield bounds.closed(inputs, step, eps), exact, by_norms, Reading(vacuous)


def norm_ratio(passage: Passage, index: int) -> Reading:
    """||W_{T-1}|| / ||W_T|| over consecutive snapshots."""
    if passage.steps[index] is None:
        return Reading(None, NO_SERIES)
    before = passage.before[index]
    if before is None:
        return Reading(None, "the first snapshot")
    if index == 0 or passage.steps[index - 1] != before:  # a ratio over two intervals is no ratio
        return Reading(None, f"no spectrum at step {before}, the snapshot before")
    if passage.norms[index] == 0:
        return Reading(None, "the matrix is zero")
    return Reading(passage.norms[index - 1] / passage.norms[index])


@dataclass(frozen=True, slots=True)
class Convergence:
    """Whether the assumption of Theorem 3.3 held in a run, as far as its snapshots tell.

    Attributes:
        tolerance: how far from 1 a ratio may be.
        since: for each matrix, the step from which on every ratio is that close to 1, or None.
    """

    tolerance: float
    since: Mapping[str, int | None]

    @property
    def converged(self) -> bool:
        """Whether every matrix did."""
        return all(step is not None for step in self.since.values())

    @property
    def since_step(self) -> int | None:
        """The step from which on all of them had converged."""
        steps = [step for step in self.since.values() if step is not None]
        return max(steps) if steps and self.converged else None

    @property
    def not_converged(self) -> tuple[str, ...]:
        """The matrices that did not."""
        return tuple(name for name, step in self.since.items() if step is None)


def convergence(
    ratios: Mapping[str, Sequence[tuple[int, float]]], tolerance: float = TOLERANCE
) -> Convergence | None:
    """The verdict from each matrix's (step, ratio) pairs, ascending; None without any ratio."""
    since: dict[str, int | None] = {}
    for name, pairs in ratios.items():
        start: int | None = None
        for step, ratio in pairs:
            close = abs(ratio - 1) <= tolerance
            start = (step if start is None else start) if close else None
        if pairs:
            since[name] = start
    return Convergence(tolerance, since) if since else None
