"""Several NumPy arrays in a zip archive: `.npz` files of `numpy.savez`.

Stored entries are read in place. Deflated ones (`numpy.savez_compressed`) cannot be: each is
unpacked to an unnamed temporary file when it is first read, which holds one array at a time.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, NamedTuple

from rankscope.checkpoints.closing import Closing
from rankscope.checkpoints.expansion import check_expansion
from rankscope.checkpoints.flat import Span
from rankscope.checkpoints.fortran import ArrayCheckpoint
from rankscope.checkpoints.npyheader import PREFIX_BYTES, BadArray, NoNumbers, array_span
from rankscope.checkpoints.zipfiles import LOCAL, Entry, zip_entries
from rankscope.errors import InputRejected, OutputFailed
from rankscope.files import LocalFile, RandomAccessFile, opened
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped, TensorInfo

if TYPE_CHECKING:
    from rankscope.records import Stored

MEMBER = ".npy"

# Bytes unpacked at once.
BLOCK_BYTES = 2**20

# Where the length of the first entry's name stands (APPNOTE 4.3.7).
NAME_LENGTH = slice(26, 28)


class NpzReader:
    """Reads `.npz` files."""

    name = "npz"
    suffixes = (".npz",)
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """A zip archive whose first entry is an array."""
        end = LOCAL.size + int.from_bytes(head[NAME_LENGTH], "little")
        return head.startswith(b"PK\x03\x04") and head[LOCAL.size : end].endswith(MEMBER.encode())

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the archive's directory and all headers; reads no elements."""
        return opened(path, _open)


class Packed(NamedTuple):
    """An array in a deflated entry; its span counts from the start of the entry's content."""

    entry: Entry
    span: Span


def _open(file: RandomAccessFile) -> Checkpoint:
    tensors: list[TensorInfo] = []
    skipped: list[Skipped] = []
    places: dict[str, Span | Packed] = {}
    for member, entry in zip_entries(file, PREFIX_BYTES).items():
        name = member.removesuffix(MEMBER)
        try:
            if name == member:
                raise NoNumbers(f"not an array: its name does not end in {MEMBER}")
            place = _place(file, name, entry)
        except BadArray as error:
            raise InputRejected(file.path, str(error), tensor=name) from error
        except NoNumbers as reason:
            skipped.append(Skipped(name, str(reason)))
            continue
        span = place.span if isinstance(place, Packed) else place
        tensors.append(TensorInfo(name, span.shape, span.dtype))
        places[name] = place
    listing = Listing(
        str(file.path), "npz", tuple(tensors), tuple(skipped), files=(text_of(file.path),)
    )
    return NpzCheckpoint(listing, file, places)


def _place(file: RandomAccessFile, name: str, entry: Entry) -> Span | Packed:
    count = min(entry.packed, PREFIX_BYTES)
    prefix = bytes(file.read(entry.offset, count))
    if entry.stored:
        span = array_span(prefix, entry.size)
        offset = entry.offset + span.offset
        return Span(offset, span.dtype, span.shape, span.strides, span.big_endian)
    if entry.method != "deflate":
        raise NoNumbers(f"compressed with {entry.method}, expected none or deflate")
    check_expansion(file.path, name, entry.size, entry.packed)
    try:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(prefix, PREFIX_BYTES)
    except zlib.error as error:
        raise BadArray(f"its deflate stream is broken: {error}") from error
    return Packed(entry, array_span(head, entry.size))


class NpzCheckpoint(Closing):
    """A `Checkpoint` over one `.npz` file."""

    def __init__(
        self, listing: Listing, file: RandomAccessFile, places: Mapping[str, Span | Packed]
    ) -> None:
        self._listing = listing
        self._file = file
        self._packed = {n: p for n, p in places.items() if isinstance(p, Packed)}
        spans = {n: p for n, p in places.items() if isinstance(p, Span)}
        self._stored = ArrayCheckpoint(listing, file, spans)
        self._unpacked: ArrayCheckpoint | None = None
        self._unpacked_name = ""

    @property
    def listing(self) -> Listing:
        """What is in the file."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`.

        Raises `OutputFailed` when there is no room for an array that has to be unpacked.
        """
        packed = self._packed.get(spec.tensor)
        if packed is None:
            return self._stored.read(spec, rows, columns)
        if self._unpacked is None or self._unpacked_name != spec.tensor:
            self._forget()
            content = _unpack(self._file, spec.tensor, packed.entry)
            self._unpacked = ArrayCheckpoint(self._listing, content, {spec.tensor: packed.span})
            self._unpacked_name = spec.tensor
        return self._unpacked.read(spec, rows, columns)

    def _forget(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()
            self._unpacked = None

    def close(self) -> None:
        """Close the file and remove what was unpacked."""
        self._forget()
        self._file.close()


class _TemporaryFile(LocalFile):
    """A file without a name: it is gone when it is closed, or the process ends."""

    def __init__(self, path: PurePath, handle: IO[bytes]) -> None:
        self.path = path
        self._fd = os.dup(handle.fileno())
        self.size = os.fstat(self._fd).st_size


def _unpack(file: RandomAccessFile, name: str, entry: Entry) -> RandomAccessFile:
    """The content of a deflated entry, its length and checksum verified."""
    try:
        with tempfile.TemporaryFile() as handle:
            _inflate(file, name, entry, handle)
            handle.flush()
            return _TemporaryFile(file.path, handle)
    except OSError as error:
        raise OutputFailed(
            tempfile.gettempdir(),
            f"no room to unpack {entry.size} bytes of {name}: {error.strerror}",
        ) from error


def _inflate(file: RandomAccessFile, name: str, entry: Entry, handle: IO[bytes]) -> None:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    position, end = entry.offset, entry.offset + entry.packed
    data = b""
    crc = written = 0
    while not stream.eof and written <= entry.size:
        if not data:
            size = min(BLOCK_BYTES, end - position)
            data = bytes(file.read(position, size, (entry.offset, end)))
            position += len(data)
        exhausted = not data
        try:
            content = stream.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            raise InputRejected(
                file.path, f"its deflate stream is broken: {error}", tensor=name
            ) from error
        data = stream.unconsumed_tail
        if exhausted and not content:
            break
        crc = zlib.crc32(content, crc)
        written += len(content)
        handle.write(content)
    if written != entry.size or crc != entry.crc:
        raise InputRejected(
            file.path,
            f"does not unpack to {entry.size} bytes with checksum {entry.crc:08x}",
            tensor=name,
        )
