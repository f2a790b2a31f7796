"""What will be measured and what it costs, from headers alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rankscope.dtypes import itemsize
from rankscope.records import MatrixSpec

# Bytes that a process holds before its first matrix: the interpreter, NumPy, a BLAS buffer.
# Measured as the PSS of an idle worker on Linux (docs/performance.md).
PROCESS_BYTES = 40 * 2**20

BLOCK_BYTES = 2**21 * 8 * 2  # a float64 block (solvers.entries.BLOCK_ELEMENTS) and its source


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
    """Working memory of one matrix: its Gram matrix and a second one, and a block."""
    return 2 * 8 * min(shape) ** 2 + min(BLOCK_BYTES, 2 * 8 * shape[0] * shape[1])


def cost(specs: Iterable[MatrixSpec]) -> Cost:
    """The cost of measuring these matrices."""
    count, size, work, peak = 0, 0, 0.0, 0
    for spec in specs:
        count += 1
        size += spec.shape[0] * spec.shape[1] * itemsize(spec.dtype)
        work += flops(spec.shape)
        peak = max(peak, peak_bytes(spec.shape))
    return Cost(count, size, work, peak)
