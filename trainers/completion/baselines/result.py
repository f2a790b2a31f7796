"""What a baseline answers, and the check of what it is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Completion:
    """A completed matrix, and how it was found.

    Attributes:
        estimate: (m, n).
        iterations: of the solver, over all its stages.
        converged: whether it stopped by its own criterion rather than at the limit.
        note: how near it came, in words.
    """

    estimate: NDArray[np.float64]
    iterations: int
    converged: bool
    note: str


def observed_part(target: NDArray[np.float64], observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """P_Omega(target): the observed entries, zero elsewhere, whatever stands there.

    Raises:
        UsageError: not two matrices of one shape, nothing observed, or NaN or infinity observed.
    """
    if target.ndim != 2 or target.shape != observed.shape or observed.dtype != np.bool_:
        raise UsageError(
            f"target is {target.shape} and observed {observed.shape} of {observed.dtype}, "
            "expected a matrix and booleans of its shape"
        )
    if not observed.any():
        raise UsageError("no entry is observed, expected at least one")
    known = np.where(observed, target, 0.0)
    if not np.isfinite(known).all():
        raise UsageError("an observed entry is NaN or infinite, expected finite numbers")
    return known


def misfit(
    estimate: NDArray[np.float64], known: NDArray[np.float64], observed: NDArray[np.bool_]
) -> float:
    """||P_Omega(estimate - target)||_F / ||P_Omega(target)||_F; 0 where both are 0."""
    left_over = float(np.linalg.norm((estimate - known)[observed]))
    return left_over / float(np.linalg.norm(known)) if left_over else 0.0
