"""From a path to an open checkpoint: the readers, and who reads what.

A new format is one file with a `Reader` in it and one entry in `READERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rankscope.checkpoints.safetensors import SafetensorsReader
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
from rankscope.records import Checkpoint

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


READERS: tuple[Reader, ...] = (SafetensorsReader(),)


def reader_for(path: Path) -> Reader:
    """The reader that recognises a file by its content, whatever its name says."""
    file = RandomAccessFile(path)
    try:
        head = bytes(file.read(0, min(HEAD_BYTES, file.size)))
    finally:
        file.close()
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
