"""A linear combination of matrices, as a matrix: nothing is stored, each block is made on the way.

What n updates left of the weights, and later the difference of two checkpoints, are such.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rankscope.records import Matrix

if TYPE_CHECKING:
    from rankscope.records import Stored

Term = tuple[float, Matrix]


@dataclass(frozen=True, slots=True)
class Combination:
    """sum c_i A_i in float64; a block of it costs two of its blocks beside those of the A_i.

    An entry beyond float64 is infinite, which a solver reports as not finite.

    Attributes:
        terms: (c_i, A_i), at least one; all A_i of one shape, whatever their types.

    Raises:
        ValueError: the shapes differ, or there is no term.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        shapes = {matrix.shape for _, matrix in self.terms}
        if len(shapes) != 1:
            raise ValueError(f"matrices of shapes {sorted(shapes)} have no sum")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.terms[0][1].shape

    @property
    def dtype(self) -> str:
        """The type that it is computed in."""
        return "float64"

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Stored]:
        """Consecutive blocks along `axis`, each whole along the other, in float64."""
        import numpy as np

        parts = [matrix.blocks(axis, max_elements) for _, matrix in self.terms]
        for stored in zip(*parts, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                total = np.zeros(stored[0].shape)
                for (factor, _), block in zip(self.terms, stored, strict=True):
                    total += factor * block.astype(np.float64)
            yield total
