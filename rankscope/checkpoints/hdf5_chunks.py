"""HDF5 datasets stored in chunks, read chunk by chunk at known offsets."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.boxes import Box, pieces
from rankscope.checkpoints.hdf5_filters import BadChunk, unfilter
from rankscope.dtypes import itemsize, numpy_dtype
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
from rankscope.records import MatrixSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored

# Unpacked chunks that are kept, so that neighbouring windows do not unpack them again. Twice
# the 8 MB that solvers ask for at once; h5py's own chunks have at most 1 MiB.
CACHE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class ChunkedArray:
    """Where the chunks of a dataset lie; all of them were written.

    Attributes:
        dtype: stored type.
        big_endian: bytes are swapped.
        shape: the dataset's.
        chunk: the shape of every chunk; those at the edge reach over it.
        filters: codes of the pipeline, in the order of writing.
        offsets: byte where each chunk begins, in C order of the grid of chunks.
        sizes: bytes that each takes in the file.
        masks: per chunk, bit i set when filter i was not applied.
    """

    dtype: str
    big_endian: bool
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    filters: tuple[int, ...]
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    masks: NDArray[np.uint64]


def grid(shape: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks along each axis."""
    return tuple(-(-n // c) for n, c in zip(shape, chunk, strict=True))


class ChunkReader:
    """Reads windows of the chunked datasets of one file."""

    def __init__(self, file: RandomAccessFile) -> None:
        self._file = file
        self._cache: OrderedDict[tuple[str, int], Stored] = OrderedDict()
        self._cached_bytes = 0

    def read(self, array: ChunkedArray, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        import numpy as np

        height, width = rows.stop - rows.start, columns.stop - columns.start
        window = np.empty((height, width), numpy_dtype(array.dtype))
        for piece in pieces(array.shape, spec, rows, columns):
            part = window[piece.rows, piece.columns]
            part[...] = self._box(array, spec.tensor, piece.box).reshape(part.shape)
        return window

    def _box(self, array: ChunkedArray, name: str, box: Box) -> Stored:
        import numpy as np

        filled = np.empty(tuple(side.stop - side.start for side in box), numpy_dtype(array.dtype))
        counts = grid(array.shape, array.chunk)
        reached = (
            range(side.start // c, -(-side.stop // c))
            for side, c in zip(box, array.chunk, strict=True)
        )
        for position in itertools.product(*reached):
            number = 0
            for i, count in zip(position, counts, strict=True):
                number = number * count + i
            into, out_of = _overlap(box, position, array.chunk)
            filled[into] = self._chunk(array, name, number)[out_of]
        return filled

    def _chunk(self, array: ChunkedArray, name: str, number: int) -> Stored:
        """One whole chunk, unpacked."""
        import numpy as np

        key = (name, number)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        data = bytes(self._file.read(int(array.offsets[number]), int(array.sizes[number])))
        size = itemsize(array.dtype)
        try:
            data = unfilter(
                data,
                array.filters,
                int(array.masks[number]),
                math.prod(array.chunk) * size,
                size,
            )
        except BadChunk as error:
            raise InputRejected(self._file.path, f"chunk {number} {error}", tensor=name) from error
        dtype = numpy_dtype(array.dtype)
        dtype = dtype.newbyteorder(">") if array.big_endian else dtype
        self._keep(key, np.frombuffer(data, dtype).reshape(array.chunk))
        return self._cache[key]

    def _keep(self, key: tuple[str, int], chunk: NDArray[Any]) -> None:
        self._cache[key] = chunk
        self._cached_bytes += chunk.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= dropped.nbytes


def _overlap(box: Box, position: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[Box, Box]:
    """What a box and a chunk share: where it is in the box, where it is in the chunk."""
    into: list[slice] = []
    out_of: list[slice] = []
    for side, i, c in zip(box, position, chunk, strict=True):
        start, stop = max(side.start, i * c), min(side.stop, (i + 1) * c)
        into.append(slice(start - side.start, stop - side.start))
        out_of.append(slice(start - i * c, stop - i * c))
    return tuple(into), tuple(out_of)
