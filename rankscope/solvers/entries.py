"""One pass over a matrix in float64 blocks, and the norms that come from the entries alone.

Both routes read a matrix through `oriented_blocks`: the small side whole, the long side in
pieces, so that memory is a block and what the route keeps, never the matrix.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankscope.records import Matrix, Route, Shaped, Spectrum
from rankscope.solvers.longsums import long_squares

# 2^22 float64 elements are 32 MiB: enough rows for BLAS to run at its full rate and little
# beside the Gram matrix. Tuned on benchmarks/llama.py (docs/performance.md).
BLOCK_ELEMENTS = 2**22

# What a route's rounding comes to, in unit round-offs of sigma_1 (sigma_1^2 for the Gram route):
# k for the decomposition, and for the sums along the long side m. Their rounding is biased when
# the entries are (constant rows, a mean offset) and does not shrink with k. On the Gram route
# a block's is within about 128 + k / 2 by its pieces (`longsums`); on the direct one at most
# 124 were measured, for k = 2 to 1000 and m = 43,000 and 400,000, of constant rows (`triangles`).
SUM_UNITS = 128.0
LONG_SIDE_PER_UNIT = 2048.0

Block = NDArray[np.float64]


class NonFinite(ValueError):
    """The matrix holds NaN or infinity; it has no spectrum."""


class NormOverflow(ValueError):
    """The entries are finite, and their norm is beyond float64."""


def small_side(matrix: Shaped) -> int:
    """min(rows, columns): the order of the Gram matrix and the number of singular values."""
    return min(matrix.shape)


def rounding(matrix: Shaped) -> float:
    """How far rounding may carry a route, relative to sigma_1 (its square for the Gram route)."""
    units = min(matrix.shape) + SUM_UNITS + max(matrix.shape) / LONG_SIDE_PER_UNIT
    return units * 2.0**-53


def scale_of(matrix: Matrix) -> float:
    """A power of two that brings the entries near 1, so that squares neither over- nor underflow.

    Only float64 needs it: the squares of every narrower type, float32's subnormals included,
    lie well inside float64's range.
    """
    if matrix.dtype != "float64":
        return 1.0
    largest = max((float(np.abs(block).max()) for block in _stored_blocks(matrix)), default=0.0)
    if not math.isfinite(largest):
        raise NonFinite
    # frexp's exponent is within [-1073, 1024]; 2^-exponent must itself be a normal number.
    return 1.0 if largest == 0 else 2.0 ** min(1022, -math.frexp(largest)[1])


def oriented_blocks(
    matrix: Matrix, scale: float, max_elements: int = BLOCK_ELEMENTS
) -> Iterator[Block]:
    """Blocks of the scaled matrix as float64, shape (small side, piece of the long side).

    A block is overwritten by the next one.

    Raises:
        NonFinite: at the first block with a NaN or an infinity.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    block: Block = np.empty((0, 0))
    for stored in _stored_blocks(matrix, max_elements):
        if block.shape != stored.shape:
            block = np.empty(stored.shape)
        # The same memory for each block: fresh pages cost a tenth of the whole route.
        np.multiply(stored, scale, out=block, dtype=np.float64, casting="unsafe")
        yield block.T if tall else block


def _stored_blocks(
    matrix: Matrix, max_elements: int = BLOCK_ELEMENTS
) -> Iterator[NDArray[np.generic]]:
    tall = matrix.shape[0] > matrix.shape[1]
    return matrix.blocks(0 if tall else 1, max_elements)


@dataclass(slots=True)
class EntryNorms:
    """Sums of squares along both sides, gathered block by block.

    Attributes:
        small: sum of squares of each line of the small side, shape (small side,).
        alive: which lines of the small side hold anything but zeros.
        total: sum of squares of all entries.
        long_max: the largest sum of squares of a line of the long side.
    """

    small: Block
    alive: NDArray[np.bool_]
    total: float = 0.0
    long_max: float = 0.0

    @classmethod
    def of(cls, matrix: Shaped) -> EntryNorms:
        """Nothing gathered yet."""
        order = small_side(matrix)
        return cls(np.zeros(order), np.zeros(order, np.bool_))

    def add_long(self, block: Block) -> None:
        """Take the lines of the long side of a block; raises `NonFinite` if one is not finite."""
        squares = np.einsum("ij,ij->j", block, block)
        piece = float(squares.sum())
        if not math.isfinite(piece):
            raise NonFinite
        if not self.alive.all():
            self.alive |= block.any(axis=1)  # not from the squares: those of float64 underflow
        self.total += piece
        self.long_max = max(self.long_max, float(squares.max()))

    def add_small(self, block: Block) -> None:
        """Take the lines of the small side of a block."""
        self.small += long_squares(block)

    def spectrum(
        self, matrix: Shaped, scale: float, sigma: Block, resolution: float, route: Route
    ) -> Spectrum:
        """The record of a finished pass; `sigma` belongs to the scaled matrix."""
        row_max, column_max = float(self.small.max()), self.long_max
        if matrix.shape[0] > matrix.shape[1]:
            row_max, column_max = column_max, row_max
        if math.sqrt(self.total) > scale * sys.float_info.max:
            raise NormOverflow
        zeros = int((~self.alive).sum())
        sigma[len(sigma) - zeros :] = 0.0  # not LAPACK's idea of zero
        return Spectrum(
            sigma=sigma / scale,
            shape=matrix.shape,
            dtype=matrix.dtype,
            frobenius_norm=math.sqrt(self.total) / scale,
            max_row_norm=math.sqrt(row_max) / scale,
            max_column_norm=math.sqrt(column_max) / scale,
            resolution=resolution,
            route=route,
            zeros=zeros,
        )
