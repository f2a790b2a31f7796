"""Which weight matrices the operations of a forward pass multiply, and by how many inputs.

A weight is recognised by where its elements lie, so that transposes, chunks and reshapes of it
are seen too. An operation counts n inputs to a matrix M when the gradient of any loss with
respect to M, as far as it comes through this operation, has rank at most n for certain:

- a product with a part of M (some rows, some columns, either way round) with n vectors adds
  n outer products to the gradient of that part, and zeros elsewhere;
- a convolution takes a patch per output position, and M is its folded weight (out, in/g * k).
  With g groups the gradient is g blocks of rows, each a sum of as many outer products as there
  are positions, and the blocks share no patch: g times the positions;
- a transposed convolution multiplies each input position by M^T, M = (in, out/g * k), and adds
  up overlapping results: the input's positions, times g for the same reason;
- a table whose lines are picked has a gradient that is zero in all lines but these.

Anything else that computes with a weight (a norm, a sum, an elementwise product) has a gradient
of any rank, and so has a product with elements arranged otherwise than in M.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rankscope.inputcounts.places import (
    Axes,
    Place,
    axes_of,
    place_of,
    reach,
    reserved,
    storage_of,
    tensors_in,
)

if TYPE_CHECKING:
    from torch import Tensor

# Position of the left factor among the arguments; the right one follows.
PRODUCTS = {
    "aten::mm": 0,
    "aten::mv": 0,
    "aten::bmm": 0,
    "aten::addmm": 1,
    "aten::addmv": 1,
    "aten::addbmm": 1,
    "aten::baddbmm": 1,
}
CONVOLUTIONS = frozenset({"aten::convolution", "aten::_convolution"})
# Position of the indices; the table is the first argument, and they pick its rows.
LOOKUPS = {
    "aten::embedding": 1,
    "aten::_embedding_bag": 1,
    "aten::_embedding_bag_forward_only": 1,
}
# The result's elements are the argument's, each in its place, somewhere else in memory.
COPIES = frozenset({"aten::clone", "aten::_to_copy"})
# They take a shape, type and device; no gradient comes back.
MAKERS = frozenset(
    f"aten::{name}"
    for kind in ("zeros", "ones", "empty", "full", "rand", "randn")
    for name in (f"{kind}_like", f"new_{kind}")
)


@dataclass(frozen=True, slots=True)
class Product:
    """A view, seen as a matrix, and the number of inputs that it is applied to."""

    start: int
    one: Axes
    other: Axes
    inputs: int


@dataclass(slots=True)
class WeightUses:
    """What a pass did with each weight so far.

    Attributes:
        inputs: (weight, matrix of a stack, else 0) -> inputs; none that is not used.
        lost: weights whose gradient may have any rank.
    """

    inputs: Counter[tuple[int, int]] = field(default_factory=Counter)
    lost: set[int] = field(default_factory=set)
    _places: dict[int | None, list[Place]] = field(default_factory=dict)
    _reserved: list[object] = field(default_factory=list)

    def watch(self, weight: int, tensor: Tensor, stacked: bool, first: int = 0) -> None:
        """Recognise the elements of a tensor as those of a weight from now on."""
        place = place_of(tensor, stacked, weight, first)
        if place is None:
            self.lost.add(weight)
        else:
            self._places.setdefault(storage_of(tensor), []).append(place)
            self._reserved.append(reserved(tensor))

    def see(self, operation: str, arguments: Sequence[Any], result: object) -> None:
        """Count what an operation, which has run, did with the weights among its arguments."""
        for position, argument in enumerate(arguments):
            for tensor in tensors_in(argument):
                places = self._places_of(tensor)
                if not places or operation in MAKERS:
                    continue
                products = _products(operation, position, arguments, result)
                for place in places:
                    if operation in COPIES:
                        self._copied(place, tensor, next(tensors_in(result)))
                    elif products:
                        self._count(place, products)
                    elif _computes(tensor, result):
                        self.lost.add(place.weight)

    def _places_of(self, tensor: Tensor) -> list[Place]:
        storage = storage_of(tensor)
        if storage not in self._places:
            return []
        start = int(tensor.storage_offset())
        end = start + reach(axes_of(tensor))
        places = self._places[storage]
        return [place for place in places if start < place.stop and place.start <= end]

    def _count(self, place: Place, products: Iterable[Product]) -> None:
        for product in products:
            matrices = place.matrices_with(product.start, product.one, product.other)
            if not matrices:
                self.lost.add(place.weight)
            for matrix in matrices:
                self.inputs[place.weight, matrix] += product.inputs

    def _copied(self, place: Place, tensor: Tensor, copy: Tensor) -> None:
        """Recognise a copy too, when it is of a part of one matrix or of some whole ones."""
        axes, start = axes_of(tensor), int(tensor.storage_offset())
        matrices = place.matrices_with(start, axes[:1], axes[1:])
        stacked = not matrices and len(axes) == 3 and axes[0][1] == place.stride
        if stacked:
            matrices = place.matrices_with(start, axes[1:2], axes[2:])
        if len(matrices) == 1:
            self.watch(place.weight, copy, stacked, matrices[0])
        else:
            self.lost.add(place.weight)


def _computes(tensor: Tensor, result: object) -> bool:
    """Whether a result has numbers of its own; one that has not is a view of the argument."""
    return any(storage_of(other) != storage_of(tensor) for other in tensors_in(result))


def _products(
    operation: str, position: int, arguments: Sequence[Any], result: object
) -> Sequence[Product]:
    """What the tensor at a position is multiplied with; nothing when it is not a factor."""
    tensor = arguments[position]
    if any(other.is_nested for other in tensors_in(arguments)) or isinstance(tensor, list):
        return ()
    axes, start = axes_of(tensor), int(tensor.storage_offset())
    left = PRODUCTS.get(operation)
    if left is not None and position in (left, left + 1):
        return tuple(_matrix_products(tensor, position == left, arguments[2 * left + 1 - position]))
    if operation in CONVOLUTIONS and position == 1:
        transposed, groups = arguments[6], arguments[8]
        positions = arguments[0].shape if transposed else next(tensors_in(result)).shape
        inputs = groups * positions[0] * math.prod(positions[2:])
        return (Product(start, axes[:1], axes[1:], inputs),)
    picked = _picked(operation, arguments) if position == 0 else None
    if picked is not None:
        axis, number = picked
        return (Product(start, axes[axis : axis + 1], axes[:axis] + axes[axis + 1 :], number),)
    return ()


def _picked(operation: str, arguments: Sequence[Any]) -> tuple[int, int] | None:
    """Along which axis of a table, the first argument, how many lines are picked."""
    table = arguments[0]
    if operation in LOOKUPS:
        return 0, arguments[LOOKUPS[operation]].numel()
    if operation == "aten::index_select":
        return arguments[1] % table.ndim, arguments[2].numel()
    if operation == "aten::index":
        indices = [(axis, index) for axis, index in enumerate(arguments[1]) if index is not None]
        if len(indices) == 1:
            return indices[0][0], indices[0][1].numel()
    return None


def _matrix_products(factor: Tensor, is_left: bool, other: Tensor) -> Iterator[Product]:
    """One product for each matrix of a factor that has one, two or (a batch of them) three axes."""
    inputs = other.shape[-1 if is_left else -2] if other.ndim > 1 else 1
    axes, start = axes_of(factor), int(factor.storage_offset())
    if len(axes) < 3:  # a vector on the right is a matrix with one column
        yield Product(start, axes[:1], axes[1:], inputs)
        return
    length, step = axes[0]
    if step == 0:  # one matrix, expanded
        length, inputs = 1, inputs * length
    for i in range(length):
        yield Product(start + i * step, axes[1:2], axes[2:], inputs)
