"""The rank above rounding noise: what a stored matrix holds beyond its type's round-off."""

from __future__ import annotations

import math
from typing import Literal

from rankscope.dtypes import FLOATS
from rankscope.errors import UsageError
from rankscope.records import Reading, Spectrum
from rankscope.resolution import count_above, count_reading, unresolved

Rule = Literal["storage", "numpy"]


def numerical_rank(spectrum: Spectrum, rule: Rule = "storage") -> Reading:
    """The number of singular values above the rounding noise of the stored type, from 0 to k.

    k = min(rows, columns). Threshold: u * (largest row norm + largest column norm), u the unit
    round-off of the type that the matrix was stored in. Rounding adds entries of size at most u
    |w_ij|; where they are independent this sum bounds their spectral norm up to a logarithm
    (Bandeira & van Handel 2016, doi:10.1214/15-AOP1025), so what is above it is signal. Entries so
    small that they are subnormal are rounded by up to half the type's smallest number eta instead,
    which adds eta / 2 * (sqrt(rows) + sqrt(columns)). Where the threshold lies below what float64
    can resolve (float64 weights), what is not resolved is not counted, and the reading is not
    exact.

    `rule="numpy"` is `numpy.linalg.matrix_rank`'s rule in
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
        return above_noise(spectrum, storage_noise(spectrum))
    else:
        raise UsageError(f"numerical_rank: rule is {rule!r}, expected storage or numpy")
    return count_reading(spectrum, threshold)


def storage_noise(spectrum: Spectrum) -> float:
    """The spectral norm that rounding to the stored type may have; see `numerical_rank`."""
    stored = FLOATS[spectrum.dtype]
    unit = stored.unit_roundoff
    rows, columns = spectrum.shape
    noise = unit * spectrum.max_row_norm + unit * spectrum.max_column_norm
    return noise + stored.smallest / 2 * (math.sqrt(rows) + math.sqrt(columns))


def above_noise(spectrum: Spectrum, noise: float) -> Reading:
    """The number of singular values above a noise of this spectral norm."""
    floor = spectrum.resolution * float(spectrum.sigma[0])
    if noise < floor and unresolved(spectrum):
        note = f"values that the {spectrum.route} route does not resolve are taken for noise"
        return Reading(count_above(spectrum.sigma, floor), note, exact=False)
    return count_reading(spectrum, noise)
