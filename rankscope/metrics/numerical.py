"""The rank above rounding noise: what a stored matrix holds beyond its type's round-off."""

from __future__ import annotations

from typing import Literal

from rankscope.dtypes import FLOATS
from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import count_reading

Rule = Literal["storage", "numpy"]


def numerical_rank(spectrum: Spectrum, rule: Rule = "storage") -> Reading:
    """The number of singular values above the rounding noise of the stored type.

    Threshold: u * (largest row norm + largest column norm), u the unit round-off of the type
    that the matrix was stored in. Rounding adds independent entries of size at most u |w_ij|,
    whose spectral norm this sum bounds (Bandeira & van Handel 2016, doi:10.1214/15-AOP1025),
    so what is above it is signal. `rule="numpy"` is `numpy.linalg.matrix_rank`'s rule in
    float64, max(shape) * 2^-52 * sigma_1, for comparison: it reads full rank whenever a
    low-rank product was stored in a narrower type.

    >>> import numpy, rankscope
    >>> low = numpy.outer([1.0, 2.0, 3.0], [0.1, 0.2, 0.3]).astype("float32")
    >>> rankscope.metrics.numerical_rank(rankscope.spectrum(low)).value
    1

    Raises:
        UsageError: an unknown rule.
    """
    if rule == "numpy":
        threshold = max(spectrum.shape) * 2.0**-52 * float(spectrum.sigma[0])
    elif rule == "storage":
        noise = spectrum.max_row_norm + spectrum.max_column_norm
        threshold = FLOATS[spectrum.dtype].unit_roundoff * noise
    else:
        raise UsageError(f"numerical_rank: rule is {rule!r}, expected storage or numpy")
    return count_reading(spectrum, threshold)
