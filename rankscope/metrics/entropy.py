"""Effective rank: the exponential of the spectrum's entropy."""

from __future__ import annotations

import math

import numpy as np

from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, uncertainties

TINY = 1e-300  # a share whose logarithm is finite and whose entropy is nothing


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
    alive = sigma[: np.count_nonzero(sigma)]
    relative = alive / alive[0]  # first, so that the sum of huge values does not overflow
    share = relative / relative.sum()
    logarithms = np.log(share)
    entropy = -float((share * logarithms).sum())
    # dH/dp_i = -(ln p_i + H), and what is below the resolution has at most that share.
    errors = uncertainties(spectrum) * float(share[0])
    slopes = np.abs(np.log(np.maximum(share, errors[: len(share)])) + entropy)
    hidden = errors[len(share) :]
    change = float((slopes * errors[: len(share)]).sum())
    if hidden.any():
        change += float((hidden * (1.0 - np.log(np.maximum(hidden, TINY)))).sum())
    return Reading(math.exp(entropy), exact=change <= READING_RTOL)
