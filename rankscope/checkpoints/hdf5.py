"""HDF5 files: the project's own snapshots, Keras's weights, any file of numeric datasets.

A tensor's name is its dataset's path without the leading slash. The library, h5py, reads the
headers only; elements are read by us at the offsets that the headers give. Where a chunk was
never written, or the file has been cut since, the library would return zeros.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints import keras_layout
from rankscope.checkpoints.closing import Closing
from rankscope.checkpoints.flat import FlatCheckpoint, Span
from rankscope.checkpoints.hdf5_chunks import ChunkedArray, ChunkReader
from rankscope.checkpoints.hdf5_links import Contents, library_errors, walk
from rankscope.checkpoints.hdf5_storage import NeverWritten, NotReadable, locate, refuse_foreign
from rankscope.checkpoints.hdf5_types import BadAttribute, NoNumbers, stored_type
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.identities import identity
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped, TensorInfo
from rankscope.text import natural

if TYPE_CHECKING:
    from rankscope.records import Stored

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Compact datasets lie in the headers and are kept; biases and scalars are all that they are
# made for. 1000 of the largest.
MAX_COMPACT_BYTES = 64_000_000


class Hdf5Reader:
    """Reads HDF5 files."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5", ".hdf", ".he5")
    isolated = True

    def recognises(self, head: bytes) -> bool:
        """The signature, at the start or behind a user block of 512, 1024, ... bytes."""
        return any(head[at:].startswith(SIGNATURE) for at in (0, 512, 1024, 2048))

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the headers of all datasets; reads no elements."""
        return opened(path, _open)


class Hdf5Checkpoint(Closing):
    """A `Checkpoint` over one HDF5 file; holds no handle of the library."""

    def __init__(
        self,
        listing: Listing,
        file: RandomAccessFile,
        places: Mapping[str, Span | ChunkedArray | Stored],
    ) -> None:
        self._listing = listing
        self._file = file
        self._chunked = {n: p for n, p in places.items() if isinstance(p, ChunkedArray)}
        self._chunks = ChunkReader(file)
        spans = {n: p for n, p in places.items() if isinstance(p, Span)}
        self._flat = FlatCheckpoint(listing, file, spans)
        self._compact_names = places.keys() - self._chunked.keys() - spans.keys()
        self._compact = MemoryCheckpoint({n: places[n] for n in self._compact_names})

    @property
    def listing(self) -> Listing:
        """What is in the file."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        if spec.tensor in self._chunked:
            return self._chunks.read(self._chunked[spec.tensor], spec, rows, columns)
        where = self._compact if spec.tensor in self._compact_names else self._flat
        return where.read(spec, rows, columns)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Stream(io.RawIOBase):
    """A file as the library wants to read one that it cannot open by its path."""

    def __init__(self, file: RandomAccessFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte; returns which."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        """The byte that is read next."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes; returns the bytes read."""
        count = max(0, min(len(buffer), self._file.size - self._position))
        buffer[:count] = self._file.read(self._position, count)
        self._position += count
        return count


@contextmanager
def _library(file: RandomAccessFile) -> Iterator[Any]:
    """The file opened by h5py, which must not change meanwhile."""
    import h5py

    path = file.path
    # By its path where it has one: the library's own reading is faster than through Python.
    source: Any = path if isinstance(path, Path) else _Stream(file)
    with library_errors(path):
        before = identity(path)
        # Without locks: directories may be read-only, and a trainer may be writing beside us.
        with h5py.File(source, "r", locking=False) as opened:
            yield opened
        if identity(path) != before:
            raise InputRejected(path, "changed while its headers were read: try again")


def _open(file: RandomAccessFile) -> Checkpoint:
    with _library(file) as opened:
        contents = walk(file.path, opened["/"].id)
        survey = _Survey(file, contents, opened)
        for name, dataset in contents.datasets:
            with library_errors(file.path, name):
                survey.add(name, dataset)
    listing = Listing(
        str(file.path),
        "hdf5",
        # HDF5 orders names as text; a person counts.
        tuple(sorted(survey.tensors, key=lambda tensor: natural(tensor.name))),
        tuple(survey.skipped),
        tuple(survey.missing),
        (text_of(file.path),),
    )
    return Hdf5Checkpoint(listing, file, survey.places)


class _Survey:
    """Sorts the datasets of a file into what can be read and what cannot."""

    def __init__(self, file: RandomAccessFile, contents: Contents, opened: Any) -> None:
        self.tensors: list[TensorInfo] = []
        self.skipped = list(contents.skipped)
        self.missing = list(contents.missing)
        self.places: dict[str, Span | ChunkedArray | Stored] = {}
        self._file = file
        self._keras = keras_layout.is_keras(opened, [name for name, _ in contents.datasets])
        self._compact_bytes = 0

    def add(self, name: str, dataset: Any) -> None:
        """Classify one open `DatasetID`."""
        refuse_foreign(self._file, name, dataset.get_create_plist())
        try:
            if self._keras and keras_layout.OPTIMIZER.search(name):
                raise NotReadable("state of the optimiser, not a weight")
            if dataset.shape is None:
                raise NotReadable("empty: a dataset without a shape")
            stored = stored_type(dataset, keras=self._keras)
            place = locate(self._file, name, dataset, stored)
        except (NoNumbers, NotReadable) as reason:
            self.skipped.append(Skipped(name, str(reason)))
        except NeverWritten as reason:
            self.missing.append(Skipped(name, str(reason)))
        except BadAttribute as error:
            raise InputRejected(self._file.path, str(error), tensor=name) from error
        else:
            self._count_compact(place)
            last = self._keras and keras_layout.channels_last(name, len(dataset.shape))
            self.tensors.append(TensorInfo(name, dataset.shape, stored.dtype, last))
            self.places[name] = place

    def _count_compact(self, place: Span | ChunkedArray | Stored) -> None:
        if isinstance(place, Span | ChunkedArray):
            return
        self._compact_bytes += place.nbytes
        if self._compact_bytes > MAX_COMPACT_BYTES:
            raise InputRejected(
                self._file.path,
                f"compact datasets of more than {MAX_COMPACT_BYTES} bytes: rewrite it contiguous",
            )
