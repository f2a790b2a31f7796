"""Singular values by a direct decomposition, without squaring.

The matrix is reduced to its triangular factor block by block (a sequential TSQR: Demmel,
Grigori, Hoemmen & Langou 2012, doi:10.1137/080731992; `triangles`), then LAPACK's values-only
SVD of the factor. Householder QR is backward stable, so a singular value is resolved down to about
k 2^-53 of sigma_1 (`entries.rounding`), at two to three times the cost of the Gram route. Memory:
the factor and a block, twice.
"""

from __future__ import annotations

import numpy as np

from rankscope.records import Matrix, Spectrum
from rankscope.solvers.entries import (
    BLOCK_ELEMENTS,
    Block,
    EntryNorms,
    oriented_blocks,
    rounding,
    scale_of,
    small_side,
)
from rankscope.solvers.triangles import LEAF_ROWS, triangle


def direct_spectrum(matrix: Matrix) -> Spectrum:
    """The singular values of a matrix by the direct route.

    Raises:
        NonFinite: before any decomposition is called.
        numpy.linalg.LinAlgError: the decomposition did not converge.
    """
    scale = scale_of(matrix)
    norms = EntryNorms.of(matrix)
    order = small_side(matrix)
    factor: Block = np.empty((0, order))
    # A block shorter than the factor would repeat the factor's own elimination too often.
    for block in oriented_blocks(matrix, scale, max(BLOCK_ELEMENTS, order * order)):
        norms.add_long(block)
        norms.add_small(block)
        # Twice the least that a leaf needs: the triangles of the leaves are eliminated once more.
        factor = triangle(np.concatenate([factor, block.T]), max(LEAF_ROWS, 4 * order))
    sigma = np.asarray(np.linalg.svd(factor, compute_uv=False), np.float64)
    return norms.spectrum(matrix, scale, sigma, rounding(matrix), "direct")
