"""torch files: a zip archive of one pickle and a stored entry for each storage.

Format: torch/serialization.py (`_save`) and caffe2/serialize/inline_container.h in PyTorch.
`<top>/data.pkl` describes the tensors, `<top>/data/<key>` holds a storage's bytes, and
`<top>/byteorder` says "little" or "big". torch is not needed, and nothing in the pickle is
ever run: see `inert_pickle`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

from rankscope.checkpoints.flat import FlatCheckpoint, Span
from rankscope.checkpoints.inert_nodes import BadPickle, shown
from rankscope.checkpoints.inert_pickle import MAX_PICKLE_BYTES, interpret
from rankscope.checkpoints.torch_names import Leaf, named_leaves
from rankscope.checkpoints.torch_stubs import BUILDERS, StorageStub, TensorStub, persistent_stub
from rankscope.checkpoints.zipfiles import Entry, zip_entries
from rankscope.dtypes import itemsize
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.places import text_of
from rankscope.records import Checkpoint, Listing, Skipped, TensorInfo
from rankscope.rolewords import named_as_weight

ZIP_MAGIC = b"PK\x03\x04"
# torch/serialization.py, MAGIC_NUMBER 0x1950A86A20F9469CFC6C as a protocol 2 pickle.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# A view may repeat elements (stride 0), so that a small file stands for a huge tensor. Ours,
# as for HDF5: more than 1000 times what is stored, and over 4 GiB, is no checkpoint.
MAX_EXPANSION = 1000
FREE_BYTES = 2**32


class TorchReader:
    """Reads what `torch.save` has written since PyTorch 1.6."""

    name = "torch"
    suffixes = (".pt", ".pth", ".bin", ".ckpt")
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """A zip archive that does not begin with a NumPy array; or a pickle, to refuse it."""
        if head.startswith(ZIP_MAGIC):
            return not _first_name(head).endswith(b".npy")
        # Byte 8 of a safetensors file is a brace; its length may begin like a pickle.
        return _is_pickle(head) and head[8:9] != b"{"

    def open(self, path: PurePath) -> Checkpoint:
        """Open a file and read its pickle as data; reads no tensor."""
        return opened(path, read_archive)


def read_archive(file: RandomAccessFile) -> Checkpoint:
    """What an open file holds, which the checkpoint keeps; reads no tensor."""
    return _checkpoint(_open_archive(file))


def _first_name(head: bytes) -> bytes:
    """The name in the first local header (APPNOTE 4.3.7)."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]


