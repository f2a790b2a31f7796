"""The entropy of a spectrum, and its exponential, the effective rank."""

from __future__ import annotations

import math

import numpy as np

from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL, uncertainties

TINY = 1e-300  # a share whose logarithm is finite and whose entropy is nothing
ZERO_MATRIX = "undefined for a zero matrix"


def effective_rank(spectrum: Spectrum) -> Reading:
    """exp(-sum p_i ln p_i) with p = sigma / sum sigma and 0 ln 0 = 0; between 1 and k.

    k = min(rows, columns). Undefined for a zero matrix. Exact to one part in a million.

    Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007,
    Definition 1: on the singular values themselves, not their squares.

    >>> import rankscope
    >>> rankscope.metrics.effective_rank(rankscope.spectrum([[2.0, 0.0], [0.0, 2.0]])).value
    2.0
    """
    if spectrum.sigma[0] == 0:
        return Reading(None, ZERO_MATRIX)
    entropy, error = _entropy(spectrum)
    return Reading(math.exp(entropy), exact=error <= READING_RTOL)


def spectral_entropy(spectrum: Spectrum) -> Reading:
    """-sum p_i ln p_i with p = sigma / sum sigma and 0 ln 0 = 0, in nats; between 0 and ln k.

    Shannon's entropy of the spectrum, the logarithm of `effective_rank` (Roy & Vetterli 2007).
    Near rank one it is near 0, and as a share of itself less well known than its exponential.
    Undefined for a zero matrix. Exact to one part in a million.

    >>> import rankscope
    >>> rankscope.metrics.spectral_entropy(rankscope.spectrum([[2.0, 0.0], [0.0, 2.0]])).value
    0.6931471805599453
    """
    if spectrum.sigma[0] == 0:
        return Reading(None, ZERO_MATRIX)
    entropy, error = _entropy(spectrum)
    return Reading(entropy, exact=error <= READING_RTOL * entropy)


def _entropy(spectrum: Spectrum) -> tuple[float, float]:
    """The entropy of a spectrum that is not zero, and how far it may be off, in nats."""
    # First, so that the sum of huge values does not overflow; tiny ones may become 0 here.
    relative = spectrum.sigma / spectrum.sigma[0]
    alive = relative[: np.count_nonzero(relative)]
    beyond = float(alive[1:].sum())
    # H = ln S - (1/S) sum r ln r with r = sigma / sigma_1 and S = sum r = 1 + beyond: no term is
    # negative, so that nothing cancels, not even where H is next to 0.
    entropy = math.log1p(beyond) - float((alive * np.log(alive)).sum()) / (1.0 + beyond)
    # dH/dp_i = -(ln p_i + H), and what is below the resolution has at most that share.
    share = alive / (1.0 + beyond)
    errors = uncertainties(spectrum) * float(share[0])
    slopes = np.abs(np.log(np.maximum(share, errors[: len(share)])) + entropy)
    hidden = errors[len(share) :]
    error = float((slopes * errors[: len(share)]).sum())
    if hidden.any():
        error += float((hidden * (1.0 - np.log(np.maximum(hidden, TINY)))).sum())
    return entropy, error
