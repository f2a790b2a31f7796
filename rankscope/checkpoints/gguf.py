"""GGUF files, of llama.cpp and its kin: a header, then tensors, plain or in blocks of codes.

The header is read by us; blocks are decoded by the gguf package, which knows the tables that
their codes stand for. docs/formats.md says what is left out.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from rankscope.checkpoints.flat import FlatCheckpoint, Span, c_strides
from rankscope.checkpoints.ggml_types import SCALED_APART, TYPES, GgmlType
from rankscope.checkpoints.gguf_blocks import INSTALL, PACKAGE, Packed, read_packed
from rankscope.checkpoints.gguf_header import MAGIC, Entry, Header, Split, padded, read_header
from rankscope.checkpoints.gguf_split import assembled, names_in
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped, TensorInfo

if TYPE_CHECKING:
    from rankscope.records import Stored

DECODED_TO = "float32"


class GgufReader:
    """Reads `.gguf` files; those of a model in several parts together."""

    name = "gguf"
    suffixes = (".gguf",)
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """The magic bytes."""
        return head.startswith(MAGIC)

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the headers; reads no tensor."""
        return _without_halves(assembled(_open_part(path), _open_part))


class GgufPart(FlatCheckpoint):
    """A `Checkpoint` over one file: plain tensors as they are, packed ones decoded."""

    def __init__(
        self,
        listing: Listing,
        file: RandomAccessFile,
        split: Split,
        spans: Mapping[str, Span],
        packed: Mapping[str, Packed],
    ) -> None:
        super().__init__(listing, file, spans)
        self._split = split
        self._packed = packed

    @property
    def split(self) -> Split:
        """Which part of a model it is."""
        return self._split

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        packed = self._packed.get(spec.tensor)
        if packed is None:
            return super().read(spec, rows, columns)
        return read_packed(self._file, packed, spec, rows, columns)


def _open_part(path: PurePath) -> GgufPart:
    return opened(path, lambda file: _part(file, read_header(file)))


def _part(file: RandomAccessFile, header: Header) -> GgufPart:
    """The listing of a file whose header is sound, its tensors' places checked."""
    _check_cover(file, header)
    tensors: list[TensorInfo] = []
    skipped: list[Skipped] = []
    spans: dict[str, Span] = {}
    packed: dict[str, Packed] = {}
    absent = importlib.util.find_spec(PACKAGE) is None
    for entry in header.entries:
        name, shape, offset = entry.name, entry.shape, header.data + entry.offset
        kind = TYPES.get(entry.code)
        reason = _why_not_read(entry, kind, header, absent=absent)
        if kind is None or reason:
            skipped.append(Skipped(name, reason, "weight" if len(shape) > 1 else "vector"))
        elif kind.dtype:
            tensors.append(TensorInfo(name, shape, kind.dtype))
            spans[name] = Span(offset, kind.dtype, shape, c_strides(shape), header.big_endian)
        else:
            tensors.append(TensorInfo(name, shape, DECODED_TO, encoding=kind.name))
            packed[name] = Packed(offset, kind, shape)
    hints = _places_of_package() if absent else ()
    listing = Listing(
        str(file.path),
        GgufReader.name,
        tuple(tensors),
        tuple(skipped),
        files=(text_of(file.path),),
        hints=hints,
    )
    return GgufPart(listing, file, header.split, spans, packed)


def _why_not_read(entry: Entry, kind: GgmlType | None, header: Header, *, absent: bool) -> str:
    """The reason why a tensor cannot be read as numbers; empty when it can."""
    if kind is None:
        return f"ggml type {entry.code} is not known"
    if kind.dtype:
        return ""
    if not kind.decoded:
        return f"{kind.name}: the gguf package does not decode it"
    if header.big_endian != (sys.byteorder == "big"):  # its scales are read in our own order
        order = "big" if header.big_endian else "little"
        return f"{kind.name} in {order}-endian order: convert it with gguf-convert-endian"
    if absent:
        return f"{kind.name} is decoded by the gguf package: {INSTALL}"
    return ""


def _places_of_package() -> tuple[str, ...]:
    """Where the package will be once it is installed: what is listed without it changes then."""
    folders = (os.path.abspath(entry) for entry in sys.path)  # "" is where we are
    existing = dict.fromkeys(folder for folder in folders if os.path.isdir(folder))
    return tuple(os.path.join(folder, PACKAGE, "__init__.py") for folder in existing)


def _check_cover(file: RandomAccessFile, header: Header) -> None:
    """The tensors must tile the data but for their padding, as far as their sizes are known."""
    length = max(0, file.size - header.data)
    position, known = 0, True
    for begin, end, sized, name in sorted(_ranges(file.path, header, length)):
        if begin % header.alignment:
            reason = f"begins at byte {begin} of the data, no multiple of {header.alignment}"
        elif begin < position:
            reason = f"begins at byte {begin} of the data, within the tensor before it"
        elif known and begin > padded(position, header.alignment):
            reason = f"begins at byte {begin} of the data, leaving a hole behind byte {position}"
        else:
            position, known = end, sized
            continue
        raise InputRejected(file.path, reason, tensor=name)
    if known and length > padded(position, header.alignment):
        raise InputRejected(
            file.path,
            f"tensors end at byte {position} of the data, which has {length}: trailing bytes",
        )


def _ranges(path: PurePath, header: Header, length: int) -> Iterator[tuple[int, int, bool, str]]:
    """First byte and end of each tensor, whether the end is sure, and its name."""
    for entry in header.entries:
        kind = TYPES.get(entry.code)
        elements = math.prod(entry.shape)
        size = min(elements, 1)  # of a type that nobody knows
        if kind is not None:
            across = entry.shape[-1] if entry.shape else 1
            if across % kind.block:
                reason = f"rows of {across} elements, no multiple of {kind.name}'s {kind.block}"
                raise InputRejected(path, reason, tensor=entry.name)
            size = elements // kind.block * kind.size
        end = entry.offset + size
        if end > length:
            reason = f"ends at byte {end} of the data, which has {length}: truncated download?"
            raise InputRejected(path, reason, tensor=entry.name)
        yield entry.offset, end, kind is not None, entry.name


def _without_halves(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without weights that lack a factor, which is stored as another tensor."""
    listing = checkpoint.listing
    names = set(names_in(listing))
    halves = {
        tensor.name: Skipped(tensor.name, f"{tensor.encoding} to be scaled by {factor}", "weight")
        for tensor in listing.tensors
        if tensor.encoding in SCALED_APART
        if (factor := f"{tensor.name.removesuffix('.weight')}.scale") in names
    }
    if not halves:
        return checkpoint
    whole = tuple(tensor for tensor in listing.tensors if tensor.name not in halves)
    skipped = (*listing.skipped, *halves.values())
    return WrappedCheckpoint(checkpoint, replace(listing, tensors=whole, skipped=skipped))
