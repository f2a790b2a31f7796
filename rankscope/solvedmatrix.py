"""A matrix of which a training run has kept the singular values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

from rankscope.errors import InputRejected
from rankscope.records import Checkpoint, MatrixSpec, Measurement, Solved, Spectrum, Unmeasured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored


@dataclass(frozen=True, slots=True)
class SolvedMatrix:
    """A spectrum of an open checkpoint, where a matrix is expected.

    Whoever asks for the weights themselves is told that there are none.
    """

    checkpoint: Checkpoint
    spec: MatrixSpec
    solved: Solved

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the matrix."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """The type that the weights had."""
        return self.spec.dtype

    def sigma(self) -> NDArray[np.float64]:
        """The singular values as they are stored, shape (k,)."""
        import numpy as np

        stored = self.solved.sigma
        if stored is None:
            return np.empty(0)
        row = self.checkpoint.read(stored, slice(0, 1), slice(0, stored.shape[1]))
        return np.ascontiguousarray(row[0], np.float64)

    def measurement(self) -> Measurement:
        """The spectrum, or why there is none."""
        import numpy as np

        solved = self.solved
        if solved.status != "ok":
            return Unmeasured(solved.status, solved.reason)
        sigma = self.sigma()
        if len(sigma) != min(self.shape):
            reason = f"{len(sigma)} singular values are stored, expected {min(self.shape)}"
            return Unmeasured("failed", reason)
        # NaN fails every comparison.
        if not (sigma[-1] >= 0 and (np.diff(sigma) <= 0).all() and np.isfinite(sigma[0])):
            return Unmeasured("failed", "stored singular values are not descending from 0 up")
        return Spectrum(
            sigma,
            self.shape,
            self.dtype,
            solved.frobenius_norm,
            solved.max_row_norm,
            solved.max_column_norm,
            solved.resolution,
            solved.route,
            solved.zeros,
        )

    def read(self, rows: slice, columns: slice) -> NoReturn:  # noqa: ARG002 - there is none
        """Always `InputRejected`."""
        raise self._refusal()

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Stored]:  # noqa: ARG002
        """Always `InputRejected`."""
        raise self._refusal()

    def _refusal(self) -> InputRejected:
        reason = "only its singular values were saved, expected weights: save both"
        return InputRejected(self.checkpoint.listing.path, reason, tensor=self.spec.name)
