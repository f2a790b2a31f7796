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
        flops: floating-point operations of the Gram route, m n^2 + 4/3 n^3 each, n the small side;
            of a low-rank product, those of its own route.
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


def matrix_flops(spec: MatrixSpec) -> float:
    """Operations that measuring a matrix takes: of a product, the two QR and the core's SVD."""
    if spec.solved is not None:
        return float(min(spec.shape))
    if spec.factors is None:
        return flops(spec.shape)
    rank = spec.factors.right.shape[0]
    # A QR takes 2 n r^2, the norms as much; the core's product and singular values about 8 r^3.
    return 4.0 * sum(spec.shape) * rank**2 + 8.0 * rank**3


def matrix_peak(spec: MatrixSpec) -> int:
    """Working memory of one matrix, an upper bound."""
    if spec.solved is not None:
        return ELEMENT_BYTES * 2 * min(spec.shape)
    if spec.factors is None:
        return peak_bytes(spec.shape)
    rank = spec.factors.right.shape[0]
    block = min(max(BLOCK_ELEMENTS, rank**2), max(spec.shape) * rank)
    # As on the direct route; and two triangles and their product.
    elements = 3 * block + 3 * (rank**2 + block) + 3 * rank**2
    return ELEMENT_BYTES * elements + SLACK_BYTES


def stored_bytes(spec: MatrixSpec) -> int:
    """What is read from files for a matrix, of what is encoded as if it were not."""
    if spec.solved is not None:
        return ELEMENT_BYTES * min(spec.shape)
    if spec.factors is None:
        return spec.shape[0] * spec.shape[1] * itemsize(spec.dtype)
    return sum(map(stored_bytes, (spec.factors.left, spec.factors.right)))


def cost(specs: Iterable[MatrixSpec]) -> Cost:
    """The cost of measuring these matrices."""
    count, size, work, peak = 0, 0, 0.0, 0
    for spec in specs:
        count += 1
        size += stored_bytes(spec)
        work += matrix_flops(spec)
        peak = max(peak, matrix_peak(spec))
    return Cost(count, size, work, peak)
