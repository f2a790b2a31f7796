"""From a start to a small loss, on the factors: along gradient flow, and by gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trainers.flow.completion2x2 import Problem
from trainers.flow.factors import Matrix, balanced, gradients, product

if TYPE_CHECKING:
    from scipy.integrate import OdeSolution

Shapes: TypeAlias = tuple[tuple[int, int], ...]

# Far beyond what depth 2, the slowest, needs for a loss of 1e-6.
LATEST = 1e9

# Of the loss to that at the start, from where on descent has diverged. Ours: with a step size that
# is short enough the loss falls, and beyond it grows doubly exponentially.
BEYOND = 1e6

# Of the smallest singular value of a factor to its largest. Below it, the solver's tolerance of
# 1e-10 could let it change its sign, which it never does along the flow (P3, Lemma 5). At depth 2 a
# direction passes it exponentially fast; the product's singular value is then below 1e-14 of the
# largest.
RESOLVED = 1e-7


@dataclass(frozen=True)
class Segment:
    """A stretch of the flow with one set of shapes.

    Attributes:
        stop: the time at its end.
        solution: the factors' entries, one after the other, at any time of it.
        shapes: those of the factors.
    """

    stop: float
    solution: OdeSolution
    shapes: Shapes

    def factors(self, time: float) -> list[Matrix]:
        """W_1, ..., W_L at a time."""
        return _unpacked(self.solution(time), self.shapes)


@dataclass(frozen=True)
class Flow:
    """Gradient flow on balanced factors until the loss is small.

    Attributes:
        segments: one, and one more for every time that directions fell below the resolution.
    """

    segments: tuple[Segment, ...]

    @property
    def stop(self) -> float:
        """The time at which the loss is what was asked for, or `LATEST`."""
        return self.segments[-1].stop

    def factors(self, time: float) -> list[Matrix]:
        """W_1, ..., W_L at a time from 0 to `stop`."""
        inside = (part for part in self.segments if time <= part.stop)
        return next(inside, self.segments[-1]).factors(time)


def flow(problem: Problem, start: Matrix, depth: int, target: float, tolerance: float) -> Flow:
    """dW_j/dt = - dl/dW_j from the balanced factors of `start` until l(t) = `target`, or `LATEST`.

    Radau's implicit method: the largest rate grows as sigma_1^(2 - 2/L), and an explicit one takes
    300 times as many evaluations. A direction below the resolution is taken out of the factors:
    zero singular values stay zero along the flow.

    Args:
        problem: what is completed.
        start: the product at time 0, (rows, columns).
        depth: L, at least 2.
        target: the loss to stop at.
        tolerance: of the solver, relative; the absolute one is 100 times smaller.
    """
    from scipy.integrate import solve_ivp

    factors, time, segments = balanced(start, depth), 0.0, list[Segment]()
    while True:
        shapes = tuple((len(factor), len(factor.T)) for factor in factors)
        events = [_Event(lambda now: problem.loss(product(now)) - target, shapes)]
        if min(shapes[0]) > 1:
            events.append(_Event(_smallest, shapes))

        def rates(_time: float, state: Matrix, shapes: Shapes = shapes) -> Matrix:
            now = _unpacked(state, shapes)
            return -_packed(gradients(now, problem.gradient(product(now))))

        found = solve_ivp(
            rates,
            (time, LATEST),
            _packed(factors),
            method="Radau",
            rtol=tolerance,
            atol=tolerance / 100,
            events=events,
            dense_output=True,
        )
        time = float(found.t[-1])
        segments.append(Segment(time, found.sol, shapes))
        if found.t_events[0].size or not any(times.size for times in found.t_events):
            return Flow(tuple(segments))
        factors = _resolved(segments[-1].factors(time))


def descent(
    problem: Problem, start: Matrix, depth: int, lr: float, steps: Sequence[int]
) -> Iterator[tuple[int, list[Matrix]]]:
    """Gradient descent from the balanced factors of `start`: the factors after each of `steps`.

    It ends before the first of them at which the loss is `BEYOND` times that at the start.

    Args:
        problem: what is completed.
        start: the product before the first update.
        depth: L, at least 2.
        lr: the step size.
        steps: numbers of updates, ascending.
    """
    factors = balanced(start, depth)
    done, most = 0, BEYOND * problem.loss(start)
    for step in steps:
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(step - done):
                slopes = gradients(factors, problem.gradient(product(factors)))
                moves = zip(factors, slopes, strict=True)
                factors = [factor - lr * slope for factor, slope in moves]
            diverged = not problem.loss(product(factors)) <= most  # nor is NaN
        if diverged:
            return
        done = step
        yield step, factors


@dataclass(frozen=True)
class _Event:
    """Ends the integration where a function of the factors becomes 0."""

    of: Callable[[list[Matrix]], float]
    shapes: Shapes
    terminal: bool = True

    def __call__(self, _time: float, state: Matrix) -> float:
        return self.of(_unpacked(state, self.shapes))


def _smallest(factors: Sequence[Matrix]) -> float:
    """How far the factors' smallest singular value is above the resolution."""
    sigma = np.linalg.svd(factors[0], compute_uv=False)
    return float(sigma[-1] / sigma[0]) - RESOLVED


def _resolved(factors: Sequence[Matrix]) -> list[Matrix]:
    """The factors without the directions that are at the resolution or below."""
    sigma = np.linalg.svd(factors[0], compute_uv=False)
    # The solver stops within a rounding of the resolution, on either side.
    return balanced(product(factors), len(factors), int(np.sum(sigma > 2 * RESOLVED * sigma[0])))


def _packed(factors: Sequence[Matrix]) -> Matrix:
    return np.concatenate([factor.ravel() for factor in factors])


def _unpacked(state: Matrix, shapes: Shapes) -> list[Matrix]:
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    pieces = np.split(state, ends[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
