"""Gradient flow of ||y - X b||^2: closed form, ODE solver, gradient descent (P3, sections 2, 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainers.flow.factors import Matrix


class Decomposition(NamedTuple):
    """X = U diag(sigma) V^T with the zero singular values left out.

    Attributes:
        left: U, (samples, rank).
        sigma: (rank,), descending.
        right: V, (features, rank).
    """

    left: Matrix
    sigma: Matrix
    right: Matrix


@dataclass(frozen=True)
class Problem:
    """Least squares from several starts at once.

    Attributes:
        design: X, (samples, features).
        observed: y, (samples,).
        starts: b_0, (features, starts).
    """

    design: Matrix
    observed: Matrix
    starts: Matrix

    def decomposition(self) -> Decomposition:
        """The SVD of X; what is below its rounding counts as zero, as in NumPy's matrix_rank."""
        left, sigma, right = np.linalg.svd(self.design, full_matrices=False)
        floor = sigma[0] * max(self.design.shape) * np.finfo(np.float64).eps
        rank = int(np.sum(sigma > floor))
        return Decomposition(left[:, :rank], sigma[:rank], right[:rank].T)

    def slope(self, coefficients: Matrix) -> Matrix:
        """db/dt = 2 X^T (y - X b), of shape (features, starts) as b."""
        return 2 * self.design.T @ (self.observed[:, None] - self.design @ coefficients)

    def loss(self, coefficients: Matrix) -> Matrix:
        """||y - X b||^2 of each start, (starts,)."""
        errors = self.observed[:, None] - self.design @ coefficients
        found: Matrix = np.square(errors).sum(axis=0)
        return found


def null_part(problem: Problem, coefficients: Matrix) -> Matrix:
    """P_null(X) b: what no gradient can change; (features, starts)."""
    right = problem.decomposition().right
    return coefficients - right @ (right.T @ coefficients)


def closed_form(problem: Problem, time: float) -> Matrix:
    """b_t = V Sigma_t^T U^T y + V diag(e^(-2 t lambda)) V^T b_0, (features, starts).

    (Sigma_t)_ii = (1 - e^(-2 t lambda_i)) / sigma_i, lambda = sigma^2. P3 has the first term, which
    is all there is for b_0 = 0.
    """
    left, sigma, right = problem.decomposition()
    exponents = -2 * time * np.square(sigma)
    learned = right @ (-np.expm1(exponents) / sigma * (left.T @ problem.observed))
    remembered = right @ (np.exp(exponents)[:, None] * (right.T @ problem.starts))
    found: Matrix = learned[:, None] + remembered + null_part(problem, problem.starts)
    return found


def limit(problem: Problem) -> Matrix:
    """X^+ y + P_null(X) b_0, where the flow ends; (features, starts)."""
    left, sigma, right = problem.decomposition()
    least = right @ ((left.T @ problem.observed) / sigma)
    found: Matrix = least[:, None] + null_part(problem, problem.starts)
    return found


def integrated(problem: Problem, times: Sequence[float], tolerance: float) -> list[Matrix]:
    """The same by an ODE solver, at each of the times; they ascend from 0."""
    from scipy.integrate import solve_ivp

    shape = problem.starts.shape
    found = solve_ivp(
        lambda _, state: problem.slope(state.reshape(shape)).ravel(),
        (0.0, times[-1]),
        problem.starts.ravel(),
        method="DOP853",
        t_eval=times,
        rtol=tolerance,
        atol=tolerance / 100,
    )
    return [state.reshape(shape) for state in found.y.T]


def descended(problem: Problem, lr: float, steps: Sequence[int]) -> Iterator[Matrix]:
    """Gradient descent: the coefficients after each of `steps` updates, which ascend."""
    coefficients, done = problem.starts, 0
    for step in steps:
        for _ in range(step - done):
            coefficients = coefficients + lr * problem.slope(coefficients)
        done = step
        yield coefficients
