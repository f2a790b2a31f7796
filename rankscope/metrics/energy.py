"""Low-rank approximation in the Frobenius norm (Eckart & Young 1936): energy kept, energy left."""

from __future__ import annotations

import math

import numpy as np

from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, count_above, uncertainties

DEFAULT_SHARE = 0.99  # ours: a convention of low-rank compression, taken from none of the papers


def energy_rank(spectrum: Spectrum, p: float = DEFAULT_SHARE) -> Reading:
    """The least r whose r largest singular values hold a share p of sum sigma^2, from 0 to k.

    k = min(rows, columns); Eckart & Young 1936: W is within sqrt(1 - p) ||W||_F of a matrix of that
    rank. Exact unless a share lies as near to p as it may be off.

    >>> import rankscope
    >>> rankscope.metrics.energy_rank(rankscope.spectrum([[10.0, 0.0], [0.0, 0.1]])).value
    1

    Raises:
        UsageError: p is not within (0, 1].
    """
    if not 0 < p <= 1:
        raise UsageError(f"energy_rank: p is {p}, expected a share within (0, 1]")
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return Reading(0)
    # Shares are summed from the small end: what is left beyond r, without cancellation.
    squares = np.square(spectrum.sigma / largest)
    left = np.cumsum(squares[::-1])[::-1]
    allowed = (1.0 - p) * float(left[0])
    count = count_above(left, allowed)
    # Squares of either route are right to k 2^-53 sigma_1^2 each.
    order = len(spectrum.sigma)
    margin = order * order * 2.0**-53
    if count_above(left, allowed + margin) != count or count_above(left, allowed - margin) != count:
        return Reading(count, f"tie: a share lies within {margin:.1g} of p", exact=False)
    return Reading(count)


def distance_to_rank(spectrum: Spectrum, r: int) -> Reading:
    """The Frobenius distance to the nearest matrix of rank r: (sum over i>r of sigma_i^2)^(1/2).

    D(W, M_r) of Razin & Cohen, "Implicit regularization in deep learning may not be explainable
    by norms", NeurIPS 2020; by Eckart & Young 1936 it is the root of the squares beyond r.
    From 0 to ||W||_F. Exact to one part in a million.

    >>> import rankscope
    >>> rankscope.metrics.distance_to_rank(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]]), 1).value
    3.0

    Raises:
        UsageError: r is not a whole number of at least 0.
    """
    if r < 0 or r != int(r):
        raise UsageError(f"distance_to_rank: r is {r}, expected a whole number of at least 0")
    largest = float(spectrum.sigma[0])
    tail = spectrum.sigma[int(r) :]
    if largest == 0 or len(tail) == 0:
        return Reading(0.0)
    relative = math.sqrt(float(np.square(tail / largest).sum()))
    errors = uncertainties(spectrum)[int(r) :]
    error = math.sqrt(float(np.square(errors).sum()))
    return Reading(largest * relative, exact=error <= READING_RTOL * relative)
