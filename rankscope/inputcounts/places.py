"""Where in memory the elements of weight matrices lie, and which views are parts of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# (length, step in elements) of some axes.
Axes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the matrices of one weight lie in a storage; all numbers count elements.

    Attributes:
        weight: the weight's number.
        first: number of the first matrix there, which is not 0 in a copy of a part of a stack.
        start: where the first begins.
        stop: behind the last.
        stride: from one matrix to the next.
        line: from one row to the next, or from one column to the next where that is further.
    """

    weight: int
    first: int
    start: int
    stop: int
    stride: int
    line: int

    def matrices_with(self, start: int, one: Axes, other: Axes) -> range:
        """Which matrices a view that overlaps has a part of; none when it mixes rows with columns.

        The view is seen as a matrix with the axes `one` along its rows or columns and `other`
        across. A part has some of the rows and some of the columns, transposed or not.
        """
        begin = start - self.start
        end = begin + reach(one) + reach(other)
        if self.stride % self.line and not 0 <= begin <= end < self.stride:
            return range(0)  # the lines of the next matrix are not in step with these

        def across(axes: Axes) -> bool:
            return all(step % self.line == 0 for length, step in axes if length > 1)

        def along(axes: Axes) -> bool:
            return begin % self.line + reach(axes) < self.line

        is_part = (across(one) and along(other)) or (across(other) and along(one))
        first, last = max(begin, 0) // self.stride, end // self.stride
        return range(self.first + first, self.first + last + 1) if is_part else range(0)


def place_of(tensor: Tensor, stacked: bool, weight: int, first: int = 0) -> Place | None:
    """Where the matrices of a tensor lie; None when their elements are interleaved.

    The axes after the first, or in a stack after the second, form the columns.
    """
    axes = axes_of(tensor)
    stack, rows, columns = axes[:stacked], axes[stacked : stacked + 1], axes[stacked + 1 :]
    size = reach(rows) + reach(columns) + 1
    stride = stack[0][1] if stack and stack[0][0] > 1 else size
    for inner, outer in ((columns, rows), (rows, columns)):
        line = min((step for length, step in outer if length > 1), default=size)
        if reach(inner) < line and size <= stride:
            start = int(tensor.storage_offset())
            return Place(weight, first, start, start + reach(axes) + 1, stride, line)
    return None


def axes_of(tensor: Tensor) -> Axes:
    """Length and step of each axis."""
    return tuple(zip(tensor.shape, tensor.stride(), strict=True))


def reach(axes: Axes) -> int:
    """How far the last element is from the first."""
    return sum((length - 1) * step for length, step in axes)


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in an argument or result, which may be a list of them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def storage_of(tensor: Tensor) -> int | None:
    """Which memory a tensor lies in, the same for views of each other; None for a sparse one.

    The number is given away again when no tensor lies there any more; see `reserved`.
    """
    import torch

    if tensor.layout is not torch.strided or tensor.is_nested:
        return None
    return int(tensor.untyped_storage()._cdata)


def reserved(tensor: Tensor) -> object:
    """While this is there, the tensor's storage keeps its number, though not its memory."""
    from torch.multiprocessing.reductions import StorageWeakRef

    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
