"""The matrix of minimum nuclear norm that has the observed entries.

Candes & Recht, "Exact matrix completion via convex optimization", 2009. cvxpy states it as a
semidefinite program. SCS, a first-order solver, takes 1 to 10 seconds of one core for 100x100 with
1500 to 6000 observations at the default tolerance; Clarabel, an interior-point solver, does not
finish in 4 minutes and takes 7 GB. SCS's own steps and acceleration were the best of those tried.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainers.completion.baselines.result import Completion, observed_part

if TYPE_CHECKING:
    import cvxpy

# Where completion is exact, the mean squared error is then 1e-17 to 1e-12 of the entries' own.
TOLERANCE = 1e-7

# 100x100 takes 100 to 1700, most on the edge of exact recovery.
ITERATIONS = 20_000


def complete(
    target: NDArray[np.float64],
    observed: NDArray[np.bool_],
    tolerance: float = TOLERANCE,
    max_iterations: int = ITERATIONS,
) -> Completion:
    """Minimise ||W||_* subject to W_ij = target_ij for the observed (i, j).

    The note says the duality gap: the dual problem is max <Y, target> over Y that are zero where
    nothing is observed and have ||Y||_2 <= 1, so that any such Y proves how far ||W||_* can be
    from the minimum.

    Args:
        target: (m, n); what is not observed is not read.
        observed: (m, n); which entries are known.
        tolerance: SCS's, absolute and relative, for entries of root mean square 1.
        max_iterations: of SCS.

    Raises:
        UsageError: observations that cannot be used.
        ModuleNotFoundError: cvxpy is not installed.
    """
    known = observed_part(target, observed)
    # SCS's tolerance is partly absolute: the answer must not depend on the unit of the entries.
    scale = float(np.sqrt(np.mean(known[observed] ** 2)))
    if scale == 0:
        return Completion(np.zeros_like(known), 0, True, "every observed entry is zero")

    import cvxpy
    from cvxpy.atoms.norm_nuc import normNuc

    matrix = cvxpy.Variable(known.shape)
    agrees = matrix[np.nonzero(observed)] == known[observed] / scale
    problem = cvxpy.Problem(cvxpy.Minimize(normNuc(matrix)), [agrees])
    with warnings.catch_warnings():
        # `converged` and the gap say it.
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        problem.solve(  # type: ignore[no-untyped-call]
            solver=cvxpy.SCS, eps=tolerance, max_iters=max_iterations
        )
    # What the solver meets to its tolerance is put in exactly; the gap then counts what that costs.
    estimate = np.where(observed, known, scale * np.asarray(matrix.value))
    gap = _relative_gap(estimate, known, observed, agrees)
    return Completion(
        estimate,
        iterations=problem.solver_stats.num_iters or 0,
        converged=problem.status == cvxpy.OPTIMAL,
        note=f"nuclear norm within {gap:.1e} of itself from the minimum",
    )


def _relative_gap(
    estimate: NDArray[np.float64],
    known: NDArray[np.float64],
    observed: NDArray[np.bool_],
    agrees: cvxpy.Constraint,
) -> float:
    """1 - (lower bound of the minimum) / ||estimate||_*, from the solver's dual variables."""
    dual = np.zeros_like(known)
    # The Lagrangian is ||W||_* + <y, W - target>: -y is the subgradient at the minimum.
    dual[observed] = -np.asarray(agrees.dual_value)
    bound = float(np.sum(dual * known)) / max(1.0, float(np.linalg.norm(dual, 2)))
    return 1 - bound / float(np.linalg.norm(estimate, "nuc"))
