"""The numeric arrays of a MATLAB 5 file, within bounds.

Format: MathWorks, "MAT-File Format", chapter "Level 5 MAT-File Format". It is read by us because
scipy's reader unpacks whatever a file holds, and some files with one byte changed crash it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# 116 bytes of text, 8 of an offset, the version, and "IM" where the file is little-endian.
HEADER = struct.Struct("<124xH2s")
VERSION = (0x0100, b"IM")
# Type and size of an element. Up to 4 bytes of content may stand in place of the size; the size
# is then in the upper half of the type.
TAG = struct.Struct("<2I")
SMALL = 4
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
# By type: that of numbers in numpy. Types 8, 10 and 11 are reserved.
NUMBERS = {
    1: "<i1",
    2: "<u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}
# By class, from 1; those from double on are numbers.
KINDS = (
    *("", "cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8"),
    *("int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
NUMERIC = frozenset(KINDS[6:])
COMPLEX = 0x0800
# Ours: numpy has at most 64 dimensions, and MATLAB's names at most 63 characters.
MOST_DIMENSIONS = 32
MOST_NAME = 63


class BadMatrix(ValueError):
    """Not what the format says."""


@dataclass(frozen=True, slots=True)
class Array:
    """A variable.

    Attributes:
        name: of the variable.
        kind: its MATLAB class, such as uint8; "complex" stands before that of complex numbers.
        shape: its dimensions.
        values: its entries, the first dimension running fastest, in the type in which they are
            stored, which may be a smaller one; empty where the kind is no real number.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    values: NDArray[np.number]


def read_arrays(data: bytes, most: int) -> dict[str, Array]:
    """The variables by name.

    Args:
        data: the file.
        most: how many bytes its arrays may have unpacked.

    Raises:
        BadMatrix: no such file, damaged, or larger.
    """
    if len(data) < HEADER.size or HEADER.unpack_from(data) != VERSION:
        raise BadMatrix("is not a little-endian MATLAB 5 file")
    arrays: dict[str, Array] = {}
    for matrix in _matrices(memoryview(data), most):
        array = _array(matrix)
        if array.name in arrays:
            raise BadMatrix(f"has {array.name!r} twice")
        arrays[array.name] = array
    return arrays


def _matrices(data: memoryview, most: int) -> Iterator[memoryview]:
    """The content of each variable, unpacked."""
    start, left = HEADER.size, most
    while start < len(data):
        kind, content, start = _element(data, start)
        if kind == COMPRESSED:
            unpacked = _inflated(content, left)
            left -= len(unpacked)
            kind, content, _ = _element(unpacked, 0)
        if kind != MATRIX:
            raise BadMatrix(f"has an element of type {kind}, expected {MATRIX}, an array")
        yield content


def _inflated(content: memoryview, most: int) -> memoryview:
    try:
        unpacked = zlib.decompressobj().decompress(content, most + 1)
    except zlib.error as error:
        raise BadMatrix(f"has a damaged array: {error}") from error
    if len(unpacked) > most:
        raise BadMatrix(f"unpacks to {most} bytes and more, which the original does not")
    return memoryview(unpacked)


def _element(data: memoryview, start: int) -> tuple[int, memoryview, int]:
    """Type and content of the element at a place, and where its content ends."""
    if start + TAG.size > len(data):
        raise BadMatrix(f"is damaged: {len(data)} bytes end within the tag at byte {start}")
    kind, size = TAG.unpack_from(data, start)
    if kind >> 16:  # the short form
        kind, size, start = kind & 0xFFFF, kind >> 16, start + TAG.size - SMALL
        end = start + size if size <= SMALL else len(data) + 1
    else:
        start += TAG.size
        end = start + size
    if end > len(data):
        raise BadMatrix(f"is damaged: {len(data)} bytes hold no element of {size} at byte {start}")
    return kind, data[start:end], end


def _array(matrix: memoryview) -> Array:
    """A variable, from its content: flags, dimensions, name, numbers; each padded to 8 bytes."""
    import numpy as np

    flags, start = _part(matrix, 0, UINT32, 8)
    dimensions, start = _part(matrix, start, INT32, 4 * MOST_DIMENSIONS)
    name, start = _part(matrix, start, INT8, MOST_NAME)
    if len(flags) != 8 or len(dimensions) % 4:
        raise BadMatrix("is damaged: an array without class or dimensions")
    (bits,) = struct.unpack_from("<I", flags)
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    code = bits & 0xFF
    kind = KINDS[code] if code < len(KINDS) else f"class {code}"
    if bits & COMPLEX:
        kind = f"complex {kind}"
    values = np.empty(0, np.uint8)
    if kind in NUMERIC:
        number, content, _ = _element(matrix, start)
        size = np.dtype(NUMBERS[number]).itemsize if number in NUMBERS else 0
        if not size or min(shape, default=0) < 0 or len(content) != size * math.prod(shape):
            raise BadMatrix(f"is damaged: {len(content)} bytes of type {number} for shape {shape}")
        values = np.frombuffer(content, NUMBERS[number])
    return Array(bytes(name).decode("latin-1"), kind, shape, values)


def _part(matrix: memoryview, start: int, kind: int, most: int) -> tuple[memoryview, int]:
    """The content of the part at a place, and where the next one begins."""
    found, content, end = _element(matrix, start)
    if found != kind or len(content) > most:
        raise BadMatrix(
            f"is damaged: {len(content)} bytes of type {found} at byte {start} of an array, "
            f"expected at most {most} of type {kind}"
        )
    return content, end + -end % 8
