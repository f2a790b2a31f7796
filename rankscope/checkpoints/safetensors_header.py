"""How safetensors files begin: an 8-byte header length, a JSON header, then the tensors' bytes.

Format: https://huggingface.co/docs/safetensors (Metadata Parsing). The header is read by us
and not by the library, because the library accepts duplicate names (the last one wins, and
one tensor's bytes are read as another's type) and maps the file into memory.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import PurePath
from typing import Any, TypeGuard

from rankscope.checkpoints.flat import FlatCheckpoint, Span, c_strides
from rankscope.checkpoints.strictjson import parse_strict
from rankscope.checkpoints.ties import MAX_NAME, claimed
from rankscope.dtypes import itemsize
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, Skipped, TensorInfo
from rankscope.text import natural

# The library's own limit (MAX_HEADER_SIZE in safetensors' tensor.rs).
MAX_HEADER_BYTES = 100_000_000

# NumPy's own limit (NPY_MAXDIMS since NumPy 2.0).
MAX_AXES = 64

CODE_SHOWN = 40  # characters of an unknown dtype; the longest known has 8

# safetensors' name -> ours. Widths of the others are not ours to know: skipped by name.
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


def plausible(head: bytes) -> bool:
    """Whether a file begins like one of this format: a length, then the brace of the header."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def read_header(file: RandomAccessFile) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the data begins.

    Raises:
        InputRejected: the file is none of this format, or not whole.
    """
    if file.size < 8:
        raise InputRejected(
            file.path, f"{file.size} bytes, expected at least the 8 of a header length"
        )
    length = int.from_bytes(file.read(0, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise InputRejected(
            file.path, f"header of {length} bytes, expected at most {MAX_HEADER_BYTES}"
        )
    if 8 + length > file.size:
        raise InputRejected(
            file.path,
            f"header of {length} bytes in a file of {file.size}: truncated download?",
        )
    header = parse_strict(file.path, file.read(8, length), "header")
    if not isinstance(header, dict):
        raise InputRejected(
            file.path, f"header is a JSON {type(header).__name__}, expected an object"
        )
    return header, 8 + length


def checkpoint_of(file: RandomAccessFile, header: dict[str, Any], data_start: int) -> Checkpoint:
    """An open file as its header describes it, which is checked against the file."""
    tensors: list[TensorInfo] = []
    skipped: list[Skipped] = []
    spans: dict[str, Span] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, code, begin, end = _entry(file.path, name, entry)
        ranges.append((begin, end, name))
        dtype = DTYPES.get(code)
        if dtype is None:
            skipped.append(
                Skipped(
                    name,
                    f"dtype {code[:CODE_SHOWN]} is not known, expected one of {', '.join(DTYPES)}",
                )
            )
            continue
        needed = math.prod(shape) * itemsize(dtype)
        if needed != end - begin:
            raise InputRejected(
                file.path,
                f"shape {list(shape)} of {code} needs {needed} bytes, "
                f"data_offsets span {end - begin}",
                tensor=name,
            )
        tensors.append(TensorInfo(name, shape, dtype))
        spans[name] = Span(data_start + begin, dtype, shape, c_strides(shape))
    _check_cover(file.path, ranges, file.size - data_start)
    listing = Listing(
        str(file.path),
        "safetensors",
        # The library orders by type and then as text; a person counts.
        tuple(sorted(tensors, key=lambda tensor: natural(tensor.name))),
        tuple(skipped),
        files=(text_of(file.path),),
        ties=claimed(header.get("__metadata__"), header),
    )
    return FlatCheckpoint(listing, file, spans)


def _entry(path: PurePath, name: str, entry: Any) -> tuple[tuple[int, ...], str, int, int]:
    """The checked parts of one header entry: shape, dtype code, begin, end."""
    if len(name) > MAX_NAME:
        raise InputRejected(
            path, f"name of {len(name)} characters, expected at most {MAX_NAME}: {_shown(name)}"
        )
    if not isinstance(entry, dict):
        raise InputRejected(path, "header entry is not an object", tensor=name)
    code, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(code, str):
        raise InputRejected(path, f"dtype is {_shown(code)}, expected a name", tensor=name)
    sizes = _shape(path, name, shape)
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputRejected(
            path, f"data_offsets is {_shown(offsets)}, expected [begin, end]", tensor=name
        )
    return sizes, code, offsets[0], offsets[1]


def _shape(path: PurePath, name: str, shape: Any) -> tuple[int, ...]:
    if not _are_sizes(shape):
        reason = f"shape is {_shown(shape)}, expected a list of sizes"
    elif len(shape) > MAX_AXES:
        reason = f"shape has {len(shape)} axes, expected at most {MAX_AXES}"
    elif math.prod(size for size in shape if size) >= 2**63:  # also where another axis is 0
        reason = f"shape {shape} has more elements than 64 bits can count"
    else:
        return tuple(shape)
    raise InputRejected(path, reason, tensor=name)


def _shown(value: Any) -> str:
    """A JSON value in an error message, cut where it is long or deep."""
    return reprlib.repr(value)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of integers that a 64-bit size can hold."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 2**63 for item in value
    )


def _check_cover(path: PurePath, ranges: list[tuple[int, int, str]], length: int) -> None:
    """The tensors must tile the data section: no overlap, no hole, nothing after them."""
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            what = (
                "overlaps the tensor before it" if begin < position else "leaves a hole before it"
            )
            raise InputRejected(
                path,
                f"data_offsets [{begin}, {end}] {what}, expected to begin at {position}",
                tensor=name,
            )
        position = end
    if position != length:
        raise InputRejected(
            path,
            f"tensors end at byte {position} of the data section, which has {length}: "
            "truncated, or trailing bytes",
        )
