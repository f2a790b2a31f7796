"""Where spectra cross: between the "large" singular values and the "small" ones of P1.

P1 = "SGD and Weight Decay Secretly Minimize the Rank of Your Neural Network" (Galanti, Siegel,
Gupte & Poggio) observes in Appendix B.2, Figs. 16-17, that the curves of a layer's singular values
for several batch sizes meet in about one point: the larger the batch, the smaller the values before
it ("large") and the larger those after it ("small"), and how many there are hardly changes.

Spectra are compared as they are: whether to divide each by its norm first is the caller's choice.
Of two that differ and have the same norm, neither is above throughout.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from rankscope.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two curves change places.

    Attributes:
        index: how many values are large: one curve is above before this index (from 0), the
            other from it on, as far as that is so.
        agreement: the share of the indices where the curves differ at which it is so.
        above: which of the two, a or b, is above among the large values.
    """

    index: int
    agreement: float
    above: Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class CommonCrossing:
    """Where curves that are ordered by a hyperparameter cross their neighbours.

    Attributes:
        pairs: the crossing of each curve (a) with the next (b); None where they do not cross.
        median: of the indices; between two where their number is even.
        smallest: index.
        largest: index; near the smallest when all curves meet in one point.
        agreement: the smallest one.
    """

    pairs: tuple[Crossing | None, ...]
    median: float
    smallest: int
    largest: int
    agreement: float


def crossing(a: NDArray[np.floating], b: NDArray[np.floating]) -> Crossing | None:
    """The index at which two descending spectra, each of shape (k,), best change places.

    Of all indices and both orders the one with most agreement, the first of equals. Values that
    are equal count for neither side. None when no index agrees more than one curve being above
    throughout, as when the curves never differ.

    >>> import numpy
    >>> crossing(numpy.array([9.0, 5.0, 2.0, 1.0]), numpy.array([7.0, 4.0, 3.0, 2.0]))
    Crossing(index=2, agreement=1.0, above='a')

    Raises:
        UsageError: the shapes are not one and the same (k,).
    """
    import numpy as np

    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(
            f"crossing: shapes are {a.shape} and {b.shape}, expected spectra of equal length"
        )
    above, below = a > b, a < b
    differ = int(np.count_nonzero(above | below))
    # lead[c] = above before c + below from c on - below throughout; for the other order, in
    # which b is above before c, as many agree as differ less those.
    lead = np.cumsum(above.astype(np.int64) - below)
    agree = np.concatenate([[0], lead]) + np.count_nonzero(below)
    agreeing = np.maximum(agree, differ - agree)
    best = int(np.argmax(agreeing))
    if agreeing[best] <= agreeing[0]:  # agreeing[k] is the same: one above throughout
        return None
    first = int(agree[best]) == int(agreeing[best])
    return Crossing(best, int(agreeing[best]) / differ, "a" if first else "b")


def common_crossing(spectra: Sequence[NDArray[np.floating]]) -> CommonCrossing | None:
    """The crossings of adjacent spectra, in the order of a hyperparameter, and how far they agree.

    None when no two neighbours cross.

    Args:
        spectra: each descending, all of one shape (k,).

    Raises:
        UsageError: the shapes differ.
    """
    pairs = tuple(crossing(a, b) for a, b in pairwise(spectra))
    found = [pair for pair in pairs if pair is not None]
    if not found:
        return None
    indices = [pair.index for pair in found]
    return CommonCrossing(
        pairs,
        float(statistics.median(indices)),
        min(indices),
        max(indices),
        min(pair.agreement for pair in found),
    )
