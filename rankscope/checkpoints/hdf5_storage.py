"""Where the elements of an HDF5 dataset lie, and whether they were ever written."""

from __future__ import annotations

import array
import math
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.expansion import check_expansion
from rankscope.checkpoints.flat import Span, c_strides
from rankscope.checkpoints.hdf5_chunks import ChunkedArray, grid
from rankscope.checkpoints.hdf5_filters import DEFLATE, FLETCHER32, SHUFFLE
from rankscope.checkpoints.hdf5_types import StoredType
from rankscope.dtypes import itemsize, numpy_dtype
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile

if TYPE_CHECKING:
    from rankscope.records import Stored

FILTERS = (DEFLATE, SHUFFLE, FLETCHER32)

# H5Zpublic.h, and HDF Group's list of registered filters for those beyond 255.
FILTER_NAMES = {4: "szip", 5: "nbit", 6: "scale-offset", 32000: "lzf", 32001: "blosc"}

# A filtered chunk is unpacked whole. h5py's own choice is 1 MiB at most.
MAX_CHUNK_BYTES = 256 * 2**20


class NeverWritten(Exception):
    """Elements that the file declares and does not hold; the library would make up zeros."""


class NotReadable(Exception):
    """Sound, but stored in a way that is not read; the text says how."""


def refuse_foreign(file: RandomAccessFile, name: str, plist: Any) -> None:
    """Refuse a dataset whose elements are in other files."""
    from h5py import h5d

    if plist.get_layout() == h5d.VIRTUAL:
        raise InputRejected(file.path, "virtual dataset: other files are not read", tensor=name)
    if plist.get_layout() == h5d.CONTIGUOUS and plist.get_external_count() > 0:
        other = plist.get_external(0)[0]
        raise InputRejected(
            file.path, f"external storage in {other!r}: other files are not read", tensor=name
        )


def locate(
    file: RandomAccessFile, name: str, dataset: Any, stored: StoredType
) -> Span | ChunkedArray | Stored:
    """Where an open `DatasetID` of a known type has its elements.

    A compact dataset lies in its header, at most 64 KiB, and is returned itself.

    Raises:
        InputRejected: filters other than deflate, shuffle and fletcher32; far more declared
            than stored; elements outside the file.
        NeverWritten: some or all elements are not there.
        NotReadable: chunks too large to unpack, or ambiguous.
    """
    from h5py import h5d

    plist = dataset.get_create_plist()
    filters = _filters(file, name, plist)
    shape = dataset.shape
    declared = math.prod(shape) * itemsize(stored.dtype)
    held = dataset.get_storage_size()
    check_expansion(file.path, name, declared, held)
    if declared == 0:
        return Span(0, stored.dtype, shape, c_strides(shape), stored.big_endian)
    layout = plist.get_layout()
    if layout == h5d.COMPACT:
        return _compact(dataset, stored)
    if layout == h5d.CHUNKED:
        return _chunked(file, name, dataset, stored, filters)
    offset = dataset.get_offset()
    if offset is None:
        raise NeverWritten(f"none of its {declared} bytes were ever written")
    if held < declared or offset + declared > file.size:
        raise InputRejected(
            file.path,
            f"shape {list(shape)} of {stored.dtype} needs {declared} bytes; {held} are stored "
            f"at {offset} in a file of {file.size}",
            tensor=name,
        )
    return Span(offset, stored.dtype, shape, c_strides(shape), stored.big_endian)


def _filters(file: RandomAccessFile, name: str, plist: Any) -> tuple[int, ...]:
    codes = []
    for i in range(plist.get_nfilters()):
        code, _, _, label = plist.get_filter(i)
        if code not in FILTERS:
            called = FILTER_NAMES.get(code) or label.decode("utf-8", "replace") or "unknown"
            raise InputRejected(
                file.path,
                f"filter {called} ({code}), expected none or gzip, shuffle, fletcher32: "
                "rewrite it with one of these",
                tensor=name,
            )
        codes.append(code)
    return tuple(codes)


