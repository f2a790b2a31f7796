"""Undoing the filters of an HDF5 chunk: deflate, shuffle, fletcher32.

Format: "HDF5 File Format Specification", IV.A.2.l (filter pipeline message), and the filters'
own sources for what is not in it. Done here and not by the library, which reads zeros where a
chunk is not found or the file has been cut, and takes what a damaged file says about sizes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# H5Zpublic.h.
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3

# Words of 16 bits summed at once: 2^14 * 2^14 * 2^16 is far from 2^63.
FLETCHER_BLOCK = 1 << 14


class BadChunk(Exception):
    """A chunk that cannot be what was stored; the text says why."""


def unfilter(data: bytes, filters: tuple[int, ...], mask: int, size: int, itemsize: int) -> bytes:
    """The elements of a chunk, exactly `size` bytes.

    Args:
        data: as stored.
        filters: the pipeline, in the order of writing.
        mask: bit i is set when filter i was not applied to this chunk.
        size: bytes of the whole chunk, also of one that reaches over the edge.
        itemsize: bytes per element.

    Raises:
        BadChunk: a wrong checksum or length, or a broken deflate stream.
    """
    applied = [code for i, code in enumerate(filters) if not mask >> i & 1]
    while applied:
        code = applied.pop()
        if code == FLETCHER32:
            data = _checked(data)
        elif code == SHUFFLE:
            data = _unshuffled(data, itemsize)
        else:
            data = _inflated(data, size + 4 * applied.count(FLETCHER32))
    if len(data) != size:
        raise BadChunk(f"holds {len(data)} bytes, expected {size}")
    return data


def _inflated(data: bytes, size: int) -> bytes:
    """Never more than one byte beyond the size, whatever the stream would unpack to."""
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise BadChunk(f"its deflate stream is broken: {error}") from error
    if len(whole) != size or not stream.eof:
        raise BadChunk(f"does not unpack to {size} bytes")
    return whole


def _unshuffled(data: bytes, itemsize: int) -> bytes:
    """All first bytes, all second bytes, ... back to elements; a remainder was left alone."""
    import numpy as np

    whole = len(data) // itemsize * itemsize
    planes = np.frombuffer(data, np.uint8, whole).reshape(itemsize, -1)
    return planes.T.tobytes() + data[whole:]


def _checked(data: bytes) -> bytes:
    if len(data) < 4:
        raise BadChunk("is shorter than its checksum")
    content, stored = data[:-4], int.from_bytes(data[-4:], "little")
    if fletcher32(content) != stored:
        raise BadChunk("does not match its fletcher32 checksum")
    return content


def fletcher32(data: bytes) -> int:
    """Fletcher's checksum over big-endian 16-bit words, as H5checksum.c computes it.

    With words w_1..w_n the sums are sum w_i and sum (n - i + 1) w_i modulo 65535, where a sum
    that is a multiple of 65535 but not 0 stays 65535.

    >>> hex(fletcher32(b"abcde"))
    '0x4ff029c7'
    """
    import numpy as np

    words: NDArray[np.uint16] = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2")
    weights = np.arange(FLETCHER_BLOCK, 0, -1, dtype=np.int64)
    low = high = 0
    for start in range(0, len(words), FLETCHER_BLOCK):
        block = words[start : start + FLETCHER_BLOCK].astype(np.int64)
        high += len(block) * low + int(block @ weights[FLETCHER_BLOCK - len(block) :])
        low += int(block.sum())
    return _folded(high) << 16 | _folded(low)


def _folded(total: int) -> int:
    return (total - 1) % 0xFFFF + 1 if total else 0
