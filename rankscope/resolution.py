"""What a spectrum can tell and what it cannot: the basis of every reading's `exact`.

A singular value may be off by its `uncertainty`: a value below `resolution * sigma_1` may be
anything between 0 and that. A reading is exact when no such freedom changes it: an integer not
at all, a real number by at most `READING_RTOL` of itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rankscope.records import Reading, Route, Spectrum

# Tables show four digits and the release gate's finest default tolerance is a percent;
# what cannot move a reading by 1e-6 of itself cannot be seen in either.
READING_RTOL = 1e-6

# The routes by eigenvalues, which are squares: near sigma_1 they resolve more than far below it.
SQUARING: frozenset[Route] = frozenset({"gram", "cuda", "cuda32"})


def unresolved(spectrum: Spectrum) -> int:
    """How many singular values lie below the resolution and are not known to be exactly 0."""
    sigma = spectrum.sigma
    resolved = count_above(sigma, spectrum.resolution * float(sigma[0]))
    return max(0, len(sigma) - spectrum.zeros - resolved)


def count_above(sigma: NDArray[np.float64], threshold: float) -> int:
    """How many values of a descending array are strictly above a threshold."""
    return len(sigma) - int(sigma[::-1].searchsorted(threshold, side="right"))


@lru_cache(maxsize=1)  # every metric of a spectrum asks in turn
def uncertainties(spectrum: Spectrum) -> NDArray[np.float64]:
    """How far each singular value may be off, over sigma_1, shape as sigma; see `uncertainty`.

    Not to be written to.
    """
    floor = spectrum.resolution
    k = len(spectrum.sigma)
    if spectrum.route in SQUARING:
        relative = spectrum.sigma / spectrum.sigma[0]
        bounds: NDArray[np.float64] = floor * (floor / (2.0 * np.maximum(relative, floor / 2.0)))
    else:
        bounds = np.full(k, floor)
    if spectrum.zeros:
        bounds[k - spectrum.zeros :] = 0.0
    bounds.flags.writeable = False
    return bounds


def power_error(spectrum: Spectrum, p: float) -> float:
    """How far sum (sigma / sigma_1)^p may be off, to first order."""
    errors = uncertainties(spectrum)
    relative = spectrum.sigma / spectrum.sigma[0]
    resolved = relative > errors
    near = p * relative[resolved] ** (p - 1.0) * errors[resolved]
    return float(near.sum() + (errors[~resolved] ** p).sum())


def uncertainty(spectrum: Spectrum, value: float) -> float:
    """How far a singular value near `value` may be off, in the same unit.

    Direct route: resolution * sigma_1 everywhere (Weyl). Gram route: the eigenvalue is off by
    (resolution * sigma_1)^2 at most, which at `value` is that over 2 * value.
    """
    floor = spectrum.resolution * float(spectrum.sigma[0])
    if spectrum.route in SQUARING and value > floor:
        return floor * (floor / (2.0 * value))  # in this order nothing over- or underflows
    return floor


def count_reading(spectrum: Spectrum, threshold: float) -> Reading:
    """The number of singular values strictly above an absolute threshold, and how sure it is."""
    if spectrum.sigma[0] == 0:
        return Reading(0)
    # What is known to be 0 is above nothing, whatever noise the direct route left there.
    sigma = spectrum.sigma[: len(spectrum.sigma) - spectrum.zeros]
    margin = uncertainty(spectrum, threshold)
    ends = sigma[::-1].searchsorted((threshold - margin, threshold, threshold + margin), "right")
    most, count, least = (len(sigma) - int(end) for end in ends)
    ties = most - least
    if threshold <= spectrum.resolution * float(sigma[0]) and unresolved(spectrum):
        note = f"threshold lies below what the {spectrum.route} route resolves"
        return Reading(count, note, exact=False)
    if ties:
        return Reading(count, f"tie: {ties} singular values within {margin:.1g} of it", exact=False)
    return Reading(count)


def real_reading(value: float, *, exact: bool) -> Reading:
    """A reading of a real number; one beyond float64 is infinite and says why."""
    if value == float("inf"):
        return Reading(value, "infinite: beyond the range of float64", exact)
    return Reading(value, exact=exact)
