"""The tensors of a checkpoint as they are stored, by name, and windows of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rankscope.errors import InputRejected
from rankscope.records import Checkpoint, MatrixSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored


class StoredTensors:
    """What a scheme may look at.

    Attributes:
        infos: the tensors by name.
        absent: why one that should be there cannot be read, by name.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        listing = checkpoint.listing
        self._checkpoint = checkpoint
        self._path = listing.path
        self.infos = {tensor.name: tensor for tensor in listing.tensors}
        self.absent = {item.name: item.reason for item in (*listing.skipped, *listing.missing)}

    def __contains__(self, name: str) -> bool:
        """Whether a tensor of this name is there, or should be."""
        return name in self.infos or name in self.absent

    def those_of(self, *names: str) -> tuple[str, ...]:
        """The names of tensors that are there, or should be."""
        return tuple(name for name in names if name in self)

    def flat(self, name: str, start: int, stop: int) -> Stored:
        """Elements [start, stop) in row-major order, whatever its axes are; shape (stop - start,).

        A tensor that is stored in another order is read as a whole.
        """
        info = self.infos[name]
        spec = MatrixSpec(name, name, (), 0, (1, info.size), info.dtype, "linear")
        elements: Stored = self._checkpoint.read(spec, slice(0, 1), slice(start, stop))[0]
        return elements

    def window(self, name: str, index: tuple[int, ...], rows: slice, columns: slice) -> Stored:
        """A window of `tensor[index]`, folded to its first axis and the rest."""
        info = self.infos[name]
        first, *rest = info.shape[len(index) :]
        shape = first, math.prod(rest)
        spec = MatrixSpec(name, name, index, 1, shape, info.dtype, "linear")
        return self._checkpoint.read(spec, rows, columns)

    def gathered(self, name: str, rows: NDArray[np.intp], columns: slice) -> Stored:
        """These rows of a matrix, which ascend; only they are read, each run of them at once."""
        import numpy as np

        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = [
            self.window(name, (), slice(int(run[0]), int(run[-1]) + 1), columns)
            for run in np.split(rows, ends)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def rejected(self, name: str, reason: str) -> InputRejected:
        """The error for a table whose numbers make no sense, to be raised."""
        return InputRejected(self._path, reason, tensor=name)
