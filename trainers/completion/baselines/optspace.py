"""OptSpace: a rank-r start from the trimmed observations, then descent over subspaces.

Keshavan, Montanari & Oh, "Matrix completion from a few entries", IEEE Transactions on Information
Theory 2010. The answer is X S Y^T with orthonormal X (m, r) and Y (n, r); the paper's X and Y are
longer by sqrt(m) and sqrt(n), its S shorter by sqrt(mn). Its penalty on rows that are too long
has weight 0 in its authors' program, and is left out: with few observations, about 2000 of 100x100
at rank 5, entries that are not observed can then grow without end while the others fit ever better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from rankscope.errors import UsageError
from trainers.completion.baselines.result import Completion, misfit, observed_part

# The authors' program stops at 1e-6, too, but after 50 iterations at the latest. 100x100 of rank 5
# takes 30 with 6000 observations, 100 with 3000, and 700 to 3600 with 2000, where it recovers.
TOLERANCE = 1e-6
ITERATIONS = 5000

# The step is refused unless it gains this share of what the slope promises: the authors' value.
SUFFICIENT = 0.5

# A step of 2^-40 of the one before is lost in rounding.
HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Observations:
    """What is known of the target.

    Attributes:
        known: P_Omega(target) (m, n), zero where nothing is observed.
        observed: (m, n).
    """

    known: NDArray[np.float64]
    observed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Factors:
    """A matrix of rank r, left @ core @ right.T.

    Attributes:
        left: X (m, r), orthonormal columns.
        core: S (r, r).
        right: Y (n, r), orthonormal columns.
    """

    left: NDArray[np.float64]
    core: NDArray[np.float64]
    right: NDArray[np.float64]

    def matrix(self) -> NDArray[np.float64]:
        """(m, n)."""
        product: NDArray[np.float64] = self.left @ self.core @ self.right.T
        return product


def complete(
    target: NDArray[np.float64],
    observed: NDArray[np.bool_],
    rank: int,
    tolerance: float = TOLERANCE,
    max_iterations: int = ITERATIONS,
) -> Completion:
    """Minimise F(X, Y) = min over S of 1/2 ||P_Omega(X S Y^T - target)||_F^2.

    Args:
        target: (m, n); what is not observed is not read.
        observed: (m, n); which entries are known.
        rank: r.
        tolerance: stop where ||P_Omega(X S Y^T - target)||_F <= tolerance ||P_Omega(target)||_F.
        max_iterations: at most; with 0 the answer is the scaled start.

    Raises:
        UsageError: observations that cannot be used, or no such rank.
    """
    if not 1 <= rank <= min(target.shape):
        raise UsageError(f"rank is {rank}, expected 1 to {min(target.shape)}")
    known = observed_part(target, observed)
    data = Observations(known, observed)
    factors = spectral_start(data, rank)
    if max_iterations == 0:
        return Completion(factors.matrix(), 0, False, "the start")
    factors, iterations, reason = _descend(data, factors, tolerance, max_iterations)
    estimate = factors.matrix()
    note = f"{reason or 'limit'}, {misfit(estimate, known, observed):.1e} of the data not fitted"
    return Completion(estimate, iterations, bool(reason), note)


def trim(data: Observations) -> NDArray[np.float64]:
    """Zero every row and column with more than twice the average number of observations.

    Their singular vectors would sit on single rows and columns. The authors' program drops
    surplus entries at random instead.

    >>> observed = np.array([[True, True, True], [True, False, False], [False, False, False]])
    >>> trim(Observations(np.ones((3, 3)) * observed, observed))
    array([[0., 0., 0.],
           [1., 0., 0.],
           [0., 0., 0.]])
    """
    entries = data.observed.sum()
    height, width = data.observed.shape
    kept = data.known.copy()
    kept[data.observed.sum(axis=1) > 2 * entries / height] = 0.0
    kept[:, data.observed.sum(axis=0) > 2 * entries / width] = 0.0
    return kept


def spectral_start(data: Observations, rank: int) -> Factors:
    """The best rank-r approximation of the trimmed matrix, times m n / (observed entries).

    The factor makes the mean over random observations that of the target.
    """
    left, sigma, right = np.linalg.svd(trim(data), full_matrices=False)
    scale = data.observed.size / data.observed.sum()
    return Factors(left[:, :rank], np.diag(scale * sigma[:rank]), right[:rank].T)


def best_core(left: NDArray[np.float64], right: NDArray[np.float64], data: Observations) -> Factors:
    """The S of least squares for X and Y."""
    rank = left.shape[1]
    # (X S Y^T)_ij is the sum over a, b of X_ia Y_jb S_ab. The matrix of the normal equations,
    # sum over the observed i, j of X_ia Y_jb X_ic Y_jd, comes from two products without a list of
    # equations, which is 20 times faster at rank 10; orthonormal X and Y make it well conditioned.
    pairs_left = (left[:, :, None] * left[:, None, :]).reshape(-1, rank * rank)
    pairs_right = (right[:, :, None] * right[:, None, :]).reshape(-1, rank * rank)
    sums = (pairs_left.T @ data.observed.astype(np.float64) @ pairs_right).reshape((rank,) * 4)
    normal = sums.transpose(0, 2, 1, 3).reshape(rank * rank, rank * rank)
    # With fewer observations than unknowns there are several: the one of least norm.
    core = scipy.linalg.lstsq(
        normal, (left.T @ data.known @ right).ravel(), lapack_driver="gelsy", check_finite=False
    )[0]
    return Factors(left, core.reshape(rank, rank), right)


def residual(factors: Factors, data: Observations) -> NDArray[np.float64]:
    """P_Omega(X S Y^T - target), (m, n)."""
    return np.where(data.observed, factors.matrix() - data.known, 0.0)


def objective(factors: Factors, data: Observations) -> float:
    """1/2 ||P_Omega(X S Y^T - target)||_F^2."""
    return float(np.sum(residual(factors, data) ** 2)) / 2


def gradient(
    factors: Factors, data: Observations
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The gradient of F at X and Y on their Grassmann manifolds, (m, r) and (n, r).

    (I - X X^T) R Y S^T and (I - Y Y^T) R^T X S with R the residual and S the best core, which
    moves with X and Y but, being a minimum, adds nothing. X^T R Y = 0 says the same, so that the
    projections only take away rounding.
    """
    left, core, right = factors.left, factors.core, factors.right
    difference = residual(factors, data)
    along_left = difference @ right @ core.T
    along_right = difference.T @ left @ core
    return (
        along_left - left @ (left.T @ along_left),
        along_right - right @ (right.T @ along_right),
    )


