"""From a path to an open checkpoint: the readers, and who reads what.

A new format is one file with a `Reader` in it and one entry in `READERS`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath
from typing import Protocol

from rankscope.checkpoints.adapters import PREFIX
from rankscope.checkpoints.dcp import DcpCheckpoint
from rankscope.checkpoints.directory import (
    INDEX_SUFFIX,
    MODEL_FILES,
    ShardedCheckpoint,
    shards_of,
)
from rankscope.checkpoints.directory import (
    find_model as known_model,
)
from rankscope.checkpoints.folders import METADATA, home, is_state, lone_metadata, why_no_model
from rankscope.checkpoints.gguf import GgufReader
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.interpretation import interpreted
from rankscope.checkpoints.merging import ON, merge
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.npy import NpyReader
from rankscope.checkpoints.npz import NpzReader
from rankscope.checkpoints.safetensors import SafetensorsReader
from rankscope.checkpoints.spectrumfile import SpectraReader
from rankscope.checkpoints.torchzip import TorchReader
from rankscope.errors import InputRejected
from rankscope.files import open_file
from rankscope.places import RemotePath, place
from rankscope.presence import is_directory, names, stands_alone
from rankscope.records import Checkpoint, Listing

# Enough for every signature: HDF5's own may lie behind a user block of 512, 1024, ... bytes.
HEAD_BYTES = 4096
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Reader(Protocol):
    """One format.

    Attributes (read-only):
        name: what the format is called in output.
        suffixes: file name endings that usually hold it, for messages and for finding files.
        isolated: opening runs a C library that a corrupt file can crash, so it is done in a
            child process.
    """

    @property
    def name(self) -> str:
        """The format's name."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Usual file name endings."""

    @property
    def isolated(self) -> bool:
        """Whether opening can crash the process."""

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is of this format."""

    def open(self, path: PurePath) -> Checkpoint:
        """Open a file, reading headers only; `InputRejected` when it is not sound."""


READERS: tuple[Reader, ...] = (
    SpectraReader(),  # before safetensors, which it is on the outside
    SafetensorsReader(),
    Hdf5Reader(),
    NpyReader(),
    NpzReader(),
    TorchReader(),
    GgufReader(),
)


def reader_for(path: PurePath) -> Reader:
    """The reader that recognises a file by its content, whatever its name says."""
    file = open_file(path)
    try:
        head = bytes(file.read(0, min(HEAD_BYTES, file.size)))
    finally:
        file.close()
    if not head:
        raise InputRejected(path, "is empty, expected a checkpoint")
    if head.startswith(LFS_POINTER):
        raise InputRejected(path, "a git-LFS pointer, not the file itself: run `git lfs pull`")
    for reader in READERS:
        if reader.recognises(head):
            return reader
    # A damaged file is explained best by the reader that its name asks for.
    for reader in READERS:
        if path.name.endswith(reader.suffixes):
            return reader
    known = ", ".join(reader.name for reader in READERS)
    raise InputRejected(path, f"begins with {head[:8]!r}, which no reader knows ({known})")


def open_checkpoint(
    path: PurePath | str, wanted: Collection[str] | None = None, base: PurePath | str | None = None
) -> Checkpoint:
    """Open a checkpoint: a file, the index or `.metadata` of a sharded one, or a model directory.

    Reads headers only. Close it after use.

    Args:
        path: where it is.
        wanted: names of tensors, when no others will be read: of a model in hundreds of shards
            only those that hold them are opened.
        base: a model that it is an adapter of; the checkpoint is that model with it merged in.

    Raises:
        InputRejected: it is not there, not sound, in no format that is known, or does not fit
            the base.
    """
    if base is not None:
        return _open_merged(place(path), place(base), wanted)
    stored, directory = _open_stored(place(path), wanted)
    return interpreted(stored, ModelFiles(directory))


def _open_merged(path: PurePath, base: PurePath, wanted: Collection[str] | None) -> Checkpoint:
    """A base with the adapter at `path` merged into it."""
    adapter, directory = _open_stored(path, None)
    opened = [adapter]
    try:
        own = {tensor.name for tensor in adapter.listing.tensors if tensor.name.startswith(PREFIX)}
        others = None if wanted is None else set(wanted) - own
        stored, beside = _open_stored(base, others)
        model = interpreted(stored, ModelFiles(beside))
        opened.append(model)
        if any(tensor.solved for tensor in model.listing.tensors):
            raise InputRejected(base, "holds singular values only, expected weights to merge into")
        config = ModelFiles(beside).config
        return merge(model, adapter, ModelFiles(directory), config, whole=wanted is None)
    except BaseException:
        for checkpoint in opened:
            checkpoint.close()
        raise


def _open_stored(
    path: PurePath, wanted: Collection[str] | None
) -> tuple[Checkpoint, PurePath | None]:
    """A checkpoint as it is stored, and where the files may lie that say how to read it."""
    if is_directory(path):
        model = find_model(path)
        if model is None:
            raise InputRejected(path, _why_no_model(path))
        path = model
    if path.name.endswith(INDEX_SUFFIX):
        stored: Checkpoint = ShardedCheckpoint(path, _open_file, wanted)
    elif path.name == METADATA:
        stored = DcpCheckpoint(path, wanted)
    else:
        stored = _open_file(path)
    _check_version(path, stored)
    return stored, None if stands_alone(path) else home(path)


def _check_version(path: PurePath, stored: Checkpoint) -> None:
    """Close and refuse what a version of one object is only a part of: no version of the others."""
    if not (isinstance(path, RemotePath) and path.scheme == "s3" and path.query):
        return
    if path.name == METADATA or path.name.endswith(INDEX_SUFFIX) or len(stored.listing.files) > 1:
        stored.close()
        raise InputRejected(
            path, "a version of one of several files, and nothing tells those of the others"
        )


def find_model(directory: PurePath) -> PurePath | None:
    """The file by which to open the model of a directory, or None when it holds none.

    Of a distributed checkpoint that has lost its files that is what describes it, unless there are
    other weights: those that it was joined into.
    """
    found = known_model(directory)
    if found is None and not _has_weights(directory):
        found = lone_metadata(directory)
    return found


def _has_weights(directory: PurePath) -> bool:
    return any(is_weights(name) for name in names(directory))


def is_weights(name: str) -> bool:
    """Whether a file holds weights, by its name: a reader's suffix, and no trainer's state."""
    return not is_state(name) and any(name.endswith(reader.suffixes) for reader in READERS)


def _why_no_model(directory: PurePath) -> str:
    reason = why_no_model(directory, has_weights=_has_weights(directory))
    return reason or f"holds no model, expected one of {', '.join(MODEL_FILES)}"


def _open_file(path: PurePath) -> Checkpoint:
    return reader_for(path).open(path)


def needs_isolation(path: PurePath) -> bool:
    """Whether opening this file can crash the process, so that a child should do it."""
    if path.name == METADATA:
        return False
    files = shards_of(path) if path.name.endswith(INDEX_SUFFIX) else [path]
    return any(reader_for(file).isolated for file in files)


def is_isolated(listing: Listing) -> bool:
    """The same of a checkpoint that is listed already, without looking at its files."""
    formats = listing.format.split(ON)
    return any(
        reader.isolated and one.endswith(reader.name) for reader in READERS for one in formats
    )