def _is_pickle(head: bytes) -> bool:
    """Protocols 2 to 5 begin with PROTO and their number."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


@dataclass(frozen=True, slots=True)
class _Archive:
    """The archive: its file, its entries, the folder in it, and the order of bytes."""

    file: RandomAccessFile
    entries: Mapping[str, Entry]
    top: str
    big_endian: bool

    def content(self, name: str, most: int) -> bytes:
        """A small stored entry."""
        entry = self.entries[name]
        if not entry.stored or entry.size > most:
            raise InputRejected(
                self.file.path,
                f"{name!r} is {entry.method}, {entry.size} bytes, expected stored and at most "
                f"{most}: re-save with torch.save",
            )
        return bytes(self.file.read(entry.offset, entry.size))


def _open_archive(file: RandomAccessFile) -> _Archive:
    head = bytes(file.read(0, min(64, file.size)))
    if _is_pickle(head):
        kind = "legacy torch file" if head.startswith(LEGACY_MAGIC) else "bare pickle"
        raise InputRejected(
            file.path,
            f"{kind}, expected a zip archive: where you trust it, re-save it with PyTorch 1.6 or "
            "later: torch.save(torch.load(path, weights_only=True), path)",
        )
    if not head.startswith(ZIP_MAGIC):
        raise InputRejected(
            file.path, f"begins with {head[:8]!r}, expected a zip archive as torch.save writes it"
        )
    entries = zip_entries(file)
    top = _top_folder(file, entries)
    archive = _Archive(file, entries, top, big_endian=False)
    if f"{top}/byteorder" not in entries:
        return archive  # before PyTorch 2.1; written on little-endian machines in practice
    order = archive.content(f"{top}/byteorder", most=16)
    if order not in (b"little", b"big"):
        raise InputRejected(file.path, f"byteorder is {order!r}, expected 'little' or 'big'")
    return _Archive(file, entries, top, big_endian=order == b"big")


def _top_folder(file: RandomAccessFile, entries: Mapping[str, Entry]) -> str:
    """The folder that holds data.pkl; refuses archives that torch.save did not write."""
    tops = [
        name.removesuffix("/data.pkl")
        for name in entries
        if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(tops) == 1 and f"{tops[0]}/constants.pkl" not in entries:
        return tops[0]
    if any(name.endswith("constants.pkl") for name in entries):
        found = "TorchScript program; re-save torch.jit.load(path).state_dict() with torch.save"
    elif any(name.endswith("archive_format") for name in entries):
        found = "exported program; re-save torch.export.load(path).state_dict with torch.save"
    elif "model.weights.h5" in entries:
        found = "Keras archive; unzip it and open model.weights.h5"
    else:
        found = f"zip archive with {len(tops)} data.pkl, expected one in one top folder"
    raise InputRejected(file.path, found)


def _checkpoint(archive: _Archive) -> Checkpoint:
    path = archive.file.path
    data = archive.content(f"{archive.top}/data.pkl", MAX_PICKLE_BYTES)
    tensors: dict[str, TensorInfo] = {}
    spans: dict[str, Span] = {}
    skipped: list[Skipped] = []
    try:
        named = _leaves(data)
    except BadPickle as error:
        raise InputRejected(path, str(error)) from error
    for name, leaf in named:
        if leaf.tensor is None:
            weight = leaf.unreadable and named_as_weight(name)
            skipped.append(Skipped(name, leaf.reason, "weight" if weight else ""))
            continue
        if name in tensors:
            raise InputRejected(path, "two tensors have this name, expected one", tensor=name)
        try:
            spans[name] = _span(archive, leaf.tensor)
        except BadPickle as error:
            raise InputRejected(path, str(error), tensor=name) from error
        tensors[name] = TensorInfo(name, leaf.tensor.shape, leaf.tensor.dtype)
    listing = Listing(
        str(path), "torch", tuple(tensors.values()), tuple(skipped), files=(text_of(path),)
    )
    return FlatCheckpoint(listing, archive.file, spans)


@lru_cache(maxsize=1)  # every task of a worker opens the same file; the pickle's bytes are the key
def _leaves(data: bytes) -> Sequence[tuple[str, Leaf[TensorStub]]]:
    return tuple(named_leaves(interpret(data, BUILDERS, persistent_stub)))


def _span(archive: _Archive, tensor: TensorStub) -> Span:
    """Where a tensor's elements lie, all of them within its storage."""
    entry = _storage_entry(archive, tensor.storage)
    width = itemsize(tensor.dtype)
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if any(not 0 <= number < 2**63 for number in numbers):
        raise BadPickle(
            f"offset {tensor.offset}, size {list(tensor.shape)} or stride {list(tensor.strides)} "
            "is negative or does not fit 64 bits"
        )
    count = math.prod(tensor.shape)
    reach = (
        tensor.offset
        + 1
        + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    )
    if count and reach * width > entry.size:
        raise BadPickle(
            f"size {list(tensor.shape)}, stride {list(tensor.strides)} and offset {tensor.offset} "
            f"reach element {reach} of a storage of {entry.size // width}"
        )
    if count * width > max(FREE_BYTES, MAX_EXPANSION * entry.size):
        raise BadPickle(
            f"size {list(tensor.shape)} repeats a storage of {entry.size} bytes "
            f"more than {MAX_EXPANSION} times"
        )
    start = entry.offset + tensor.offset * width
    return Span(start, tensor.dtype, tensor.shape, tensor.strides, archive.big_endian)


def _storage_entry(archive: _Archive, storage: StorageStub) -> Entry:
    """The stored entry of a storage, of exactly the size that the pickle claims."""
    entry = archive.entries.get(f"{archive.top}/data/{storage.key}")
    if entry is None:
        raise BadPickle(f"storage {shown(storage.key)} is not in the archive")
    if not entry.stored:
        raise BadPickle(
            f"storage {shown(storage.key)} is compressed ({entry.method}), expected stored: "
            "re-save with torch.save"
        )
    needed = storage.numel * itemsize(storage.dtype) if storage.dtype else entry.size
    if needed != entry.size:
        raise BadPickle(
            f"storage {shown(storage.key)} has {entry.size} bytes, "
            f"expected {needed} for {storage.numel} elements of {storage.kind}"
        )
    return entry
