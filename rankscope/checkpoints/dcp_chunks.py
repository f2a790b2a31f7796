"""The chunks that a distributed checkpoint cuts its tensors into, and how they lie together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rankscope.checkpoints.boxes import Box
from rankscope.checkpoints.inert_nodes import BadPickle

# Ours: chunks of a grid, which is how ranks share a tensor, fill one cell each; the most uneven
# share of a tensor over two axes that FSDP makes, a few. Bounds the time that it takes to check.
MAX_CELLS_A_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk is stored.

    Attributes:
        file: relative to the directory, as the metadata name it; not checked.
        offset: its first byte.
        length: bytes.
        transforms: what the bytes went through when they were written.
    """

    file: str
    offset: int
    length: int
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A box of a tensor.

    Attributes:
        offsets: its first index along each axis.
        sizes: how many along each axis.
        place: where it is stored, None when the metadata do not tell.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place | None

    @property
    def volume(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)

    def overlap(self, box: Box) -> Box | None:
        """What it shares with a box of the tensor, in the tensor's indices; None for nothing."""
        shared = tuple(
            slice(max(side.start, offset), min(side.stop, offset + size))
            for side, offset, size in zip(box, self.offsets, self.sizes, strict=True)
        )
        return None if any(side.start >= side.stop for side in shared) else shared


def covered(shape: tuple[int, ...], chunks: Sequence[Chunk]) -> int:
    """How many elements of a tensor of this shape its chunks hold.

    Raises:
        BadPickle: a chunk reaches out of the tensor or into another one.
    """
    for chunk in chunks:
        if not _is_inside(chunk, shape):
            raise BadPickle(
                f"chunk of size {list(chunk.sizes)} at {list(chunk.offsets)} "
                f"reaches out of size {list(shape)}"
            )
    solid = [chunk for chunk in chunks if chunk.volume]
    taken: set[tuple[int, ...]] = set()
    for chunk, cells in zip(solid, _cells(len(shape), solid), strict=True):
        for cell in cells:
            if cell in taken:
                raise BadPickle(
                    f"chunk of size {list(chunk.sizes)} at {list(chunk.offsets)} overlaps another"
                )
            taken.add(cell)
    return sum(chunk.volume for chunk in solid)


def _is_inside(chunk: Chunk, shape: tuple[int, ...]) -> bool:
    return len(chunk.offsets) == len(chunk.sizes) == len(shape) and all(
        offset + size <= n
        for offset, size, n in zip(chunk.offsets, chunk.sizes, shape, strict=True)
    )


def _cells(axes: int, chunks: Sequence[Chunk]) -> Iterator[Iterator[tuple[int, ...]]]:
    """For each chunk the cells that it fills, of the grid that all chunks' edges make."""
    numbers: list[dict[int, int]] = []
    for axis in range(axes):
        starts = {chunk.offsets[axis] for chunk in chunks}
        stops = {chunk.offsets[axis] + chunk.sizes[axis] for chunk in chunks}
        numbers.append({edge: number for number, edge in enumerate(sorted(starts | stops))})
    left = MAX_CELLS_A_CHUNK * (len(chunks) + MAX_CELLS_A_CHUNK)
    for chunk in chunks:
        sides = [
            range(number[offset], number[offset + size])
            for number, offset, size in zip(numbers, chunk.offsets, chunk.sizes, strict=True)
        ]
        left -= math.prod(map(len, sides))
        if left < 0:
            raise BadPickle(f"{len(chunks)} chunks cut at more places than any grid's")
        yield itertools.product(*sides)
