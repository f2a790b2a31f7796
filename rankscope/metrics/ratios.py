"""Scale-free ratios of norms: the penalties of P2.

P2 = "Combining Explicit and Implicit Regularization for Efficient Learning in Deep Networks"
(Zhao, 2022).
"""

from __future__ import annotations

import math
import sys

from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, power_error, real_reading, uncertainties

ZERO_MATRIX = "undefined for a zero matrix"


def nuclear_ratio(spectrum: Spectrum) -> Reading:
    """Nuclear over Frobenius norm, sum sigma / ||W||_F; from 1 to sqrt(k), k = min(rows, columns).

    The penalty R(W) of P2: 1 for a matrix of rank one, sqrt(k) for an orthogonal one. Undefined for
    a zero matrix. Exact to one part in a million.

    >>> import rankscope
    >>> rankscope.metrics.nuclear_ratio(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]])).value
    1.4
    """
    if spectrum.frobenius_norm == 0:
        return Reading(None, ZERO_MATRIX)
    relative = spectrum.sigma / spectrum.frobenius_norm
    total = float(relative.sum())
    error = float(uncertainties(spectrum).sum()) * float(relative[0])
    return Reading(total, exact=error <= READING_RTOL * total)


def schatten_ratio(spectrum: Spectrum, p: float, q: float) -> Reading:
    """Schatten p norm over Schatten q norm, p and q above 0.

    P2's experiments use (1/2, 2/3), (1/3, 2/3) and (1/3, 1/2). Where p < q it is at least 1, and 1
    for a matrix of rank one. Undefined for a zero matrix. Exact to one part in a million.

    Raises:
        UsageError: p or q is not positive.
    """
    if not (0 < p < math.inf and 0 < q < math.inf):
        raise UsageError(
            f"schatten_ratio: p and q are {p} and {q}, expected finite numbers above 0"
        )
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return Reading(None, ZERO_MATRIX)
    relative = spectrum.sigma / largest
    logarithm = 0.0
    exact = True
    for power, sign in ((p, 1.0), (q, -1.0)):
        total = float((relative**power).sum())
        # The logarithm of the p-norm is ln(total) / p; in it even p = 1/100 does not overflow.
        logarithm += sign * math.log(total) / power
        exact = exact and power_error(spectrum, power) <= READING_RTOL * power * total
    ratio = math.exp(logarithm) if logarithm <= math.log(sys.float_info.max) else math.inf
    return real_reading(ratio, exact=exact)
