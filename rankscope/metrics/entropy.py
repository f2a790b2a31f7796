"""Effective rank: the exponential of the spectrum's entropy."""

from __future__ import annotations

import math

import numpy as np

from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, unresolved


def effective_rank(spectrum: Spectrum) -> Reading:
    """exp(-sum p_i ln p_i) with p = sigma / sum sigma and 0 ln 0 = 0; between 1 and k.

    Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007,
    Definition 1: on the singular values themselves, not their squares.

    >>> import rankscope
    >>> rankscope.metrics.effective_rank(rankscope.spectrum([[2.0, 0.0], [0.0, 2.0]])).value
    2.0
    """
    sigma = spectrum.sigma
    if sigma[0] == 0:
        return Reading(None, "undefined for a zero matrix")
    relative = sigma[sigma > 0] / float(sigma[0])
    share = relative / relative.sum()
    entropy = -float((share * np.log(share)).sum())
    # A value of share q adds q ln(1/q) and takes q off the others; both grow with q below 1/e.
    below = min(spectrum.resolution * float(share[0]), 1.0 / math.e)
    change = unresolved(spectrum) * below * (1.0 - math.log(below))
    return Reading(math.exp(entropy), exact=change <= READING_RTOL)
