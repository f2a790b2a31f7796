"""What will be measured and what it costs, from headers alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rankscope.dtypes import itemsize
from rankscope.records import MatrixSpec
from rankscope.solvers.entries import BLOCK_ELEMENTS

# Bytes that a process holds before its first matrix: the interpreter, NumPy, a BLAS buffer.
# Measured as the PSS of an idle worker on Linux (docs/performance.md).
PROCESS_BYTES = 40 * 2**20

ELEMENT_BYTES = 8  # of a float64; what is stored in a narrower type is counted as if it were one

# LAPACK's workspaces, vectors, what the allocator keeps: under 2 MiB in every shape measured.
SLACK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """What measuring costs.

    Attributes:
        matrices: how many.
        bytes: to be read from files.
        flops: floating-point operations of the Gram route, m n^2 + 4/3 n^3 each, n the small side.
        peak: bytes of working memory of the largest matrix alone.
    """

    matrices: int
    bytes: int
    flops: float
    peak: int

    def memory(self, workers: int) -> int:
        """An upper estimate, in bytes, for a whole run with so many workers."""
        return PROCESS_BYTES + workers * (PROCESS_BYTES + self.peak)


def flops(shape: tuple[int, int]) -> float:
    """Operations of the Gram route: syrk, then the reduction to tridiagonal form."""
    long, small = max(shape), min(shape)
    return float(long) * small**2 + 4.0 / 3.0 * small**3


def peak_bytes(shape: tuple[int, int]) -> int:
    """Working memory of one matrix by whichever route, an upper bound."""
    return ELEMENT_BYTES * max(_gram_elements(shape), _direct_elements(shape)) + SLACK_BYTES


def _gram_elements(shape: tuple[int, int]) -> int:
    """The Gram matrix and the product to be added, and two blocks, each also as stored.

    Then the eigensolver's copy; where lines are zero, that of a Gram matrix without them.
    """
    square = min(shape) ** 2
    block = min(BLOCK_ELEMENTS, shape[0] * shape[1])
    return max(2 * square + 4 * block, 3 * square)


def _direct_elements(shape: tuple[int, int]) -> int:
    """A block and what it is read from; below the factor, LAPACK's two copies of both, the next."""
    square = min(shape) ** 2
    block = min(max(BLOCK_ELEMENTS, square), shape[0] * shape[1])
    if shape[0] == shape[1]:  # nothing to eliminate: the factor and LAPACK's copy
        return 2 * block + 2 * square
    return 3 * block + 3 * (square + block) + square


def cost(specs: Iterable[MatrixSpec]) -> Cost:
    """The cost of measuring these matrices."""
    count, size, work, peak = 0, 0, 0.0, 0
    for spec in specs:
        count += 1
        size += spec.shape[0] * spec.shape[1] * itemsize(spec.dtype)
        work += flops(spec.shape)
        peak = max(peak, peak_bytes(spec.shape))
    return Cost(count, size, work, peak)
