"""A matrix of an open checkpoint in blocks: transposed, and its part of a fused one, on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rankscope.records import Checkpoint, MatrixSpec, Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored

# Up to so many rows are read for each that is wanted: a gate in every other row would be read row
# by row otherwise. Keys of grouped queries, one in 31 rows of Falcon 180B, are read head by head.
MAX_COVER = 2


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix of an open checkpoint, read in blocks."""

    checkpoint: Checkpoint
    spec: MatrixSpec

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """The stored type's name."""
        return self.spec.dtype

    def read(self, rows: slice, columns: slice) -> Stored:
        """A window of the matrix in its type; both slices have start and stop within it."""
        part = self.spec.part
        if part is None or rows.start == rows.stop:
            return self._oriented(rows, columns)
        if part.groups == 1 or part.period <= MAX_COVER * (part.stop - part.start):
            cover, picked = covering(part, rows)
            return self._oriented(cover, columns)[picked]
        import numpy as np

        return np.concatenate([self._oriented(run, columns) for run in runs(part, rows)])

    def _oriented(self, rows: slice, columns: slice) -> Stored:
        """A window of the whole matrix as (out, in)."""
        stored = self.spec.stored
        if self.spec.transposed:
            return self.checkpoint.read(stored, columns, rows).T
        return self.checkpoint.read(stored, rows, columns)

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Stored]:
        """Consecutive blocks along `axis`, each whole along the other, in the stored type."""
        rows, columns = self.shape
        if 0 in (rows, columns):
            return  # the other may be 2^62
        length, across = (rows, columns) if axis == 0 else (columns, rows)
        for part in pieces(length, across, max_elements):
            if axis == 0:
                yield self.read(part, slice(0, columns))
            else:
                yield self.read(slice(0, rows), part)

    def row_major(self, max_elements: int) -> Iterator[Stored]:
        """The elements in row-major order, at most `max_elements` at a time, however wide a row."""
        columns = self.shape[1]
        if columns <= max_elements:
            yield from self.blocks(0, max_elements)
            return
        for row in range(self.shape[0]):
            for start in range(0, columns, max_elements):
                part = slice(start, min(start + max_elements, columns))
                yield self.read(slice(row, row + 1), part)


def pieces(length: int, across: int, max_elements: int) -> Iterator[slice]:
    """Consecutive pieces of an axis of at least 1, with at most so many elements each.

    They are of equal size: a small one at the end would run at a lower rate.
    """
    most = max(1, max_elements // across)
    count = -(-length // most)
    step = -(-length // count)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def covering(part: Part, rows: slice) -> tuple[slice, slice | NDArray[np.intp]]:
    """The rows of the whole matrix that hold these rows of a part, and which of them they are.

    There is at least one.
    """
    import numpy as np

    height = part.stop - part.start
    if part.groups == 1:
        return slice(part.start + rows.start, part.start + rows.stop), slice(None)
    wanted = np.arange(rows.start, rows.stop)
    places = wanted // height * part.period + part.start + wanted % height
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1), places - first


def runs(part: Part, rows: slice) -> Iterator[slice]:
    """The same rows of the whole matrix, run by run."""
    height = part.stop - part.start
    for group in range(rows.start // height, (rows.stop - 1) // height + 1):
        first = max(rows.start - group * height, 0)
        last = min(rows.stop - group * height, height)
        base = group * part.period + part.start
        yield slice(base + first, base + last)
