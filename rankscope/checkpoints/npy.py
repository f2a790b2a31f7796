"""Single NumPy arrays: `.npy` files."""

from __future__ import annotations

from pathlib import PurePath

from rankscope.checkpoints.flat import Span
from rankscope.checkpoints.fortran import ArrayCheckpoint
from rankscope.checkpoints.npyheader import (
    MAGIC,
    PREFIX_BYTES,
    BadArray,
    NoNumbers,
    ObjectArray,
    array_span,
)
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, Skipped, TensorInfo


class NpyReader:
    """Reads `.npy` files; the one tensor is named after the file."""

    name = "npy"
    suffixes = (".npy",)
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """NumPy's magic bytes."""
        return head.startswith(MAGIC)

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the header; reads no elements."""
        return opened(path, _open)


def _open(file: RandomAccessFile) -> Checkpoint:
    name = file.path.stem
    tensors: tuple[TensorInfo, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    spans: dict[str, Span] = {}
    try:
        span = array_span(bytes(file.read(0, min(file.size, PREFIX_BYTES))), file.size)
        tensors = (TensorInfo(name, span.shape, span.dtype),)
        spans[name] = span
    except (BadArray, ObjectArray) as error:
        raise InputRejected(file.path, str(error)) from error
    except NoNumbers as reason:
        skipped = (Skipped(name, str(reason)),)
    listing = Listing(str(file.path), "npy", tensors, skipped, files=(text_of(file.path),))
    return ArrayCheckpoint(listing, file, spans)
