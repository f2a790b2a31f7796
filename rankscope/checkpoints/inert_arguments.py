"""How the argument of each opcode of a pickle is read from the bytes that follow the opcode.

`pickletools.genops` gives the same; it reads from a stream through four calls an opcode, which
takes longer than all that is made of the opcodes. Opcodes, their bytes and the kinds of their
arguments are those that `pickletools` documents, protocols 0 to 5.
"""

from __future__ import annotations

import codecs
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from functools import partial

# Of the pickle and where the argument begins: the argument, and where the next opcode begins.
Reader = Callable[[bytes, int], tuple[object, int]]


def _uint1(data: bytes, start: int) -> tuple[object, int]:
    return data[start], start + 1


def _number(layout: str) -> Reader:
    """A number in one of `struct`'s layouts."""
    form = struct.Struct(layout)
    unpack, width = form.unpack_from, form.size

    def read(data: bytes, start: int) -> tuple[object, int]:
        return unpack(data, start)[0], start + width

    return read


def _counted(layout: str, make: Callable[[bytes], object]) -> Reader:
    """What is made of some bytes, whose count stands before them."""
    form = struct.Struct(layout)
    unpack, width = form.unpack_from, form.size

    def read(data: bytes, start: int) -> tuple[object, int]:
        first = start + width
        stop = first + unpack(data, start)[0]
        if not first <= stop <= len(data):
            raise ValueError(f"{stop - first} bytes announced, {len(data) - first} left")
        return make(data[first:stop]), stop

    return read


def _line(make: Callable[[bytes], object]) -> Reader:
    """What is made of the bytes up to the end of the line."""

    def read(data: bytes, start: int) -> tuple[object, int]:
        stop = data.index(b"\n", start)
        return make(data[start:stop]), stop + 1

    return read


def _two_lines(data: bytes, start: int) -> tuple[object, int]:
    """Module and name, joined by a space as `pickletools` does; no module's name holds one."""
    middle = data.index(b"\n", start)
    stop = data.index(b"\n", middle + 1)
    return f"{_unescaped(data[start:middle])} {_unescaped(data[middle + 1 : stop])}", stop + 1


# What Python 2's repr() writes. Python warns of unknown escapes, and a warning can only be
# silenced for all threads together.
_ESCAPE = re.compile(rb"""\\(?:[\\'"nrt]|x[0-9a-f]{2})""")


def _unescaped(line: bytes) -> str:
    if b"\\" in line and b"\\" in _ESCAPE.sub(b"", line):
        raise ValueError("text with an escape that no pickler writes")
    return codecs.escape_decode(line)[0].decode("ascii")


def _quoted(line: bytes) -> str:
    quote = line[:1]
    if quote not in (b'"', b"'") or not line.endswith(quote):
        raise ValueError("text without quotes around it")
    return _unescaped(line[1:-1])


def _short_decimal(line: bytes) -> int:
    return line == b"01" if line in (b"00", b"01") else int(line)  # so protocol 0 writes a bool


def _long_decimal(line: bytes) -> int:
    return int(line.removesuffix(b"L"))


_integer = partial(int.from_bytes, byteorder="little", signed=True)
_utf8 = partial(str, encoding="utf-8", errors="surrogatepass")
_latin1 = partial(str, encoding="latin-1")

_BY_KIND: Mapping[str, Reader] = {
    "uint1": _uint1,
    "uint2": _number("<H"),
    "int4": _number("<i"),
    "uint4": _number("<I"),
    "uint8": _number("<Q"),
    "float8": _number(">d"),
    "long1": _counted("<B", _integer),
    "long4": _counted("<i", _integer),
    "string1": _counted("<B", _latin1),
    "string4": _counted("<i", _latin1),
    "bytes1": _counted("<B", bytes),
    "bytes4": _counted("<I", bytes),
    "bytes8": _counted("<Q", bytes),
    "bytearray8": _counted("<Q", bytearray),
    "unicodestring1": _counted("<B", _utf8),
    "unicodestring4": _counted("<I", _utf8),
    "unicodestring8": _counted("<Q", _utf8),
    "unicodestringnl": _line(partial(str, encoding="raw-unicode-escape")),
    "decimalnl_short": _line(_short_decimal),
    "decimalnl_long": _line(_long_decimal),
    "floatnl": _line(float),
    "stringnl": _line(_quoted),
    "stringnl_noescape": _line(_unescaped),
    "stringnl_noescape_pair": _two_lines,
}

CODES: Mapping[str, int] = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
NAMES: Mapping[int, str] = {code: name for name, code in CODES.items()}
# Of the opcodes that have an argument.
READERS: Mapping[int, Reader] = {
    ord(opcode.code): _BY_KIND[opcode.arg.name]
    for opcode in pickletools.opcodes
    if opcode.arg is not None
}
