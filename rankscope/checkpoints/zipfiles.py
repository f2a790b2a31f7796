"""Where the entries of a zip archive lie in the file, so that stored ones are read in place.

Format: PKWARE APPNOTE.TXT 6.3.10, section 4.3 (layout) and 4.5.3 (zip64). The directory is
read by us and not by `zipfile`, which accepts what two programs would read differently:
names that stand twice or hold a NUL, entries that overlap, bytes before or after the archive.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile

# Ours: the largest released models have some 100 000 tensors over all their files, and an
# entry costs 46 bytes plus its name and extra field.
MAX_ENTRIES = 250_000
MAX_DIRECTORY_BYTES = 64_000_000

# APPNOTE 4.3.16, 4.3.15, 4.3.14, 4.3.12 and 4.3.7: little-endian, without padding.
END = struct.Struct("<4s4H2IH")
LOCATOR64 = struct.Struct("<4sIQI")
END64 = struct.Struct("<4sQ2H2I4Q")
CENTRAL = struct.Struct("<4s6H3I5H2I")
LOCAL = struct.Struct("<4s5H3I2H")
MAX_COMMENT = 0xFFFF
# Between an entry's own header and its content: NumPy writes 20 bytes (zip64), PyTorch pads its
# content to 64. More than this is read where it is.
EXTRA_BYTES = 64

# APPNOTE 4.4.5; only those that writers of checkpoints could produce have a name here.
METHODS = {0: "stored", 8: "deflate", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd"}
# APPNOTE 4.4.4: encrypted, strong encryption, masked header.
ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
UTF8 = 1 << 11


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive.

    Attributes:
        offset: where its data begin in the file.
        size: bytes of its content; in the file too when it is stored.
        method: how it is compressed, "stored" when it is not.
        packed: bytes in the file.
        crc: CRC-32 of its content, as the archive states it.
    """

    offset: int
    size: int
    method: str
    packed: int
    crc: int

    @property
    def stored(self) -> bool:
        """Whether the content can be read in place."""
        return self.method == "stored"


class _Directory(NamedTuple):
    """What the end record says: where the central directory lies and how long it is."""

    offset: int
    size: int
    entries: int


