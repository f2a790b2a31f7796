"""Arrays in Fortran order: NumPy's other way to lay out a tensor."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from rankscope.checkpoints.boxes import Box, pieces
from rankscope.checkpoints.flat import FlatCheckpoint, Span
from rankscope.dtypes import numpy_dtype
from rankscope.records import MatrixSpec

if TYPE_CHECKING:
    from rankscope.records import Stored

# Elements of other matrices between two wanted ones that are read along, because another
# call costs as much (some 3 microseconds, at 2 GB/s); and elements of one call.
MAX_GAP = 2048
MAX_RUN = 2**16


class ArrayCheckpoint(FlatCheckpoint):
    """A `Checkpoint` over arrays in C or Fortran order, known by their strides."""

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        span = self._spans[spec.tensor]
        # Two axes are a matrix stored transposed, or are not: the base knows what to do.
        if len(span.shape) <= 2 or span.strides[0] != 1:
            return super().read(spec, rows, columns)
        return self._read_fortran(span, spec, rows, columns)

    def _read_fortran(self, span: Span, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        import numpy as np

        height, width = rows.stop - rows.start, columns.stop - columns.start
        window = np.empty((height, width), numpy_dtype(span.dtype))
        for piece in pieces(span.shape, spec, rows, columns):
            part = window[piece.rows, piece.columns]
            part[...] = self._box(span, piece.box).reshape(part.shape)
        return window

    def _box(self, span: Span, box: Box) -> Stored:
        """A box of a tensor in Fortran order, which is C order of the axes reversed."""
        import numpy as np

        shape, sides = span.shape[::-1], box[::-1]
        filled = np.empty(tuple(side.stop - side.start for side in sides), numpy_dtype(span.dtype))
        axis = _run_axis(shape, sides)
        inner = math.prod(shape[axis + 1 :])
        step = max(1, MAX_RUN // inner)
        side = sides[axis]
        for outer in itertools.product(*(range(s.start, s.stop) for s in sides[:axis])):
            first = 0
            for i, n in zip(outer, shape, strict=False):
                first = first * n + i
            into = filled[tuple(i - s.start for i, s in zip(outer, sides, strict=False))]
            for start in range(side.start, side.stop, step):
                count = min(step, side.stop - start)
                run = self._elements(span, (first * shape[axis] + start) * inner, count * inner)
                run = run.reshape(count, *shape[axis + 1 :])
                at = start - side.start
                into[at : at + count] = run[(slice(None), *sides[axis + 1 :])]
        return filled.T


def _run_axis(shape: tuple[int, ...], sides: Box) -> int:
    """The axis whose range is read in one run, along with everything inside it."""
    axis = len(shape) - 1
    inner = 1
    while axis > 0:
        wanted = (sides[axis].stop - sides[axis].start) * inner
        inner *= shape[axis]
        if inner - wanted > MAX_GAP or inner > MAX_RUN:
            break
        axis -= 1
    return axis
