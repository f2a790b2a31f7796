"""At a threshold eps: P1's count of large singular values, their mass, the rank P1 bounds.

P1 = "SGD and Weight Decay Secretly Minimize the Rank of Your Neural Network" (Galanti,
Siegel, Gupte & Poggio). P1 writes ||.||_2 for the Frobenius norm (after its Eq. 1), and its
authors' code divides by it, so `frobenius` is the default norm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import (
    READING_RTOL,
    SQUARING,
    count_above,
    count_reading,
    uncertainties,
    uncertainty,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Norm = Literal["frobenius", "spectral", "none"]

DEFAULT_EPS = 1e-3  # P1, Section 5: the threshold of its figures


def rank(spectrum: Spectrum, eps: float = DEFAULT_EPS, norm: Norm = "frobenius") -> Reading:
    """The number of singular values strictly above eps * ||W||, from 0 to k = min(rows, columns).

    P1, Section 4.1. `norm` is what eps is relative to: `frobenius`, `spectral`, or `none` for
    an absolute threshold. Exact unless a value lies as near to the threshold as it may be off.

    >>> import rankscope
    >>> spectrum = rankscope.spectrum([[3.0, 0.0], [0.0, 1e-4]])
    >>> rankscope.metrics.rank(spectrum).value, rankscope.metrics.rank(spectrum, eps=1e-5).value
    (1, 2)

    Raises:
        UsageError: eps is negative or the norm unknown.
    """
    return count_reading(spectrum, eps * norm_of(spectrum, eps, norm))


def approximation_rank(
    spectrum: Spectrum, eps: float = DEFAULT_EPS, norm: Norm = "frobenius"
) -> Reading:
    """The least r with a matrix of rank r within eps * ||W|| of W, from 0 to k.

    k = min(rows, columns). The quantity that P1's Theorem 3.3 bounds. By Eckart-Young-Mirsky the
    distance is sigma_(r+1) in the spectral norm, where this equals `rank`, and the root of the sum
    of the squares beyond r in the Frobenius norm. With `none`, eps is an absolute Frobenius
    distance. Exact unless a distance lies as near to the threshold as it may be off.

    >>> import rankscope
    >>> spectrum = rankscope.spectrum([[3.0, 0.0], [0.0, 1e-4]])
    >>> rankscope.metrics.approximation_rank(spectrum).value
    1

    Raises:
        UsageError: eps is negative or the norm unknown.
    """
    allowed = eps * norm_of(spectrum, eps, norm)
    if norm == "spectral":
        return count_reading(spectrum, allowed)
    sigma = spectrum.sigma
    largest = float(sigma[0])
    if largest == 0:
        return Reading(0)
    # tails[j]: distance to rank j, over sigma_1 so that squares do not underflow.
    squares = np.square(sigma / largest)
    tails = np.sqrt(np.append(np.cumsum(squares[::-1])[::-1], 0.0))
    # Never less than the values above it, whose squares may round or underflow beside sigma_1.
    count = max(count_above(tails, allowed / largest), count_above(sigma, allowed))
    # A tail of k values that are each off by d is off by at most sqrt(k) d; on the Gram route
    # its square is a sum of k eigenvalues, so that it is off by k times what one of them is.
    k = len(sigma)
    spread = k if spectrum.route in SQUARING else math.sqrt(k)
    margin = uncertainty(spectrum, allowed) / largest * spread
    sure = count_above(tails, allowed / largest + margin)
    if sure != count or count != count_above(tails, max(0.0, allowed / largest - margin)):
        note = f"tie: the distance lies within {margin * largest:.1g} of the threshold"
        return Reading(count, note, exact=False)
    return Reading(count)


def head_mass(spectrum: Spectrum, eps: float = DEFAULT_EPS, norm: Norm = "frobenius") -> Reading:
    """The share of the nuclear norm in the singular values that `rank` counts, from 0 to 1.

    What P1's Figs. 16-17 show of the "large" singular values, as one number. Undefined for a zero
    matrix. Exact to one part in a million, and no value that counts may be on the other side.

    >>> import rankscope
    >>> rankscope.metrics.head_mass(rankscope.spectrum([[3.0, 0.0], [0.0, 1.0]]), eps=0.5).value
    0.75

    Raises:
        UsageError: eps is negative or the norm unknown.
    """
    threshold = eps * norm_of(spectrum, eps, norm)
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return Reading(None, "undefined for a zero matrix")
    rank_reading = count_reading(spectrum, threshold)
    count = int(float(rank_reading))
    known = len(spectrum.sigma) - spectrum.zeros
    relative = spectrum.sigma[:known] / largest
    errors = uncertainties(spectrum)[:known]
    head, tail = float(relative[:count].sum()), float(relative[count:].sum())
    # d(h / (h + t)) / (h / (h + t)) = (t / h dh - dt) / (h + t): with no tail, nothing.
    change = tail * float(errors[:count].sum()) + head * float(errors[count:].sum())
    # To that comes what may lie on the other side of the threshold than it seems.
    margin = uncertainty(spectrum, threshold)
    sides = slice(*(count_above(spectrum.sigma[:known], threshold + d) for d in (margin, -margin)))
    moving = float(relative[sides].sum())
    exact = change + moving * (head + tail) <= READING_RTOL * head * (head + tail)
    note = "" if exact else rank_reading.note
    return Reading(head / (head + tail), note, exact)


def norm_of(spectrum: Spectrum, eps: float, norm: Norm) -> float:
    """The norm that eps is relative to; 1 for an absolute threshold."""
    if not 0 <= eps < float("inf"):
        raise UsageError(f"eps is {eps}, expected a number of at least 0")
    if norm == "frobenius":
        return spectrum.frobenius_norm
    if norm == "spectral":
        return float(spectrum.sigma[0])
    if norm == "none":
        return 1.0
    raise UsageError(f"norm is {norm!r}, expected frobenius, spectral or none")


def shares(spectrum: Spectrum, norm: Norm) -> NDArray[np.float64]:
    """Singular values over the norm, shape (k,); zeros for a zero matrix."""
    scale = norm_of(spectrum, 0.0, norm)
    return spectrum.sigma / scale if scale > 0 else spectrum.sigma
