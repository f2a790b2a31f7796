"""Singular values of a low-rank product from its factors; the product is never formed.

With left = Q_l R_l and right^T = Q_r R_r, the product is Q_l (R_l R_r^T) Q_r^T: its singular
values are those of the core R_l R_r^T, of order r, and zeros (Golub & Van Loan, Matrix
Computations, 4th ed., 5.2 and 8.6). Both triangles come from a TSQR, by a tree within a block
and sequential over blocks (Demmel et al. 2012, as on the direct route). Work: 4 (rows + columns)
r^2 and the SVD of the core; memory: a block and the core.

Householder QR is backward stable column by column (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., Theorem 19.4): the triangle belongs to a factor whose columns are off by a few
round-offs of their own norms. So the product is off by that times the sum of ||l_j|| ||r_j|| over
the columns of the left and the rows of the right factor, however the columns are scaled against
each other; how far this exceeds sigma_1 is how much cancels in the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankscope.products import LowRankProduct
from rankscope.records import Matrix, Spectrum
from rankscope.solvers.entries import (
    BLOCK_ELEMENTS,
    LONG_SIDE_PER_UNIT,
    SUM_UNITS,
    Block,
    NonFinite,
    NormOverflow,
    scale_of,
)
from rankscope.solvers.triangles import LEAF_ROWS, triangle
from rankscope.storedmatrix import StoredMatrix

UNIT = 2.0**-53

# OpenBLAS gives products with a vector of more than 9216 elements, and of matrices from 2^18
# operations on, to several threads, which then wait for each other: the QR of 4096 x 16 took 1 ms
# in one thread, 10 ms in two on a busy machine.
LEAF_ELEMENTS = 2**13


def factors_spectrum(matrix: Matrix) -> Spectrum:
    """The singular values of a low-rank product by way of its factors.

    Raises:
        NonFinite: before any decomposition is called.
        NormOverflow: the product is beyond the range of float64.
        TypeError: the matrix is not stored as factors.
        numpy.linalg.LinAlgError: the decomposition did not converge, or the norms of the product
            that follow from either factor's triangle contradict each other.
    """
    if not isinstance(matrix, LowRankProduct):
        raise TypeError(f"{matrix!r} is not stored as factors")
    left, right = _Factor.of(matrix.left, 0), _Factor.of(matrix.right, 1)
    core = left.triangle @ right.triangle.T
    found = np.asarray(np.linalg.svd(core, compute_uv=False), np.float64)
    alive = int((left.alive & right.alive).sum())
    kept = min(alive, len(found)) if matrix.scale else 0
    sigma = np.zeros(min(matrix.shape))
    sigma[:kept] = found[:kept]
    error = _rounding(matrix) * float(left.norms @ right.norms)
    norms = _line_norms(left, right, 2.0 * math.sqrt(max(1, alive)) * error)
    sigma, norms = (_rescaled(values, matrix, left.scale, right.scale) for values in (sigma, norms))
    if not np.isfinite(norms).all():
        raise NormOverflow
    largest = float(found[0]) if kept else 0.0
    return Spectrum(
        sigma=sigma,
        shape=matrix.shape,
        dtype=matrix.dtype,
        frobenius_norm=float(norms[0]),
        max_row_norm=float(norms[1]),
        max_column_norm=float(norms[2]),
        resolution=error / largest if largest > 0 else _rounding(matrix),
        route="factors",
        zeros=len(sigma) - kept,
    )


def _line_norms(left: _Factor, right: _Factor, tolerance: float) -> Block:
    """The norms of the product, of its longest row and column, shape (3,), from the entries.

    Rows from the left factor and the right one's triangle, columns the other way round: a
    triangle that is wrong makes two norms of the whole that differ by more than rounding, which
    is off by the same in each of at most r directions.
    """
    total, row = left.norms_with(right.triangle)
    other, column = right.norms_with(left.triangle)
    if abs(total - other) > tolerance:
        raise np.linalg.LinAlgError(f"norms {total:.6g} and {other:.6g}, expected the same")
    return np.array([total, row, column])


def formation_error(product: LowRankProduct) -> float:
    """How far forming the product in float64 may carry a singular value, in the product's unit.

    Each entry is a sum of r products: off by r + 2 round-offs of the sum of their sizes (Higham,
    3.5), which as a matrix is at most the sum of ||l_j|| ||r_j|| in norm.
    """
    reach = float(_norms(product.left, 0) @ _norms(product.right, 1))
    return (product.left.shape[1] + 2.0) * UNIT * reach * abs(product.scale)


def _rounding(product: LowRankProduct) -> float:
    """How far rounding may carry the route, relative to the sum of ||l_j|| ||r_j||.

    As `entries.rounding`, of two decompositions of order r, and their product.
    """
    units = 2 * product.left.shape[1] + SUM_UNITS + max(product.shape) / LONG_SIDE_PER_UNIT
    return units * UNIT


def _rescaled(
    values: NDArray[np.float64], product: LowRankProduct, *scales: float
) -> NDArray[np.float64]:
    """Values of the scaled factors' product as those of the product; inf beyond the range."""
    mantissa, exponent = math.frexp(abs(product.scale))
    # By exponents: the factors' own scales may multiply to what no float holds.
    exponent -= sum(math.frexp(scale)[1] - 1 for scale in scales)
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values * mantissa, exponent)


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """A factor, its long side first, and its triangle.

    Attributes:
        matrix: as stored.
        axis: which is its long side: the other one has length r.
        scale: a power of two that it is multiplied by.
        triangle: of its QR decomposition, shape (at most r, r).
        norms: of its columns, shape (r,).
        alive: which columns hold anything but zeros.
    """

    matrix: StoredMatrix
    axis: Literal[0, 1]
    scale: float
    triangle: Block
    norms: Block
    alive: NDArray[np.bool_]

    @classmethod
    def of(cls, matrix: StoredMatrix, axis: Literal[0, 1]) -> _Factor:
        """Decompose a factor."""
        scale = scale_of(matrix)
        rank = matrix.shape[1 - axis]
        found: Block = np.empty((0, rank))
        squares, alive = np.zeros(rank), np.zeros(rank, np.bool_)
        for block in _blocks(matrix, axis, scale):
            squares += _squares(block, 0)
            if not np.isfinite(squares).all():
                raise NonFinite
            alive |= block.any(axis=0)  # not from the squares: those of float64 underflow
            found = triangle(np.concatenate([found, block]), _leaf_rows(rank))
        return cls(matrix, axis, scale, found, np.sqrt(squares), alive)

    def norms_with(self, other: Block) -> tuple[float, float]:
        """The norm of the product with a factor of that triangle, and its longest line's."""
        total = largest = 0.0
        for block in _blocks(self.matrix, self.axis, self.scale):
            height = _leaf_rows(block.shape[1])
            leaves = [block[start : start + height] for start in range(0, len(block), height)]
            squares = np.concatenate([_squares(leaf @ other.T, 1) for leaf in leaves])
            total += float(squares.sum())
            largest = max(largest, float(squares.max()))
        return math.sqrt(total), math.sqrt(largest)


def _leaf_rows(rank: int) -> int:
    return max(min(LEAF_ROWS, LEAF_ELEMENTS // rank), 2 * rank)


def _norms(matrix: StoredMatrix, axis: Literal[0, 1]) -> Block:
    """Of a factor's columns, its long side first."""
    scale = scale_of(matrix)
    squares = sum(_squares(block, 0) for block in _blocks(matrix, axis, scale))
    return np.asarray(np.sqrt(squares) / scale, np.float64)


def _squares(block: Block, axis: Literal[0, 1]) -> Block:
    """Sums of squares along an axis."""
    return np.asarray(np.einsum("ij,ij->j" if axis == 0 else "ij,ij->i", block, block), np.float64)


def _blocks(matrix: StoredMatrix, axis: Literal[0, 1], scale: float) -> Iterator[Block]:
    """A scaled factor in float64, shape (piece of the long side, r)."""
    rank = matrix.shape[1 - axis]
    # A block shorter than the triangle would repeat the triangle's own elimination too often.
    for stored in matrix.blocks(axis, max(BLOCK_ELEMENTS, rank * rank)):
        block = np.multiply(stored, scale, dtype=np.float64, casting="unsafe")
        yield block if axis == 0 else block.T
