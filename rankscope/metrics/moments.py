"""Soft ranks from even moments of the spectrum; values below the resolution cannot move them."""

from __future__ import annotations

import numpy as np

from rankscope.records import Reading, Spectrum

ZERO_MATRIX = Reading(None, "undefined for a zero matrix")


def stable_rank(spectrum: Spectrum) -> Reading:
    """||W||_F^2 / sigma_1^2, squared Frobenius over squared spectral norm; between 1 and the rank.

    Rudelson & Vershynin, "Sampling from large matrices", J. ACM 54(4), 2007. Undefined for a zero
    matrix. Always exact.

    >>> import rankscope
    >>> rankscope.metrics.stable_rank(rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]])).value
    1.5625
    """
    if spectrum.frobenius_norm == 0:
        return ZERO_MATRIX
    ratio = spectrum.frobenius_norm / float(spectrum.sigma[0])
    return Reading(ratio * ratio)


def participation_ratio(spectrum: Spectrum) -> Reading:
    """(sum sigma^2)^2 / sum sigma^4, between 1 and k.

    The inverse participation ratio's inverse on the eigenvalues of W^T W: Bell & Dean, "Atomic
    vibrations in vitreous silica", Discuss. Faraday Soc. 50, 1970. k = min(rows, columns).
    Undefined for a zero matrix. Always exact.

    >>> import rankscope
    >>> rankscope.metrics.participation_ratio(rankscope.spectrum([[2.0, 0.0], [0.0, 2.0]])).value
    2.0
    """
    largest = float(spectrum.sigma[0])
    if largest == 0:
        return ZERO_MATRIX
    squares = np.square(spectrum.sigma / largest)
    return Reading(float(squares.sum()) ** 2 / float(np.square(squares).sum()))
