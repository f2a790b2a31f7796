"""GGUF files for the tests: by the package that owns the format, and made by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFEndian, GGUFWriter
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray

from rankscope.checkpoints import open_checkpoint

Bytes = NDArray[np.uint8]
Tensor = tuple[Any, Kind | None]

STRING, ARRAY = 8, 9


def write(
    path: Path, tensors: Mapping[str, Tensor], endian: GGUFEndian = GGUFEndian.LITTLE
) -> Path:
    """A file with a little metadata; a tensor is an array and its type where NumPy has none."""
    writer = GGUFWriter(path, "llama", endianess=endian)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "", "hello"])
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    return finished(writer, path)


def finished(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(kind: Kind, shape: Sequence[int], seed: int = 0) -> Bytes:
    """Random blocks of a type, whose numbers are finite and of moderate size."""
    block, size = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (2000, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        largest = np.abs(dequantize(pool, kind)).max(axis=1)
    pool = pool[(largest < 1e4) & (largest > 1e-4)]
    assert len(pool) > 100
    count = int(np.prod(shape)) // block
    picked: Bytes = pool[rng.integers(0, len(pool), count)]
    return picked.reshape(*shape[:-1], shape[-1] // block * size)


def whole(path: Path, name: str) -> NDArray[Any]:
    """Everything of one matrix that is a whole tensor, or one of a stack: `name[i]`."""
    from rankscope.matrices import Selection, select
    from rankscope.storedmatrix import StoredMatrix

    with open_checkpoint(path) as checkpoint:
        specs, _ = select(checkpoint.listing, Selection())
        (spec,) = (spec for spec in specs if spec.name == name)
        rows, columns = spec.shape
        return np.asarray(StoredMatrix(checkpoint, spec).read(slice(0, rows), slice(0, columns)))


def text(value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes, order: str = "<") -> bytes:
    """One key of the metadata."""
    return text(name, order) + struct.pack(f"{order}I", kind) + value


def strings(values: Sequence[bytes]) -> bytes:
    """The value of an array of strings."""
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def entry(
    name: bytes = b"w", dims: Sequence[int] = (2, 2), code: int = 0, offset: int = 0
) -> bytes:
    """One tensor's entry; `dims` in ggml's order."""
    sizes = b"".join(struct.pack("<Q", dim) for dim in dims)
    return text(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", code, offset)


def by_hand(
    path: Path,
    entries: Sequence[bytes] = (),
    keys: Sequence[bytes] = (),
    data: bytes = b"",
    claims: Mapping[str, int] | None = None,
) -> Path:
    """A file of these parts, padded as they should be.

    Args:
        path: where.
        entries: of tensors.
        keys: of the metadata.
        data: what stands behind the padding.
        claims: `tensors`, `keys` or `version` that the header claims instead.
    """
    told = {"version": 3, "tensors": len(entries), "keys": len(keys), **(claims or {})}
    header = b"GGUF" + struct.pack("<IQQ", told["version"], told["tensors"], told["keys"])
    header += b"".join(keys) + b"".join(entries)
    path.write_bytes(header + bytes(-len(header) % 32) + data)
    return path
