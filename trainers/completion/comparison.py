"""The baselines over numbers of observed entries: their part of P2's figures 4 and 5."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import rankscope
from trainers.completion.baselines import METHODS, complete
from trainers.completion.baselines.result import Completion
from trainers.completion.problem import Problem, draw


@dataclass(frozen=True, slots=True)
class Record:
    """What one method made of one problem.

    Attributes:
        method: one of `METHODS`.
        observed: how many entries were known.
        seed: of the problem.
        error_all: mean of (W - W*)^2 over all entries.
        error_unobserved: over those that are not observed.
        effective_rank: of W; None for W = 0.
        converged: whether the method stopped by its own criterion.
        seconds: that it took.
    """

    method: str
    observed: int
    seed: int
    error_all: float
    error_unobserved: float
    effective_rank: float | None
    converged: bool
    seconds: float


def compare(
    observed_counts: Sequence[int],
    seeds: Sequence[int],
    rank: int,
    shape: tuple[int, int] = (100, 100),
    methods: Sequence[str] = METHODS,
) -> list[Record]:
    """Every method on every problem, by number of observations, seed and method.

    The targets are scaled to a mean square of 1, so that errors are relative. The entries known at
    a smaller number of observations are among those known at a larger one.

    Raises:
        UsageError: no such method, rank or number of entries.
        ModuleNotFoundError: `nuclear` needs cvxpy.
    """
    return [
        judge(method, draw(shape, rank, count, seed, scaled=True), seed)[1]
        for count in observed_counts
        for seed in seeds
        for method in methods
    ]


def judge(method: str, problem: Problem, seed: int) -> tuple[Completion, Record]:
    """Complete a problem, and say how well."""
    target, observed = problem.target.numpy(), problem.observed.numpy()
    begun = time.perf_counter()
    found = complete(method, target, observed, problem.rank)
    seconds = time.perf_counter() - begun
    squares = (found.estimate - target) ** 2
    return found, Record(
        method,
        observed=int(observed.sum()),
        seed=seed,
        error_all=float(squares.mean()),
        error_unobserved=float(squares[~observed].mean()),
        effective_rank=_effective_rank(found.estimate),
        converged=found.converged,
        seconds=seconds,
    )


def _effective_rank(matrix: NDArray[np.float64]) -> float | None:
    return rankscope.metrics.effective_rank(rankscope.spectrum(matrix)).value
