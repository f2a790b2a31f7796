"""Whether values rise with ordered levels: Kendall's tau and Page's L, with one-sided p-values.

Where levels repeat, SciPy has only the normal approximation of Kendall's p, rough for a few runs.
Here it is the exact count where values are distinct, and the permutations themselves where some
are tied.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

# Tied values: all orders of up to 8 runs, else as many drawn at random, which leaves a p of 0.05
# uncertain by 0.001.
ORDERS = math.factorial(8)

# Above it the normal approximation: by then it is within 0.002 of the exact count for every p
# above 0.02, and the permutations of tied values begin to take more than half a second.
MANY = 60


def kendall(levels: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Kendall's tau-b, and its one-sided p-values for rising and for falling.

    Args:
        levels: in groups: equal ones stand together.
        values: one for each; order within a level can decide which orders are drawn.

    Neither may be all equal: tau is then undefined.
    """
    from scipy.stats import kendalltau

    found = kendalltau(levels, values, alternative="greater")
    tau = float(found.statistic)
    if len(values) > MANY:
        return tau, float(found.pvalue), float(1 - found.pvalue)
    if len(set(values)) == len(values):
        return tau, *_counted(levels, values)
    return tau, *_permuted(levels, values)


def _counted(levels: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """P-values for rising and falling from all arrangements of distinct values."""
    discordant = sum(
        levels[i] < levels[j] and values[i] > values[j]
        for j in range(len(levels))
        for i in range(j)
    )
    counts = _inversions(tuple(Counter(levels).values()))
    total = sum(counts)
    return sum(counts[: discordant + 1]) / total, sum(counts[discordant:]) / total


def _inversions(sizes: Sequence[int]) -> list[int]:
    """How many words with `sizes[i]` letters i have 0, 1, 2, ... inversions.

    The coefficients of the q-multinomial (MacMahon 1916): the product of (1 - q^n) over all
    positions n, divided for each letter by that of (1 - q^c) over its copies c.
    """
    counts = [1]
    placed = 0
    for size in sizes:
        for copies in range(1, size + 1):
            placed += 1
            counts += [0] * placed
            for power in range(len(counts) - 1, placed - 1, -1):
                counts[power] -= counts[power - placed]
            for power in range(copies, len(counts)):
                counts[power] += counts[power - copies]
            del counts[-copies:]
    return counts


def _permuted(levels: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """P-values for rising and falling from `ORDERS` orders of the values, or all there are."""
    import numpy as np
    from numpy.typing import NDArray
    from scipy.stats import permutation_test

    at = np.array(levels)
    lower, upper = np.nonzero(at[:, None] < at)

    def concordance(permuted: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        later, earlier = permuted.take(upper, axis), permuted.take(lower, axis)
        total: NDArray[np.float64] = np.sign(later - earlier).sum(axis)
        return total

    found = permutation_test(
        (np.array(values),),
        concordance,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=ORDERS,
        batch=1000,  # bounds memory: 1000 times the pairs of `MANY` runs are 14 MB
        rng=np.random.default_rng(0),
    )
    null = found.null_distribution
    # Of drawn orders the observed one counts as one more: so p is never too small, nor 0.
    extra = 0 if math.factorial(len(values)) <= ORDERS else 1
    rising = (int(np.count_nonzero(null >= found.statistic)) + extra) / (len(null) + extra)
    falling = (int(np.count_nonzero(null <= found.statistic)) + extra) / (len(null) + extra)
    return rising, falling


def page_test(blocks: Sequence[Sequence[float]], direction: int) -> tuple[float, float]:
    """Page's L and its one-sided p-value, SciPy's; ties have their mean rank.

    Args:
        blocks: at least 2, each with one value for each of at least 3 levels, ascending.
        direction: 1 where values are predicted to rise with the level, -1 where to fall.
    """
    from scipy.stats import page_trend_test

    found = page_trend_test([block[::direction] for block in blocks])
    return float(found.statistic), float(found.pvalue)
