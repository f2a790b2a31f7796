"""Matrix completion by methods that train nothing: what P2's figures 4 and 5 compare with.

    result = complete("nuclear", target, observed, rank=5)
    result.estimate, result.converged, result.note

Each method is a file of its own with a function `complete(target, observed, ...)` and its options.
P2 took SoftImpute from fancyimpute and OptSpace from ROptSpace, which with their defaults stop long
before the minimum: `softimpute-as-p2` and `optspace-as-p2` stop there too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rankscope.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainers.completion.baselines.result import Completion

METHODS = ("nuclear", "softimpute", "optspace", "softimpute-as-p2", "optspace-as-p2")


def complete(
    method: str, target: NDArray[np.float64], observed: NDArray[np.bool_], rank: int
) -> Completion:
    """Complete a matrix by one of `METHODS`.

    Args:
        method: one of `METHODS`.
        target: (m, n); what is not observed is not read.
        observed: (m, n); which entries are known.
        rank: of the answer; only OptSpace asks for it.

    Raises:
        UsageError: an unknown method, or observations that it cannot use.
        ModuleNotFoundError: `nuclear` needs cvxpy.
    """
    from trainers.completion.baselines import nuclear, optspace, softimpute

    match method:
        case "nuclear":
            return nuclear.complete(target, observed)
        case "softimpute":
            return softimpute.complete(target, observed)
        case "optspace":
            return optspace.complete(target, observed, rank)
        case "softimpute-as-p2":
            return _as_fancyimpute(target, observed)
        case "optspace-as-p2":  # ROptSpace's default
            return optspace.complete(target, observed, rank, max_iterations=50)
    raise UsageError(f"method is {method!r}, expected one of {', '.join(METHODS)}")


def _as_fancyimpute(target: NDArray[np.float64], observed: NDArray[np.bool_]) -> Completion:
    """One lambda, no path, 100 iterations; observed entries are put back, at the cost of rank."""
    import numpy as np

    from trainers.completion.baselines import softimpute

    found = softimpute.complete(target, observed, steps=1, tolerance=1e-3, max_iterations=100)
    return replace(found, estimate=np.where(observed, target, found.estimate))
