"""Tensors in blocks of codes: which blocks a window needs, and what they decode to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.flat import c_strides
from rankscope.checkpoints.ggml_types import GgmlType
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
from rankscope.records import MatrixSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored

    Bytes = NDArray[np.uint8]

PACKAGE = "gguf"
INSTALL = "pip install 'rankscope[gguf]'"

# Decoded at once: the package makes up to ten arrays of this length on the way, and they should
# stay in the cache. Tuned from 2^14 to 2^22 over eight types; both ends take about twice as long.
DECODED_ELEMENTS = 2**18

Tile = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a tensor's blocks lie: in C order, none across two rows of its last axis.

    Attributes:
        offset: the byte of the first block.
        kind: their type.
        shape: the tensor's shape.
    """

    offset: int
    kind: GgmlType
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """The byte behind the last block."""
        return self.offset + math.prod(self.shape) // self.kind.block * self.kind.size


def read_packed(
    file: RandomAccessFile, packed: Packed, spec: MatrixSpec, rows: slice, columns: slice
) -> Stored:
    """A window of a matrix, decoded to float32; see `Checkpoint.read`.

    A row of the matrix is one or more rows of the tensor's last axis, so a whole number of blocks.

    Raises:
        InputRejected: the file has got shorter, or there is no gguf package that knows the type.
    """
    import numpy as np

    kind = packed.kind
    window = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    if window.size == 0:
        return window
    strides = c_strides(packed.shape)
    first = sum(i * stride for i, stride in zip(spec.index, strides, strict=False)) // kind.block
    across = math.prod(packed.shape[len(spec.index) + spec.split :]) // kind.block
    wanted = slice(columns.start // kind.block, -(-columns.stop // kind.block))
    for part, blocks in _tiles(rows, wanted, DECODED_ELEMENTS // kind.block):
        raw = _blocks(file, packed, first, across, (part, blocks))
        numbers = _decoded(file, spec, kind, raw)
        begin = blocks.start * kind.block
        start, stop = max(begin, columns.start), min(blocks.stop * kind.block, columns.stop)
        window[
            part.start - rows.start : part.stop - rows.start,
            start - columns.start : stop - columns.start,
        ] = numbers[:, start - begin : stop - begin]
    return window


def _tiles(rows: slice, blocks: slice, most: int) -> Iterator[Tile]:
    """Pieces of a window of blocks, each of at most so many, or of one."""
    width = max(1, min(blocks.stop - blocks.start, most))
    height = max(1, most // width)
    for top in range(rows.start, rows.stop, height):
        for left in range(blocks.start, blocks.stop, width):
            yield (
                slice(top, min(top + height, rows.stop)),
                slice(left, min(left + width, blocks.stop)),
            )


def _blocks(file: RandomAccessFile, packed: Packed, first: int, across: int, tile: Tile) -> Bytes:
    """The bytes of a tile, shape (rows, bytes of its blocks): one read where they follow.

    Args:
        file: where they are.
        packed: the tensor.
        first: the block that its matrix begins with.
        across: how many blocks a row of the matrix has.
        tile: rows, and blocks of each.
    """
    import numpy as np

    rows, blocks = tile
    size = packed.kind.size
    height, width = rows.stop - rows.start, (blocks.stop - blocks.start) * size
    begin = packed.offset + (first + rows.start * across + blocks.start) * size
    within = (packed.offset, packed.end)
    if width == across * size:
        data = file.read(begin, height * width, within)
        return np.frombuffer(data, np.uint8).reshape(height, width)
    raw = np.empty((height, width), np.uint8)
    for row in range(height):
        raw[row] = np.frombuffer(file.read(begin + row * across * size, width, within), np.uint8)
    return raw


def _decoded(file: RandomAccessFile, spec: MatrixSpec, kind: GgmlType, raw: Bytes) -> NDArray[Any]:
    """The numbers of a tile, float32, shape (rows, elements)."""
    import numpy as np

    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        reason = f"{kind.name} is decoded by the gguf package: {INSTALL}"
        raise InputRejected(file.path, reason, tensor=spec.tensor) from error
    try:
        # One long row: the package goes through the rows of what it gets sixteen at a time.
        # A scale that is NaN or infinite is found later, by what it makes of the elements.
        with np.errstate(all="ignore"):
            numbers = dequantize(raw.reshape(1, -1), GGMLQuantizationType[kind.name])
    except (KeyError, NotImplementedError) as error:
        reason = f"{kind.name} is not known to this gguf package: pip install --upgrade gguf"
        raise InputRejected(file.path, reason, tensor=spec.tensor) from error
    return numbers.reshape(len(raw), -1)
