"""The header of a NumPy array file: magic, version, a Python literal.

Format: numpy/lib/format.py (NEP 1). Parsed by us as inert data: NumPy would make the type
that the header describes, whatever it is, and knows none of ml_dtypes'.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from typing import Any, NamedTuple

from rankscope.checkpoints.flat import Span, c_strides
from rankscope.dtypes import FLOATS, OTHER_SIZES, itemsize

MAGIC = b"\x93NUMPY"

# numpy.lib.format's default for max_header_size: a longer literal may take long to parse.
MAX_LITERAL = 10_000
# Magic, version and the length before the literal.
PREFIX_BYTES = 12 + MAX_LITERAL

# Axes of an array, NPY_MAXDIMS of NumPy 2.
MAX_AXES = 64

# Byte order, kind, bytes per element: numpy.dtype.str.
DESCRIPTION = re.compile(r"([<>|=]?)([a-zA-Z])(\d{0,9})")
KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
OTHER_KINDS = {
    "V": "raw bytes",
    "S": "byte strings",
    "a": "byte strings",
    "U": "strings",
    "M": "dates",
    "m": "time differences",
}


class BadArray(Exception):
    """A header that is damaged or contradicts the bytes behind it; the text says why."""


class NoNumbers(Exception):
    """An array of something else than numbers that are known; the text says of what."""


class ObjectArray(NoNumbers):
    """An array of pickled Python objects."""


class Described(NamedTuple):
    """What a header says, and where the elements begin."""

    description: Any
    fortran: bool
    shape: tuple[int, ...]
    start: int


def array_span(prefix: bytes, size: int) -> Span:
    """Where the elements lie in an array file of `size` bytes that begins with `prefix`.

    Offsets count from the start of the array file. The prefix has `PREFIX_BYTES`, or all.

    Raises:
        BadArray: no array file, or its shape does not need just the bytes that are there.
        NoNumbers: an array that is not read.
    """
    found = _describe(prefix)
    dtype, big_endian = _element_type(found.description)
    needed = math.prod(found.shape) * itemsize(dtype)
    if needed != size - found.start:
        raise BadArray(
            f"shape {list(found.shape)} of {dtype} needs {needed} bytes, "
            f"{size - found.start} follow the header: truncated, or trailing bytes"
        )
    strides = c_strides(found.shape[::-1])[::-1] if found.fortran else c_strides(found.shape)
    return Span(found.start, dtype, found.shape, strides, big_endian)


def _describe(prefix: bytes) -> Described:
    if not prefix.startswith(MAGIC) or len(prefix) < 12:
        raise BadArray(f"begins with {prefix[:8]!r}, expected a NumPy array")
    version = prefix[6]
    if version not in (1, 2, 3):
        raise BadArray(f"NumPy format version {version}, expected 1, 2 or 3")
    begin = 10 if version == 1 else 12
    length = int.from_bytes(prefix[8:begin], "little")
    if length > MAX_LITERAL:
        raise BadArray(f"header of {length} bytes, expected at most {MAX_LITERAL}")
    if len(prefix) < begin + length:
        raise BadArray(f"ends within its header of {length} bytes: truncated")
    literal = _literal(prefix[begin : begin + length], "utf-8" if version == 3 else "latin-1")
    if not isinstance(literal, dict) or literal.keys() != {"descr", "fortran_order", "shape"}:
        raise BadArray("header is no dictionary of descr, fortran_order and shape")
    shape, fortran = literal["shape"], literal["fortran_order"]
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not sizes or len(shape) > MAX_AXES:
        raise BadArray(f"shape is {str(shape)[:80]}, expected a tuple of at most {MAX_AXES} sizes")
    if not isinstance(fortran, bool):
        raise BadArray(f"fortran_order is {str(fortran)[:80]}, expected True or False")
    return Described(literal["descr"], fortran, shape, begin + length)


def _literal(text: bytes, encoding: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, on strange literals
            return ast.literal_eval(text.decode(encoding).strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        # The last two are what the compiler says of deep nesting.
        raise BadArray(f"header is no Python literal: {type(error).__name__}") from error


def _element_type(description: Any) -> tuple[str, bool]:
    """NumPy's name of the type, and whether its bytes are swapped."""
    if isinstance(description, list):
        raise NoNumbers("structured records: not numbers")
    match = DESCRIPTION.fullmatch(description) if isinstance(description, str) else None
    if match is None:
        raise NoNumbers(f"type {str(description)[:80]!r} is not known")
    order, kind, size = match.groups()
    if kind == "O":
        raise ObjectArray("array of Python objects: they are pickled, which is never undone")
    if (kind, size) in (("V", "2"), ("V", "1"), ("f", "1")):
        # bfloat16 is <V2, float8_e5m2 <f1, all other float8 <V1.
        raise NoNumbers(
            f"type {description!r}: NumPy keeps no bfloat16 or float8; "
            "save such arrays as safetensors or as float32"
        )
    name = "bool" if (kind, size) == ("b", "1") else f"{KINDS.get(kind, '?')}{8 * int(size or 0)}"
    if name not in FLOATS and name not in OTHER_SIZES:
        what = OTHER_KINDS.get(kind, "a type that is not known")
        raise NoNumbers(f"type {description!r}: {what}, not numbers that are read")
    return name, order == ">"