def _compact(dataset: Any, stored: StoredType) -> Stored:
    import numpy as np
    from h5py import h5s

    dtype = numpy_dtype(stored.dtype)
    elements = np.empty(dataset.shape, dtype.newbyteorder(">") if stored.big_endian else dtype)
    # The memory type is the file's: the bits are taken as they are.
    dataset.read(h5s.ALL, h5s.ALL, elements, mtype=dataset.get_type())
    return elements


def _chunked(
    file: RandomAccessFile, name: str, dataset: Any, stored: StoredType, filters: tuple[int, ...]
) -> ChunkedArray:
    import numpy as np

    shape, chunk = dataset.shape, dataset.get_create_plist().get_chunk()
    _check_chunks(dataset, chunk, math.prod(chunk) * itemsize(stored.dtype), filters)
    needed = math.prod(grid(shape, chunk))
    records = np.frombuffer(_chunk_records(file, name, dataset, needed), np.uint64).reshape(-1, 4)
    present = len(np.unique(records[:, 0]))
    if present < needed:
        raise NeverWritten(f"{needed - present} of {needed} chunks were never written")
    _, offset, length, mask = records[np.argsort(records[:, 0])].T
    return ChunkedArray(
        stored.dtype, stored.big_endian, shape, chunk, filters, offset, length, mask
    )


def _check_chunks(
    dataset: Any, chunk: tuple[int, ...], size: int, filters: tuple[int, ...]
) -> None:
    """Raise `NotReadable` for chunks that cannot be read, or not with certainty."""
    from h5py import h5s

    if size > MAX_CHUNK_BYTES:
        raise NotReadable(
            f"chunks of {size} bytes, expected at most {MAX_CHUNK_BYTES}: "
            "rewrite it with smaller ones"
        )
    partial = any(n % c for n, c in zip(dataset.shape, chunk, strict=True))
    if partial and set(filters) == {SHUFFLE}:
        # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS leaves no trace that h5py shows. With deflate
        # or a checksum a chunk without them is recognised by its length or content.
        raise NotReadable(
            "shuffled without gzip, and its chunks reach over the edge: whether those are "
            "shuffled is not known; rewrite it with gzip"
        )
    limits = dataset.get_space().get_simple_extent_dims(True)
    if limits.count(h5s.UNLIMITED) == 1 and limits[0] != h5s.UNLIMITED:
        # Indexed by an extensible array, whose entries HDF5 2.0 lists with their coordinates
        # permuted (H5Dchunk_iter as well as H5Dget_chunk_info).
        raise NotReadable(
            "can grow along an axis other than its first, where the library does not tell its "
            "chunks apart; rewrite it with a fixed shape"
        )


def _chunk_records(
    file: RandomAccessFile, name: str, dataset: Any, needed: int
) -> array.array[int]:
    """Number in the grid, offset, length and filter mask of each chunk, one after the other."""
    shape, chunk = dataset.shape, dataset.get_create_plist().get_chunk()
    counts = grid(shape, chunk)
    records = array.array("Q")
    bad: list[str] = []

    # An exception would have to pass through the C library: problems are noted instead, and a
    # result other than None ends the iteration.
    def note(info: Any) -> bool | None:
        number = 0
        for start, c, count in zip(info.chunk_offset, chunk, counts, strict=True):
            if start % c or start // c >= count:
                bad.append(f"chunk at {list(info.chunk_offset)} is none of the shape {list(shape)}")
                return True
            number = number * count + start // c
        if info.byte_offset is None or info.byte_offset + info.size > file.size:
            bad.append(
                f"chunk of {info.size} bytes at {info.byte_offset} in a file of {file.size}: "
                "truncated or damaged"
            )
            return True
        records.extend((number, info.byte_offset, info.size, info.filter_mask))
        if len(records) > 4 * needed:
            bad.append(f"more chunks than the {needed} that the shape {list(shape)} has")
            return True
        return None

    dataset.chunk_iter(note)
    if bad:
        raise InputRejected(file.path, bad[0], tensor=name)
    return records
