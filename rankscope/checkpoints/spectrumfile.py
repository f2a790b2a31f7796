"""Files of singular values: what a training run keeps in place of weights, a thousandth the size.

A safetensors file with one tensor of float64 for each matrix, shape (k,), under the matrix's name.
The only entry of `__metadata__` is JSON that lists every tensor of the model with its shape and
type, and what else a spectrum says of each matrix. Anybody's reader of safetensors can plot it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
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
    Part,
    Route,
    Skipped,
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

KEY = re.compile("([0-9a-f]{64})?")  # of SHA-256, or none

NORMS = ("frobenius_norm", "max_row_norm", "max_column_norm", "resolution")


class SpectraReader:
    """Reads `.spectra.safetensors` files."""

    name = "spectra"
    suffixes: tuple[str, ...] = ()  # safetensors' own ends that of ours too
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """A safetensors file that begins with our metadata."""
        return plausible(head) and bool(BEGINNING.match(head[8:]))

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the whole header; reads no singular value."""
        return opened(path, _open)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of one matrix.

    Attributes:
        name: as `fold` calls it; that of its singular values in the file.
        found: its spectrum, or why there is none.
        key: a digest of its entries, in hexadecimal.
    """

    name: str
    found: Measurement
    key: str


def metadata(
    tensors: Sequence[tuple[TensorInfo, Sequence[Entry]]], skipped: Sequence[Skipped]
) -> dict[str, str]:
    """What a file says beside the singular values.

    Args:
        tensors: of the model, each with its matrices in the order of `fold`.
        skipped: what else there was.
    """
    told = [
        {
            "name": tensor.name,
            "shape": tensor.shape,
            "dtype": tensor.dtype,
            "encoding": tensor.encoding,
            "channels_last": tensor.channels_last,
            "transposed": tensor.transposed,
            "parts": [asdict(part) for part in tensor.parts],
            "matrices": [_told(entry) for entry in entries],
        }
        for tensor, entries in tensors
    ]
    others = [asdict(one) for one in skipped]
    return {SCHEMA: json.dumps({"tensors": told, "skipped": others})}


def _told(entry: Entry) -> dict[str, object]:
    found = entry.found
    head = {"name": entry.name, "key": entry.key}
    if not isinstance(found, Spectrum):
        return {**head, "status": found.status, "reason": found.reason}
    norms = {name: getattr(found, name) for name in NORMS}
    return {**head, "status": "ok", "route": found.route, "zeros": found.zeros, **norms}


class _SpectraCheckpoint(WrappedCheckpoint):
    """Singular values can be read, weights cannot."""

    def __init__(self, inner: Checkpoint, listing: Listing) -> None:
        super().__init__(inner, listing)
        self._known = set(_sigmas(listing.tensors))

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
    used = [spec.tensor for spec in _sigmas(tensors)]
    if len(set(used)) != len(used):
        raise InputRejected(file.path, "a matrix stands twice in the metadata, expected once")
    left = sigma.keys() - set(used)
    if left:
        reason = "singular values of what the metadata does not list"
        raise InputRejected(file.path, reason, tensor=min(left))
    skipped = tuple(map(_skipped, told.objects("skipped")))
    listing = replace(stored.listing, format=SpectraReader.name, tensors=tensors, skipped=skipped)
    return _SpectraCheckpoint(stored, listing)


def _sigmas(tensors: Iterable[TensorInfo]) -> Iterator[MatrixSpec]:
    """Where the singular values of all matrices lie."""
    for tensor in tensors:
        yield from (one.sigma for one in tensor.solved if one.sigma is not None)


def _tensor(path: PurePath, told: JsonObject, sigma: Mapping[str, TensorInfo]) -> TensorInfo:
    name, dtype = (told.needed(key, told.text(key)) for key in ("name", "dtype"))
    shape = tuple(told.array("shape"))
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise told.wrong("shape", "a list of sizes")
    solved = tuple(_solved(path, one, sigma) for one in told.objects("matrices"))
    return TensorInfo(
        name,
        shape,
        dtype,
        channels_last=told.flag("channels_last", False),
        transposed=told.flag("transposed", False),
        parts=tuple(map(_part, told.objects("parts"))),
        encoding=told.text("encoding") or "",
        solved=solved,
    )


def _skipped(told: JsonObject) -> Skipped:
    name, reason = (told.needed(key, told.text(key)) for key in ("name", "reason"))
    return Skipped(name, reason)


def _part(told: JsonObject) -> Part:
    numbers = ("groups", "period", "start", "stop")
    groups, period, start, stop = (told.needed(key, told.integer(key, 0)) for key in numbers)
    if not start < stop <= period or groups < 1:
        raise told.wrong("stop", f"rows of each {period}")
    return Part(told.needed("name", told.text("name")), groups, period, start, stop)


def _solved(path: PurePath, told: JsonObject, stored: Mapping[str, TensorInfo]) -> Solved:
    name, key = told.needed("name", told.text("name")), told.text("key") or ""
    if not KEY.fullmatch(key):
        raise told.wrong("key", "64 hexadecimal digits")
    status: Status = _one_of(told, "status", get_args(Status))
    if status != "ok":
        return Solved(None, key, status, told.text("reason") or "")
    route: Route = _one_of(told, "route", get_args(Route))
    found = stored.get(name)
    if found is None:
        raise InputRejected(path, "the metadata lists it, and no singular values", tensor=name)
    if found.dtype != "float64" or len(found.shape) != 1:
        reason = f"singular values {list(found.shape)} of {found.dtype}"
        raise InputRejected(path, f"{reason}, expected one axis of float64", tensor=name)
    zeros = told.needed("zeros", told.integer("zeros", 0))
    if zeros > found.shape[0]:
        raise told.wrong("zeros", f"at most {found.shape[0]}")
    sigma = MatrixSpec(name, name, (), 0, (1, found.shape[0]), "float64", "linear")
    norms = [told.needed(norm, told.number(norm, 0.0)) for norm in NORMS]
    frobenius, row, column, resolution = norms
    return Solved(sigma, key, status, "", frobenius, row, column, resolution, route, zeros)


def _one_of(told: JsonObject, key: str, choices: Sequence[str]) -> Any:
    if told.text(key) not in choices:
        raise told.wrong(key, f"one of {', '.join(choices)}")
    return told.value[key]