class _Central(NamedTuple):
    """One record of the central directory; `offset` is that of the local header."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def zip_entries(file: RandomAccessFile, wanted: int = 0) -> dict[str, Entry]:
    """Every entry of a zip archive by name, in the directory's order; reads no content.

    Compressed entries are listed too: the caller decides whether it needs them.

    Args:
        file: the archive.
        wanted: bytes of every entry's content that are read next.

    Raises:
        InputRejected: an entry is encrypted, spread over disks, named twice, overlapping or outside
            the file; or the directory is larger than any checkpoint's.
    """
    directory = _find_directory(file)
    records = _read_directory(file, directory)
    file.prepare(_beginnings(records, directory.offset, wanted))
    entries: dict[str, Entry] = {}
    ranges: list[tuple[int, int, str]] = []
    for record in records:
        if record.name in entries:
            raise InputRejected(
                file.path, f"zip entry stands twice, expected once: {record.name!r}"
            )
        start = _data_start(file, record, directory.offset)
        ranges.append((record.offset, start + record.packed, record.name))
        method = METHODS.get(record.method, f"method {record.method}")
        entries[record.name] = Entry(start, record.size, method, record.packed, record.crc)
    ranges.sort()
    for (_, end, first), (begin, _, second) in itertools.pairwise(ranges):
        if begin < end:
            raise InputRejected(file.path, f"zip entries overlap: {first!r} and {second!r}")
    return entries


def _find_directory(file: RandomAccessFile) -> _Directory:
    """The central directory that the end record, which must end the file, points to."""
    tail_start = max(0, file.size - END.size - MAX_COMMENT)
    tail = bytes(file.read(tail_start, file.size - tail_start))
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        raise InputRejected(file.path, "zip archive without an end record: truncated?")
    _, disk, directory_disk, here, count, size, offset, comment = END.unpack_from(tail, at)
    if at + END.size + comment != len(tail):
        raise InputRejected(
            file.path,
            f"zip end record and its comment of {comment} bytes do not end the file: "
            "truncated, or trailing bytes",
        )
    position = tail_start + at
    if position >= LOCATOR64.size:
        locator = bytes(file.read(position - LOCATOR64.size, LOCATOR64.size))
        if locator.startswith(b"PK\x06\x07"):
            return _find_directory64(file, locator, position - LOCATOR64.size)
    return _checked(file, _Directory(offset, size, count), position, (disk, directory_disk, here))


def _find_directory64(file: RandomAccessFile, locator: bytes, position: int) -> _Directory:
    _, _, offset, disks = LOCATOR64.unpack(locator)
    if disks > 1 or offset + END64.size > position:
        raise InputRejected(file.path, "zip64 locator points outside the file or to another disk")
    end = END64.unpack(file.read(offset, END64.size))
    magic, length, _, _, disk, directory_disk, here, count, size, start = end
    # 4.3.14.1: the length leaves out itself and the magic.
    if magic != b"PK\x06\x06" or offset + 12 + length != position:
        raise InputRejected(file.path, "zip64 end record is not where its locator says")
    return _checked(file, _Directory(start, size, count), offset, (disk, directory_disk, here))


def _checked(
    file: RandomAccessFile, found: _Directory, end: int, disks: tuple[int, int, int]
) -> _Directory:
    """The directory, when it ends where the end record begins and has a bearable size."""
    if disks != (0, 0, found.entries):
        raise InputRejected(file.path, "zip archive is spread over several disks, expected one")
    if found.offset + found.size != end:
        raise InputRejected(
            file.path,
            f"zip directory of {found.size} bytes at {found.offset} does not reach its end "
            f"record at {end}: truncated, or bytes were put before the archive",
        )
    if found.size > MAX_DIRECTORY_BYTES or found.entries > MAX_ENTRIES:
        raise InputRejected(
            file.path,
            f"zip directory of {found.entries} entries in {found.size} bytes, expected at most "
            f"{MAX_ENTRIES} in {MAX_DIRECTORY_BYTES}",
        )
    return found


def _read_directory(file: RandomAccessFile, directory: _Directory) -> list[_Central]:
    data = bytes(file.read(directory.offset, directory.size))
    records: list[_Central] = []
    position = 0
    try:
        for _ in range(directory.entries):
            record, position = _central(file, data, position)
            records.append(record)
    except struct.error as error:
        raise InputRejected(file.path, "zip directory ends within an entry") from error
    if position != len(data):
        raise InputRejected(
            file.path,
            f"zip directory has {len(data)} bytes, its {directory.entries} entries {position}",
        )
    return records


def _central(file: RandomAccessFile, data: bytes, position: int) -> tuple[_Central, int]:
    """One directory record and the position of the next. Raises struct.error past the end."""
    (magic, _, _, flags, method, _, _, crc, packed, size, *lengths, disk, _, _, offset) = (
        CENTRAL.unpack_from(data, position)
    )
    start = position + CENTRAL.size
    end = start + sum(lengths)
    if magic != b"PK\x01\x02" or end > len(data):
        raise InputRejected(file.path, "zip directory is damaged")
    raw_name = data[start : start + lengths[0]]
    name = _name(file, raw_name, flags)
    extra = data[start + lengths[0] : start + lengths[0] + lengths[1]]
    size, packed, offset, disk = _widened(file, name, extra, (size, packed, offset, disk))
    if flags & ENCRYPTED:
        raise InputRejected(file.path, f"zip entry is encrypted: {name!r}")
    if disk != 0:
        raise InputRejected(file.path, f"zip entry lies on disk {disk}: {name!r}")
    if method == 0 and packed != size:
        raise InputRejected(
            file.path, f"stored zip entry of {size} bytes takes {packed} in the file: {name!r}"
        )
    return _Central(raw_name, name, flags, method, crc, packed, size, offset), end


def _name(file: RandomAccessFile, raw: bytes, flags: int) -> str:
    try:
        # APPNOTE appendix D: UTF-8 when the flag says so, else IBM code page 437.
        name = raw.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise InputRejected(file.path, f"zip entry name is not UTF-8: {raw[:80]!r}") from error
    if not name or "\0" in name:
        raise InputRejected(file.path, f"zip entry name is empty or holds a NUL: {name[:80]!r}")
    return name


def _widened(
    file: RandomAccessFile, name: str, extra: bytes, fields: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Size, packed size, offset, disk, with those that did not fit taken from the zip64 field."""
    limits = (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF)
    if all(field != limit for field, limit in zip(fields, limits, strict=True)):
        return fields
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, position)
        if tag == 1:
            body = extra[position + 4 : position + 4 + length]
            break
        position += 4 + length
    else:
        return fields  # a value that happens to be the limit itself, or the checks to come fail
    # 4.5.3: only the fields at their limit are there, in this order.
    layout = "<" + "".join(
        code for code, field, limit in zip("QQQI", fields, limits, strict=True) if field == limit
    )
    if len(body) < struct.calcsize(layout):
        raise InputRejected(file.path, f"zip64 field is too short: {name!r}")
    wide = iter(struct.unpack_from(layout, body))
    size, packed, offset, disk = (
        next(wide) if field == limit else field for field, limit in zip(fields, limits, strict=True)
    )
    return size, packed, offset, disk


def _beginnings(records: Sequence[_Central], end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the entries' own headers stand, and what is wanted behind; all before `end`."""
    for record in records:
        length = LOCAL.size + len(record.raw_name)
        if wanted:
            length += EXTRA_BYTES + min(wanted, record.packed)
        if record.offset < end:
            yield record.offset, min(record.offset + length, end)


def _data_start(file: RandomAccessFile, record: _Central, directory_offset: int) -> int:
    """Where an entry's data begin, from its local header, which must agree with the directory."""
    length = LOCAL.size + len(record.raw_name)
    if record.offset + length > directory_offset:
        raise InputRejected(file.path, f"zip entry lies outside the file: {record.name!r}")
    header = bytes(file.read(record.offset, length))
    magic, _, flags, method, _, _, _, _, _, name_length, extra_length = LOCAL.unpack_from(header)
    if (
        magic != b"PK\x03\x04"
        or header[LOCAL.size :] != record.raw_name
        or name_length != len(record.raw_name)
        or method != record.method
        or flags & ENCRYPTED
    ):
        raise InputRejected(
            file.path,
            f"zip entry's own header does not agree with the directory: {record.name!r}",
        )
    start = record.offset + length + int(extra_length)
    if start + record.packed > directory_offset:
        raise InputRejected(
            file.path,
            f"zip entry of {record.packed} bytes at {start} reaches past the entries' end "
            f"at {directory_offset}: {record.name!r}",
        )
    return start
