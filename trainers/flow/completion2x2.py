"""P3's completion problem [[*, 1], [1, 0]], its relatives of any shape, and what Theorem 1 bounds.

The solutions of zero loss have W_11 free, and every norm is smallest where W_11 is bounded; their
rank comes near its infimum only where W_11 grows without bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from trainers.flow.factors import Matrix


@dataclass(frozen=True)
class Problem:
    """Every entry is observed but W_11; 1 at (1, 2) and (2, 1), 0 elsewhere but for `ones`.

    Attributes:
        rows: d, at least 2.
        columns: d', at least 2.
        ones: how many diagonal entries from (3, 3) on are 1.
        targets: (rows, columns), 0 where nothing is observed.
        observed: (rows, columns), 1 where an entry is observed.
    """

    rows: int = 2
    columns: int = 2
    ones: int = 0
    targets: Matrix = field(init=False, repr=False)
    observed: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        targets = np.zeros((self.rows, self.columns))
        targets[0, 1] = targets[1, 0] = 1
        diagonal = range(2, 2 + self.ones)
        targets[diagonal, diagonal] = 1
        observed = np.ones_like(targets)
        observed[0, 0] = 0
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "observed", observed)

    @property
    def infimal_rank(self) -> int:
        """The least rank that solutions come arbitrarily near to: they have one more."""
        return 1 + self.ones

    def gradient(self, weight: Matrix) -> Matrix:
        """Of the loss with respect to W: the observed entries' errors."""
        return self.observed * (weight - self.targets)

    def loss(self, weight: Matrix) -> float:
        """Half the sum of squared errors of the observed entries (P3, Eq. 7)."""
        errors = self.gradient(weight)
        return 0.5 * float(np.vdot(errors, errors))


def determinant_sign(problem: Problem, weight: Matrix) -> int:
    """The sign of det of the leading block of 2 + `ones` rows: W itself if W is 2 x 2.

    Of every solution it is negative. 0 where the smallest singular value of the block is not above
    its rounding, by NumPy's rule for the rank.
    """
    size = 2 + problem.ones
    block = weight[:size, :size]
    sigma = np.linalg.svd(block, compute_uv=False)
    if sigma[-1] <= size * np.finfo(np.float64).eps * sigma[0]:
        return 0
    return int(np.linalg.slogdet(block).sign)


def norm_bound(loss: float) -> float:
    """What the Frobenius, nuclear and spectral norms are at least: a / sqrt(l) - b.

    P3, Eqs. 11 and 20 with a = 1 / sqrt(2), b = 2: each of the three is at least |W_11|, and
    |W_11| >= (1 - sqrt(2 l))^2 / sqrt(2 l) while W_11 W_22 > W_12 W_21. From l = 1/2 on, where the
    proof does not reach, it is negative.
    """
    return 1 / math.sqrt(2 * loss) - 2


def distance_bound(loss: float) -> float:
    """What the distance to the matrices of infimal rank is at most: sqrt(2) sqrt(l) (P3, Eq. 13).

    The solution with the same W_11 is sqrt(2 l) away from W. Its determinant is negative; if W's is
    positive, a singular matrix lies between the two. In the relatives that is so for the leading
    block, and what stands beside it adds up, if it stands on the diagonal.
    """
    return math.sqrt(2 * loss)


def effective_rank_bound(problem: Problem, loss: float) -> float | None:
    """What the effective rank is at most: 1 + c sqrt(l) (P3, Eq. 12); None where no c does.

    c = min(rows, columns) - 1 is the supremum of (effective rank - 1) / sqrt(l) over matrices with
    a positive determinant of the leading block, and diagonal beside it, found numerically; it is
    approached for W near 0. With `ones` the effective rank falls as sqrt(l) ln(1 / l), slower than
    any c sqrt(l).
    """
    if problem.ones:
        return None
    return 1 + (min(problem.rows, problem.columns) - 1) * math.sqrt(loss)
