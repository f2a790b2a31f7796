"""From a path to an open checkpoint: the readers, and who reads what.

A new format is one file with a `Reader` in it and one entry in `READERS`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from rankscope.checkpoints.directory import (
    INDEX_SUFFIX,
    MODEL_FILES,
    ShardedCheckpoint,
    find_model,
    shards_of,
)
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.interpretation import interpreted
from rankscope.checkpoints.npy import NpyReader
from rankscope.checkpoints.npz import NpzReader
from rankscope.checkpoints.safetensors import SafetensorsReader
from rankscope.checkpoints.torchzip import TorchReader
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
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

    def open(self, path: Path) -> Checkpoint:
        """Open a file, reading headers only; `InputRejected` when it is not sound."""


READERS: tuple[Reader, ...] = (
    SafetensorsReader(),
    Hdf5Reader(),
    NpyReader(),
    NpzReader(),
    TorchReader(),
)


def reader_for(path: Path) -> Reader:
    """The reader that recognises a file by its content, whatever its name says."""
    file = RandomAccessFile(path)
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


def open_checkpoint(path: Path | str, wanted: Collection[str] | None = None) -> Checkpoint:
    """Open a checkpoint: a file, the index of a sharded one, or a model directory.

    Reads headers only. Close it after use.

    Args:
        path: where it is.
        wanted: names of tensors, when no others will be read: of a model in hundreds of shards
            only those that hold them are opened.

    Raises:
        InputRejected: it is not there, not sound, or in no format that is known.
    """
    path = Path(path)
    if path.is_dir():
        model = find_model(path)
        if model is None:
            raise InputRejected(path, f"holds no model, expected one of {', '.join(MODEL_FILES)}")
        path = model
    if path.name.endswith(INDEX_SUFFIX):
        stored: Checkpoint = ShardedCheckpoint(path, _open_file, wanted)
    else:
        stored = _open_file(path)
    return interpreted(stored, path.parent)


def _open_file(path: Path) -> Checkpoint:
    return reader_for(path).open(path)


def needs_isolation(path: Path) -> bool:
    """Whether opening this file can crash the process, so that a child should do it."""
    files = shards_of(path) if path.name.endswith(INDEX_SUFFIX) else [path]
    return any(reader_for(file).isolated for file in files)


def is_isolated(listing: Listing) -> bool:
    """The same of a checkpoint that is listed already, without looking at its files."""
    return any(reader.isolated and listing.format.endswith(reader.name) for reader in READERS)
