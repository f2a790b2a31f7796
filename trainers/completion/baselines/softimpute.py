"""SoftImpute: singular values thresholded softly, entries filled in, over and over.

Mazumder, Hastie & Tibshirani, "Spectral regularization algorithms for learning large incomplete
matrices", JMLR 2010, algorithm 1, with dense decompositions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankscope.errors import UsageError
from trainers.completion.baselines.result import Completion, misfit, observed_part

# fancyimpute's, which P2 used: it thresholds at 1/50 of the largest singular value of the observed
# part and nothing else. The path down to it changes the time, not the answer.
FINAL_SHARE = 1 / 50
STEPS = 10

# Of the relative change per iteration; fancyimpute stops at 1e-3, at most 100 iterations.
TOLERANCE = 1e-5
ITERATIONS = 1000


def complete(
    target: NDArray[np.float64],
    observed: NDArray[np.bool_],
    *,
    final_share: float = FINAL_SHARE,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
    max_iterations: int = ITERATIONS,
    debias: bool = False,
) -> Completion:
    """Minimise 1/2 ||P_Omega(target - Z)||_F^2 + lambda ||Z||_*, lambda decreasing.

    Z = 0 is the minimum for every lambda from sigma_1(P_Omega(target)) on; the lambdas are a
    geometric sequence from there to `final_share` of it, each starting from the minimum before.

    Args:
        target: (m, n); what is not observed is not read.
        observed: (m, n); which entries are known.
        final_share: the last lambda, as a share of the first, above 0 and at most 1.
        steps: lambdas on the path, at least 1.
        tolerance: stop where ||Z' - Z||_F <= tolerance ||Z||_F: the paper's epsilon, square root.
        max_iterations: for each lambda.
        debias: fit the singular values to the observations at the end, keeping the vectors.

    Raises:
        UsageError: an option out of its range, or observations that cannot be used.
    """
    if not 0 < final_share <= 1 or steps < 1:
        raise UsageError(
            f"final_share is {final_share} and steps {steps}, "
            "expected a share above 0 and at most 1, and at least one step"
        )
    known = observed_part(target, observed)
    largest = float(np.linalg.norm(known, 2))
    estimate, iterations, converged = np.zeros_like(known), 0, False
    for step in range(1, steps + 1):
        lambda_ = largest * final_share ** (step / steps)
        for _ in range(max_iterations):
            before = estimate
            estimate = soft_threshold(np.where(observed, known, before), lambda_)
            iterations += 1
            change = np.linalg.norm(estimate - before)
            converged = bool(change <= tolerance * np.linalg.norm(before))
            if converged:
                break
    if debias:
        estimate = refit(estimate, known, observed)
    fit = misfit(estimate, known, observed)
    note = f"lambda {lambda_:.3g}, {fit:.1e} of the data not fitted"
    return Completion(estimate, iterations, converged, note)


def soft_threshold(matrix: NDArray[np.float64], lambda_: float) -> NDArray[np.float64]:
    """S_lambda(matrix) = U diag(max(sigma - lambda, 0)) V^T, the prox of lambda ||.||_*."""
    left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
    kept = int(np.count_nonzero(sigma > lambda_))
    shrunk: NDArray[np.float64] = (left[:, :kept] * (sigma[:kept] - lambda_)) @ right[:kept]
    return shrunk


def refit(
    estimate: NDArray[np.float64], known: NDArray[np.float64], observed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """U diag(d) V^T, d of least squares on the observed entries: the shrinkage undone.

    As softImpute's `deBias`; of several minima that of the least norm.
    """
    left, sigma, right = np.linalg.svd(estimate, full_matrices=False)
    kept = int(np.count_nonzero(sigma > sigma[0] * len(sigma) * np.finfo(np.float64).eps))
    rows, columns = np.nonzero(observed)
    terms = left[rows, :kept] * right[:kept, columns].T  # one column for each d
    weights = np.linalg.lstsq(terms, known[observed])[0]
    fitted: NDArray[np.float64] = (left[:, :kept] * weights) @ right[:kept]
    return fitted
