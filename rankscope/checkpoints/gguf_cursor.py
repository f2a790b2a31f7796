"""Walking a GGUF header: numbers, strings, and values to be passed over.

Nothing is allocated for what a header declares, only for what the file holds, and that within
limits: a value is skipped by its length, never read.
"""

from __future__ import annotations

import struct
from typing import Literal, Never

from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile

# The largest vocabularies in use, 260 000 tokens and twice as many merges, take some 15 MB.
MAX_HEADER_BYTES = 2**27

# Tokenizers' merges written as pairs, by mistake, are an array of arrays of half a million;
# ggml itself refuses to read nested ones.
MAX_NESTING = 4
MAX_ARRAYS = 2**20

CHUNK = 2**18  # bytes read ahead; the header of a file without a vocabulary has fewer

STRING, ARRAY = 8, 9
# enum gguf_type in gguf.h: bytes of the values of a fixed size.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# Those that are integers, by struct's letters.
INTEGERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}


class Cursor:
    """A place in the header of a file that moves forward only.

    Attributes:
        item: what is being read, for messages.
    """

    def __init__(self, file: RandomAccessFile, order: Literal["<", ">"], start: int) -> None:
        self.item = ""
        self._file = file
        self._order = order
        self._lengths = struct.Struct(f"{order}Q")
        self._limit = min(file.size, MAX_HEADER_BYTES)
        self._arrays = 0
        self._data = b""
        self._begin = start  # of the data in the file
        self._at = 0  # in the data

    @property
    def position(self) -> int:
        """The byte of the file that comes next."""
        return self._begin + self._at

    @property
    def left(self) -> int:
        """How many bytes of header there can be from here on."""
        return self._limit - self.position

    def reject(self, reason: str) -> Never:
        """Refuse the file, naming what was being read."""
        raise InputRejected(self._file.path, f"{self.item}: {reason}" if self.item else reason)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._fill(count)
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        self._require(count)
        self._at += count

    def number(self, letter: str) -> int:
        """The next integer, by struct's letter."""
        value: int = struct.unpack(self._order + letter, self.take(struct.calcsize(letter)))[0]
        return value

    def string(self, longest: int) -> bytes:
        """The next string, which may have so many bytes."""
        length = self.number("Q")
        if length > longest:
            self.reject(f"a name of {length} bytes at byte {self.position}, at most {longest}")
        return self.take(length)

    def integer(self) -> int:
        """The next value, which must be an integer, whatever its width."""
        kind = self.number("I")
        if kind not in INTEGERS:
            self.reject(f"a value of type {kind}, expected an integer")
        return self.number(INTEGERS[kind])

    def skip_value(self) -> None:
        """Pass over a value of any type."""
        kind = self.number("I")
        if kind == ARRAY:
            self._skip_array(1)
        else:
            self._skip_all(kind, 1)

    def _skip_array(self, depth: int) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind != ARRAY:
            self._skip_all(kind, count)
            return
        self._arrays += count
        if depth == MAX_NESTING or self._arrays > MAX_ARRAYS:
            self.reject(
                f"arrays nested deeper than {MAX_NESTING}, or more than {MAX_ARRAYS} of them"
            )
        for _ in range(count):
            self._skip_array(depth + 1)

    def _skip_all(self, kind: int, count: int) -> None:
        """Pass over values of one type that is no array."""
        if kind == STRING:
            self._skip_strings(count)
        elif kind in SIZES:
            self.skip(count * SIZES[kind])
        else:
            self.reject(f"a value of type {kind}, expected 0 to 12")

    def _skip_strings(self, count: int) -> None:
        """Pass over strings: the one loop that a large vocabulary is long in."""
        self._require(count * self._lengths.size)
        length_at = self._lengths.unpack_from
        while count:
            self._fill(self._lengths.size)
            data, at = self._data, self._at
            last = len(data) - self._lengths.size
            for _ in range(count):
                if at > last:
                    break
                at += 8 + length_at(data, at)[0]
                count -= 1
            self.skip(at - self._at)

    def _fill(self, count: int) -> None:
        """Have so many bytes at hand."""
        if self._at + count > len(self._data):
            self._require(count)
            begin = self.position
            self._data = bytes(self._file.read(begin, min(max(count, CHUNK), self.left)))
            self._begin, self._at = begin, 0

    def _require(self, count: int) -> None:
        """Refuse a file that cannot hold so many more bytes of header."""
        if count <= self.left:
            return
        if self._limit == MAX_HEADER_BYTES:
            self.reject(f"{count} bytes more in a header, expected at most {MAX_HEADER_BYTES} all")
        self.reject(
            f"{count} bytes at byte {self.position} of a file of {self._file.size}: "
            "truncated download?"
        )
