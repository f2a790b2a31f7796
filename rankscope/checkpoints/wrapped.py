"""A checkpoint seen through another listing: what an interpretation of stored tensors gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankscope.checkpoints.closing import Closing
from rankscope.records import Checkpoint, Listing, MatrixSpec

if TYPE_CHECKING:
    from rankscope.records import Stored


class WrappedCheckpoint(Closing):
    """A `Checkpoint` that reads from another one; closing it closes that one."""

    def __init__(self, inner: Checkpoint, listing: Listing) -> None:
        self._inner = inner
        self._listing = listing

    @property
    def listing(self) -> Listing:
        """What is in it, as interpreted."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        return self._inner.read(spec, rows, columns)

    def close(self) -> None:
        """Close the checkpoint that it reads from."""
        self._inner.close()
