"""Tensors that lie in a file as one run of elements: safetensors, .npy, stored zip entries.

A reader that knows where each tensor starts hands the positions here and is done.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.checkpoints.closing import Closing
from rankscope.dtypes import itemsize, numpy_dtype
from rankscope.files import RandomAccessFile
from rankscope.records import Listing, MatrixSpec

if TYPE_CHECKING:
    from rankscope.records import Stored


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tensor's elements lie.

    Attributes:
        offset: the byte of element (0, ..., 0).
        dtype: stored type.
        shape: the tensor's shape.
        strides: elements from one index to the next, per axis; C order when contiguous.
        big_endian: bytes are swapped.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    big_endian: bool = False


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a row-major tensor."""
    steps = itertools.accumulate(reversed(shape[1:]), operator.mul, initial=1)
    return tuple(steps)[::-1] if shape else ()


class FlatCheckpoint(Closing):
    """A `Checkpoint` over one file with known element positions."""

    def __init__(self, listing: Listing, file: RandomAccessFile, spans: Mapping[str, Span]) -> None:
        self._listing = listing
        self._file = file
        self._spans = spans

    @property
    def listing(self) -> Listing:
        """What is in the file."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        import numpy as np

        span = self._spans[spec.tensor]
        if rows.start == rows.stop or columns.start == columns.stop:
            size = rows.stop - rows.start, columns.stop - columns.start
            return np.empty(size, numpy_dtype(span.dtype))
        offset = sum(i * stride for i, stride in zip(spec.index, span.strides, strict=False))
        shape = span.shape[len(spec.index) :]
        strides = span.strides[len(spec.index) :]
        row_stride = _joint_stride(shape[: spec.split], strides[: spec.split])
        column_stride = _joint_stride(shape[spec.split :], strides[spec.split :])
        if row_stride is None or column_stride is None:
            return self._read_general(span, offset, spec, shape, strides, rows, columns)
        if row_stride == 1 and column_stride != 1:  # stored transposed
            return self._read_rows(span, offset, (column_stride, row_stride), columns, rows).T
        return self._read_rows(span, offset, (row_stride, column_stride), rows, columns)

    def _read_rows(
        self, span: Span, offset: int, strides: tuple[int, int], rows: slice, columns: slice
    ) -> Stored:
        """A window of a matrix: one read where rows follow each other, else one per row."""
        import numpy as np

        row_stride, column_stride = strides
        height, width = rows.stop - rows.start, columns.stop - columns.start
        first = offset + rows.start * row_stride + columns.start * column_stride
        if column_stride == 1 and row_stride == width:
            return self._elements(span, first, height * width).reshape(height, width)
        window = np.empty((height, width), numpy_dtype(span.dtype))
        reach = (width - 1) * column_stride + 1
        for row in range(height):
            piece = self._elements(span, first + row * row_stride, reach)
            window[row] = piece[:: column_stride or 1]  # stride 0: one element, broadcast
        return window

    def _read_general(
        self,
        span: Span,
        offset: int,
        spec: MatrixSpec,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        rows: slice,
        columns: slice,
    ) -> Stored:
        """A window of a tensor in some other memory order (PyTorch's channels_last)."""
        import numpy as np

        lead = shape[: spec.split]
        width = spec.shape[1]
        window = np.empty(
            (rows.stop - rows.start, columns.stop - columns.start), numpy_dtype(span.dtype)
        )
        reach = (
            sum(
                (n - 1) * stride
                for n, stride in zip(shape[spec.split :], strides[spec.split :], strict=True)
            )
            + 1
        )
        for row in range(rows.start, rows.stop):
            position = np.unravel_index(row, lead)
            first = offset + int(sum(int(i) * s for i, s in zip(position, strides, strict=False)))
            flat = self._elements(span, first, reach)
            steps = tuple(stride * flat.itemsize for stride in strides[spec.split :])
            view = np.lib.stride_tricks.as_strided(
                flat, shape[spec.split :], steps, writeable=False
            )
            window[row - rows.start] = view.reshape(width)[columns]
        return window

    def _elements(self, span: Span, first: int, count: int) -> Stored:
        import numpy as np

        size = itemsize(span.dtype)
        reach = 1 + sum(
            (n - 1) * stride for n, stride in zip(span.shape, span.strides, strict=True)
        )
        within = (span.offset, span.offset + reach * size)
        data = self._file.read(span.offset + first * size, count * size, within)
        dtype = numpy_dtype(span.dtype)
        return np.frombuffer(data, dtype.newbyteorder(">") if span.big_endian else dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _joint_stride(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The one stride that walks these axes in C order, or None when there is none."""
    pairs = [(n, stride) for n, stride in zip(shape, strides, strict=True) if n != 1]
    for (_, outer), (n, inner) in itertools.pairwise(pairs):
        if outer != n * inner:
            return None
    return pairs[-1][1] if pairs else 1
