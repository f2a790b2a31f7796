"""Files of singular values: what a training run keeps in place of weights, a thousandth the size.

A safetensors file with one tensor of float64 for each tensor of matrices, shape (..., k), under
the name of the weights. The only entry of `__metadata__` is JSON that lists every tensor of the
model with its shape and type, and what else a spectrum says of each matrix. Anybody's reader of
safetensors can plot it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rankscope.checkpoints.safetensors_header import checkpoint_of, plausible, read_header
from rankscope.checkpoints.strictjson import parse_strict
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.jsonobject import JsonObject
from rankscope.records import (
    Checkpoint,
    Listing,
    MatrixSpec,
    Measurement,
    Route,
    Solved,
    Spectrum,
    Status,
    TensorInfo,
)

if TYPE_CHECKING:
    from rankscope.records import Stored

SCHEMA = "rankscope/spectra/1"
SUFFIX = ".spectra.safetensors"

# The library writes `__metadata__` first; a tensor of this name makes no such file.
BEGINNING = re.compile(rb'\s*\{\s*"__metadata__"\s*:\s*\{\s*"' + SCHEMA.encode() + rb'"')

NORMS = ("frobenius_norm", "max_row_norm", "max_column_norm", "resolution")


class SpectraReader:
    """Reads `.spectra.safetensors` files."""

    name = "spectra"
    suffixes: tuple[str, ...] = ()  # safetensors' own ends that of ours too
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """A safetensors file that begins with our metadata."""
        return plausible(head) and bool(BEGINNING.match(head[8:]))

    def open(self, path: Path) -> Checkpoint:
        """Open and check the whole header; reads no singular value."""
        return opened(path, _open)


def metadata(tensors: Sequence[tuple[TensorInfo, Sequence[Measurement]]]) -> dict[str, str]:
    """What a file says beside the singular values.

    Args:
        tensors: of the model, each with what became of its matrices.
    """
    told = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "matrices": [_told(found) for found in measurements],
        }
        for tensor, measurements in tensors
    ]
    return {SCHEMA: json.dumps({"tensors": told})}


def _told(found: Measurement) -> dict[str, object]:
    if not isinstance(found, Spectrum):
        return {"status": found.status, "reason": found.reason}
    norms = {name: getattr(found, name) for name in NORMS}
    return {"status": "ok", "route": found.route, "zeros": found.zeros, **norms}


class _SpectraCheckpoint(WrappedCheckpoint):
    """Singular values can be read, weights cannot."""

    def __init__(self, inner: Checkpoint, listing: Listing) -> None:
        super().__init__(inner, listing)
        self._known = {one.sigma for tensor in listing.tensors for one in tensor.solved}

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of singular values as a matrix of one row; see `Checkpoint.read`."""
        if spec not in self._known:
            raise InputRejected(self.listing.path, "no singular values are saved", tensor=spec.name)
        return super().read(spec, rows, columns)


def _open(file: RandomAccessFile) -> Checkpoint:
    header, start = read_header(file)
    beside = JsonObject(file.path, "__metadata__", header.get("__metadata__"))
    text = beside.needed(SCHEMA, beside.text(SCHEMA))
    told = JsonObject(file.path, SCHEMA, parse_strict(file.path, text.encode(), "metadata"))
    stored = checkpoint_of(file, header, start)
    sigma = {tensor.name: tensor for tensor in stored.listing.tensors}
    tensors = tuple(_tensor(file.path, one, sigma) for one in told.objects("tensors"))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InputRejected(file.path, "a tensor stands twice in the metadata, expected once")
    left = sigma.keys() - {tensor.name for tensor in tensors if tensor.solved}
    if left:
        reason = "singular values of what the metadata does not list"
        raise InputRejected(file.path, reason, tensor=min(left))
    listing = replace(stored.listing, format=SpectraReader.name, tensors=tensors)
    return _SpectraCheckpoint(stored, listing)


def _tensor(path: Path, told: JsonObject, sigma: Mapping[str, TensorInfo]) -> TensorInfo:
    name, dtype = (told.needed(key, told.text(key)) for key in ("name", "dtype"))
    shape = tuple(told.array("shape"))
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise told.wrong("shape", "a list of sizes")
    matrices = told.objects("matrices")
    if not matrices:
        return TensorInfo(name, shape, dtype)
    stored = sigma.get(name)
    if stored is None:
        raise InputRejected(path, "the metadata lists it, and no singular values", tensor=name)
    # Of a stack one for each of the first axis; else one of all axes.
    index = stored.shape[:-1]
    rest = shape[len(index) :]
    most = min(rest[0], math.prod(rest[1:])) if len(rest) > 1 else 0
    expected = (*shape[: len(index)], most)
    if stored.dtype != "float64" or len(index) > 1 or len(rest) < 2 or stored.shape != expected:
        reason = f"singular values {list(stored.shape)} of {stored.dtype} for {list(shape)}"
        raise InputRejected(path, f"{reason}, expected {list(expected)} of float64", tensor=name)
    if len(matrices) != math.prod(index):
        raise told.wrong("matrices", f"a list of {math.prod(index)}")
    solved = tuple(
        _solved(
            one, MatrixSpec(name, name, (i,) if index else (), 0, (1, most), "float64", "linear")
        )
        for i, one in enumerate(matrices)
    )
    return TensorInfo(name, shape, dtype, solved=solved)


def _solved(told: JsonObject, sigma: MatrixSpec) -> Solved:
    status: Status = _one_of(told, "status", get_args(Status))
    if status != "ok":
        return Solved(sigma, status, told.text("reason") or "")
    route: Route = _one_of(told, "route", get_args(Route))
    zeros = told.needed("zeros", told.integer("zeros", 0))
    if zeros > sigma.shape[1]:
        raise told.wrong("zeros", f"at most {sigma.shape[1]}")
    frobenius, row, column, resolution = (told.needed(k, told.number(k, 0.0)) for k in NORMS)
    return Solved(sigma, status, "", frobenius, row, column, resolution, route, zeros)


def _one_of(told: JsonObject, key: str, choices: Sequence[str]) -> Any:
    if told.text(key) not in choices:
        raise told.wrong(key, f"one of {', '.join(choices)}")
    return told.value[key]
