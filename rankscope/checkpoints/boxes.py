"""Windows of a folded tensor as boxes of the tensor itself.

A run of rows of a matrix whose rows are several axes folded into one is not a box of those
axes, but a few of them; so are the columns. A reader that can read boxes needs no more memory
than the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from rankscope.records import MatrixSpec

Box = tuple[slice, ...]


class Piece(NamedTuple):
    """A part of a window: `window[rows, columns]` is `tensor[box]`, reshaped."""

    box: Box
    rows: slice
    columns: slice


def pieces(
    shape: tuple[int, ...], spec: MatrixSpec, rows: slice, columns: slice
) -> Iterator[Piece]:
    """The boxes of a tensor of this shape that make up a window of a matrix in it."""
    fixed = tuple(slice(i, i + 1) for i in spec.index)
    lead = shape[len(spec.index) : len(spec.index) + spec.split]
    rest = shape[len(spec.index) + spec.split :]
    row = 0
    for row_box in boxes(rows.start, rows.stop, lead):
        height = volume(row_box)
        column = 0
        for column_box in boxes(columns.start, columns.stop, rest):
            width = volume(column_box)
            yield Piece(
                (*fixed, *row_box, *column_box),
                slice(row, row + height),
                slice(column, column + width),
            )
            column += width
        row += height


def boxes(start: int, stop: int, shape: tuple[int, ...]) -> Iterator[Box]:
    """The elements start..stop-1 of a C-ordered tensor as boxes, in order.

    At most 2 * axes - 1 of them.

    >>> [[(s.start, s.stop) for s in box] for box in boxes(2, 8, (3, 3))]
    [[(0, 1), (2, 3)], [(1, 2), (0, 3)], [(2, 3), (0, 2)]]
    """
    if start == stop:
        return
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    first, head = divmod(start, inner)
    last, tail = divmod(stop, inner)
    if first == last:
        yield from _within(first, head, tail, shape)
        return
    if head:
        yield from _within(first, head, inner, shape)
        first += 1
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in shape[1:]))
    yield from _within(last, 0, tail, shape)


def _within(index: int, start: int, stop: int, shape: tuple[int, ...]) -> Iterator[Box]:
    for box in boxes(start, stop, shape[1:]):
        yield (slice(index, index + 1), *box)


def volume(box: Box) -> int:
    """Number of elements of a box."""
    return math.prod(side.stop - side.start for side in box)
