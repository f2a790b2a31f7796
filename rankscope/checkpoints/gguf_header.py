"""The header of a GGUF file: metadata, of which little is kept, and where the tensors lie.

Format: docs/gguf.md of ggml. The header is read by us and not by the gguf package, which maps
the file, trusts its counts and makes an array of every token of the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath

from rankscope.checkpoints.gguf_cursor import Cursor
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # the first counted in 32 bits and was in use for a few days of August 2023
START_BYTES = 24  # magic, version, two counts
ENTRY_BYTES = 24  # the least that a tensor's entry takes: its name's length, axes, type, offset

# Models in use have about fifty keys, and a few thousand tensors.
MAX_KEYS = 10_000
MAX_TENSORS = 2**16
MAX_KEY = 2**16 - 1  # bytes: docs/gguf.md
MAX_NAME = 1_000  # as in safetensors; ggml has room for 63 bytes
MAX_AXES = 4  # GGML_MAX_DIMS
MAX_PARTS = 1_000  # the largest published models have some fifty

DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
MAX_ALIGNMENT = 2**21  # a huge page of memory; nothing in use is aligned more coarsely

ALIGNMENT = b"general.alignment"
SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS = b"split.no", b"split.count", b"split.tensors.count"
KEPT = (ALIGNMENT, SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as the header describes it.

    Attributes:
        name: of at most `MAX_NAME` bytes.
        shape: the axis whose elements follow each other last, as NumPy has it.
        code: the number of its type.
        offset: its first byte, from the beginning of the data.
    """

    name: str
    shape: tuple[int, ...]
    code: int
    offset: int


@dataclass(frozen=True, slots=True)
class Split:
    """Which part of a model in several files one is.

    Attributes:
        number: from 0.
        count: how many there are; 1 for a model in one file.
        tensors: how many they hold together; None where it is not said.
    """

    number: int
    count: int
    tensors: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """What a reader needs of a header.

    Attributes:
        big_endian: whether all numbers are, those of the tensors included.
        alignment: a power of two; each tensor begins at a multiple of it.
        split: which part of a model it is.
        entries: the tensors.
        data: the byte of the file that offsets count from.
    """

    big_endian: bool
    alignment: int
    split: Split
    entries: tuple[Entry, ...]
    data: int


def read_header(file: RandomAccessFile) -> Header:
    """The checked header of a file; what it says of the tensors' bytes is not checked yet.

    Raises:
        InputRejected: it is no GGUF, of another version, truncated, or beyond a limit.
    """
    cursor, big_endian = _begin(file)
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        cursor.reject(
            f"header of {tensors} tensors and {keys} keys, "
            f"expected at most {MAX_TENSORS} and {MAX_KEYS}"
        )
    if tensors * ENTRY_BYTES > cursor.left:
        cursor.reject(f"header of {tensors} tensors in a file of {file.size} bytes: truncated?")
    numbers = _metadata(cursor, keys)
    alignment = numbers.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise InputRejected(
            file.path,
            f"general.alignment is {alignment}, expected a power of two up to {MAX_ALIGNMENT}",
        )
    entries = _entries(file.path, cursor, tensors)
    return Header(
        big_endian,
        alignment,
        _split(file.path, numbers),
        entries,
        padded(cursor.position, alignment),
    )


def padded(position: int, alignment: int) -> int:
    """The first multiple of the alignment that is not before a position."""
    return -(-position // alignment) * alignment


def _begin(file: RandomAccessFile) -> tuple[Cursor, bool]:
    """A cursor behind the version, and whether numbers are big-endian."""
    if file.size < START_BYTES:
        raise InputRejected(
            file.path, f"{file.size} bytes, expected at least the {START_BYTES} of a GGUF header"
        )
    start = bytes(file.read(0, 8))
    if not start.startswith(MAGIC):
        raise InputRejected(file.path, f"begins with {start[:4]!r}, expected {MAGIC!r}")
    # Only the version tells the byte order: it is small, so its upper half is zero.
    big_endian = int.from_bytes(start[4:], "little") & 0xFFFF == 0
    version = int.from_bytes(start[4:], "big" if big_endian else "little")
    if version not in VERSIONS:
        advice = ": convert the model anew" if version == 1 else ""
        raise InputRejected(file.path, f"GGUF version {version}, expected 2 or 3{advice}")
    return Cursor(file, ">" if big_endian else "<", len(start)), big_endian


def _metadata(cursor: Cursor, keys: int) -> dict[bytes, int]:
    """The values of `KEPT`; everything else is passed over."""
    seen: set[bytes] = set()
    numbers: dict[bytes, int] = {}
    for _ in range(keys):
        cursor.item = "metadata"
        key = cursor.string(MAX_KEY)
        cursor.item = f"metadata key {_shown(key)}"
        if key in seen:
            cursor.reject("stands there twice")
        seen.add(key)
        if key in KEPT:
            numbers[key] = cursor.integer()
        else:
            cursor.skip_value()
    cursor.item = ""
    return numbers


def _split(path: PurePath, numbers: dict[bytes, int]) -> Split:
    number, count = numbers.get(SPLIT_NUMBER, 0), numbers.get(SPLIT_COUNT, 1)
    if not 0 <= number < max(count, 1) <= MAX_PARTS:
        raise InputRejected(
            path,
            f"split.no is {number} and split.count {count}, "
            f"expected one of at most {MAX_PARTS} parts, counted from 0",
        )
    return Split(number, max(count, 1), numbers.get(SPLIT_TENSORS))


def _entries(path: PurePath, cursor: Cursor, count: int) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for number in range(1, count + 1):
        cursor.item = f"entry {number} of {count} tensors"
        entry = _entry(path, cursor)
        if entry.name in entries:
            raise InputRejected(path, "stands in the header twice", tensor=entry.name)
        entries[entry.name] = entry
    return tuple(entries.values())


def _entry(path: PurePath, cursor: Cursor) -> Entry:
    raw = cursor.string(MAX_NAME)
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        cursor.reject(f"name {_shown(raw)} is no UTF-8")
    axes = cursor.number("I")
    if axes > MAX_AXES:
        raise InputRejected(path, f"has {axes} axes, expected at most {MAX_AXES}", tensor=name)
    # ggml counts the axes from the one whose elements follow each other.
    shape = tuple(cursor.number("Q") for _ in range(axes))[::-1]
    if math.prod(size for size in shape if size) >= 2**63:  # also where another axis is 0
        reason = f"shape {list(shape)} has more elements than 64 bits can count"
        raise InputRejected(path, reason, tensor=name)
    return Entry(name, shape, cursor.number("I"), cursor.number("Q"))


def _shown(raw: bytes) -> str:
    """A name in an error message, cut where it is long."""
    text = raw[:80].decode(errors="replace")
    return repr(text if len(raw) <= 80 else f"{text}...")
