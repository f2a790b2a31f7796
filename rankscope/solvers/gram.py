"""Singular values as square roots of the eigenvalues of the small side's Gram matrix.

W W^T (or W^T W for a tall W) is summed in float64 over blocks, m n^2 floating-point operations
on BLAS syrk, then a values-only symmetric eigensolver costs 4/3 n^3 (LAPACK dsyevd, job N;
Golub & Van Loan, Matrix Computations, 4th ed., 8.3). Memory: the Gram matrix twice and a block.

Squaring halves the digits: an eigenvalue is right to about k 2^-53 of the largest, so a
singular value is resolved down to about sqrt(k 2^-53) of sigma_1 (`entries.rounding`).
"""

from __future__ import annotations

import math

import numpy as np

from rankscope.records import Matrix, Spectrum
from rankscope.solvers.entries import (
    Block,
    EntryNorms,
    oriented_blocks,
    rounding,
    scale_of,
    small_side,
)
from rankscope.solvers.longsums import long_product


def gram_spectrum(matrix: Matrix) -> Spectrum:
    """The singular values of a matrix by the Gram route.

    Raises:
        NonFinite: before any eigensolver is called.
        numpy.linalg.LinAlgError: the eigensolver did not converge.
    """
    scale = scale_of(matrix)
    norms = EntryNorms.of(matrix)
    order = small_side(matrix)
    gram = np.empty((order, order))
    product = gram
    for block in oriented_blocks(matrix, scale):
        norms.add_long(block)
        long_product(block, product)
        if product is gram:
            product = np.empty_like(gram)  # allocated, but never touched if this was all
        else:
            gram += product
    del product, block
    norms.small[:] = gram.diagonal()
    return norms.spectrum(matrix, scale, _roots(gram), math.sqrt(rounding(matrix)), "gram")


def _roots(gram: Block) -> Block:
    """Roots of the eigenvalues, descending; lines of zeros give zeros that are exact."""
    alive = gram.diagonal() > 0
    if not alive.all():
        gram = gram[np.ix_(alive, alive)]
    eigenvalues = np.linalg.eigvalsh(gram)[::-1]
    sigma = np.zeros(len(alive))
    sigma[: len(eigenvalues)] = np.sqrt(np.maximum(eigenvalues, 0.0))
    return sigma
