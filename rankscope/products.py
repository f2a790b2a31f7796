"""Matrices that are stored as two thin factors: scale * left @ right, as a LoRA adapter is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rankscope.records import Checkpoint, Factors, MatrixSpec
from rankscope.solvedmatrix import SolvedMatrix
from rankscope.storedmatrix import StoredMatrix, pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored


@dataclass(frozen=True, slots=True)
class LowRankProduct:
    """A product of an open checkpoint: its two factors, and the product itself in blocks.

    The factors are oriented as the matrix is: of one that is stored transposed, `left` is the
    transposed right one; of a part, `left` has the part's rows only.
    """

    checkpoint: Checkpoint
    spec: MatrixSpec

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """The type that the factors are stored in."""
        return self.spec.dtype

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self._factors.scale

    @property
    def left(self) -> StoredMatrix:
        """The factor of shape (rows, r)."""
        factors = self._factors
        spec = _flipped(factors.right) if self.spec.transposed else factors.left
        if self.spec.part is not None:
            spec = replace(spec, part=self.spec.part, shape=(self.shape[0], spec.shape[1]))
        return StoredMatrix(self.checkpoint, spec)

    @property
    def right(self) -> StoredMatrix:
        """The factor of shape (r, columns)."""
        factors = self._factors
        spec = _flipped(factors.left) if self.spec.transposed else factors.right
        return StoredMatrix(self.checkpoint, spec)

    @property
    def _factors(self) -> Factors:
        if self.spec.factors is None:
            raise TypeError(f"{self.spec.name} is stored as it is, not as factors")
        return self.spec.factors

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Stored]:
        """Consecutive blocks of the product along `axis`, in float64."""
        rows, columns = self.shape
        if 0 in (rows, columns):
            return
        left, right = self.left, self.right
        rank = left.shape[1]
        inside, across = slice(0, rank), columns if axis == 0 else rows
        whole = _wide(right if axis == 0 else left)
        for piece in pieces(self.shape[axis], across, max_elements):
            if axis == 0:
                yield _product(left.read(piece, inside), whole, self.scale)
            else:
                yield _product(whole, right.read(inside, piece), self.scale)


def _flipped(spec: MatrixSpec) -> MatrixSpec:
    """The transposed of a factor that is stored as it is."""
    return replace(spec, transposed=True, shape=spec.shape[::-1])


def _wide(factor: StoredMatrix) -> NDArray[np.float64]:
    import numpy as np

    rows, columns = factor.shape
    return factor.read(slice(0, rows), slice(0, columns)).astype(np.float64)


def _product(left: Stored, right: Stored, scale: float) -> NDArray[np.float64]:
    import numpy as np

    # What is not finite is found by who reads the blocks; a warning would say no more.
    with np.errstate(all="ignore"):
        product: NDArray[np.float64] = left.astype(np.float64) @ right.astype(np.float64)
        product *= scale
        return product


AnyMatrix = StoredMatrix | LowRankProduct | SolvedMatrix


def matrix_of(checkpoint: Checkpoint, spec: MatrixSpec) -> AnyMatrix:
    """A matrix of an open checkpoint, as it is stored."""
    if spec.solved is not None:
        return SolvedMatrix(checkpoint, spec, spec.solved)
    if spec.factors is None:
        return StoredMatrix(checkpoint, spec)
    return LowRankProduct(checkpoint, spec)
