"""Condition number."""

from __future__ import annotations

import math

from rankscope.records import Reading, Spectrum
from rankscope.resolution import uncertainty

# A condition number is read for its order of magnitude. Asking for the usual six digits would
# send every large square matrix, whose sigma_k is about sigma_1 / 2k, to the direct route.
CONDITION_RTOL = 1e-2


def condition_number(spectrum: Spectrum) -> Reading:
    """sigma_1 / sigma_k, k = min(rows, columns); infinite when sigma_k is below the resolution.

    From 1. Golub & Van Loan, Matrix Computations, 4th ed., 2.6.2 (spectral norm). Undefined for a
    zero matrix. Exact to 1 %: it is read for its order of magnitude.

    >>> import rankscope
    >>> rankscope.metrics.condition_number(rankscope.spectrum([[1.0, 0.0], [0.0, 4.0]])).value
    4.0
    """
    largest, smallest = float(spectrum.sigma[0]), float(spectrum.sigma[-1])
    if largest == 0:
        return Reading(None, "undefined for a zero matrix")
    if spectrum.zeros:
        return Reading(math.inf, "infinite: a row or column is zero")
    if smallest <= spectrum.resolution * largest:
        note = f"infinite: sigma_k is below the resolution of {spectrum.resolution:.1g} sigma_1"
        return Reading(math.inf, note, exact=spectrum.route == "direct")
    exact = uncertainty(spectrum, smallest) <= CONDITION_RTOL * smallest
    return Reading(largest / smallest, exact=exact)
