"""Norms: spectral, Frobenius, nuclear and the Schatten family.

Horn & Johnson, Matrix Analysis, 2nd ed., 5.6 and 7.4.7 (Schatten norms).
"""

from __future__ import annotations

import numpy as np

from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, power_error, real_reading, uncertainties


def spectral_norm(spectrum: Spectrum) -> Reading:
    """The largest singular value, sigma_1.

    Always exact.

    >>> import rankscope
    >>> rankscope.metrics.spectral_norm(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]])).value
    4.0
    """
    return Reading(float(spectrum.sigma[0]))


def frobenius_norm(spectrum: Spectrum) -> Reading:
    """(sum w_ij^2)^(1/2), taken from the entries and not from the singular values.

    Every spectrum is checked against it. Always exact.

    >>> import rankscope
    >>> rankscope.metrics.frobenius_norm(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]])).value
    5.0
    """
    return Reading(spectrum.frobenius_norm)


def nuclear_norm(spectrum: Spectrum) -> Reading:
    """The sum of the singular values, sum sigma (trace norm).

    From ||W||_F to sqrt(k) ||W||_F, k = min(rows, columns). Exact to one part in a million.

    >>> import rankscope
    >>> rankscope.metrics.nuclear_norm(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]])).value
    7.0
    """
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return Reading(0.0)
    total = float((spectrum.sigma / largest).sum())
    error = float(uncertainties(spectrum).sum())
    return real_reading(largest * total, exact=error <= READING_RTOL * total)


def schatten_norm(spectrum: Spectrum, p: float) -> Reading:
    """(sum sigma^p)^(1/p), p > 0; a quasi-norm for p < 1.

    p = 1 is the nuclear norm, p = 2 the Frobenius norm. Infinite where it is beyond the range of
    float64. Exact to one part in a million.

    Raises:
        UsageError: p is not positive.
    """
    if not 0 < p < float("inf"):
        raise UsageError(f"schatten_norm: p is {p}, expected a finite number above 0")
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return Reading(0.0)
    # Relative to sigma_1, so that powers neither over- nor underflow.
    relative = spectrum.sigma / largest
    powers = float((relative**p).sum())
    # d(S^(1/p)) / S^(1/p) = dS / (p S).
    exact = power_error(spectrum, p) <= READING_RTOL * p * powers
    with np.errstate(over="ignore"):
        value = largest * float(np.float64(powers) ** (1.0 / p))
    return real_reading(value, exact=exact)