def geodesic(
    frame: NDArray[np.float64], direction: NDArray[np.float64], time: float
) -> NDArray[np.float64]:
    """The frame after `time` along the geodesic with this velocity, still orthonormal.

    Edelman, Arias & Smith, "The geometry of algorithms with orthogonality constraints", 1998,
    theorem 2.3: (X V cos(D t) + U sin(D t)) V^T for velocity U D V^T with X^T U = 0.
    """
    turned, angles, axes = np.linalg.svd(direction, full_matrices=False)
    moved = (frame @ axes.T) * np.cos(angles * time) + turned * np.sin(angles * time)
    # Back by V^T, or the core would no longer belong to the columns.
    frame_after: NDArray[np.float64] = moved @ axes
    return frame_after


def _descend(
    data: Observations, start: Factors, tolerance: float, max_iterations: int
) -> tuple[Factors, int, str]:
    """Steepest descent; where it ended, after how many steps, and why ("" at the limit)."""
    size = float(np.linalg.norm(data.known))
    factors = best_core(start.left, start.right, data)
    step = 0.0
    for iteration in range(max_iterations + 1):
        left_over = float(np.sqrt(2 * objective(factors, data)))
        if left_over <= tolerance * size:
            return factors, iteration, "fitted"
        slopes = gradient(factors, data)
        largest = float(np.linalg.norm(factors.core, 2))
        steepness = float(np.hypot(np.linalg.norm(slopes[0]), np.linalg.norm(slopes[1])))
        # The slope along any unit direction is at most left_over * largest.
        if steepness <= tolerance * left_over * largest:
            return factors, iteration, "stationary"
        if iteration == max_iterations:
            break
        # Twice the last, so that steps can grow; 1 / largest^2 is safe if all is observed.
        moved, step = _line_search(data, factors, slopes, 2 * step or 1 / largest**2)
        factors = best_core(moved.left, moved.right, data)
    return factors, max_iterations, ""


def _line_search(
    data: Observations,
    factors: Factors,
    slopes: tuple[NDArray[np.float64], NDArray[np.float64]],
    step: float,
) -> tuple[Factors, float]:
    """Halve the step until it gains enough with the old core; the best core can only gain more."""
    before = objective(factors, data)
    squared = float(np.sum(slopes[0] ** 2) + np.sum(slopes[1] ** 2))
    for _ in range(HALVINGS):
        moved = Factors(
            geodesic(factors.left, -slopes[0], step),
            factors.core,
            geodesic(factors.right, -slopes[1], step),
        )
        if objective(moved, data) <= before - SUFFICIENT * step * squared:
            break
        step /= 2
    return moved, step
