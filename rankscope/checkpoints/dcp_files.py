"""The files of a distributed checkpoint, of which there may be more than a process may open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import PurePath

from rankscope.checkpoints.dcp_chunks import Place
from rankscope.checkpoints.directory import shard_path
from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, open_file
from rankscope.identities import Identity, identity
from rankscope.presence import exists

# Systems allow a process from 256 (macOS) to 1024 files and more; several checkpoints may be open.
MAX_OPEN = 64


class ChunkFiles:
    """Reads the files beside `.metadata`; keeps the last few open."""

    def __init__(self, metadata: PurePath) -> None:
        self._metadata = metadata
        self._open: OrderedDict[str, RandomAccessFile] = OrderedDict()
        self._paths: dict[str, PurePath] = {}
        self._seen: dict[str, Identity] = {}

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it is not there.

        Raises:
            InputRejected: it is outside the directory, or no regular file.
        """
        if name not in self._paths:
            path = shard_path(self._metadata, name)
            if not exists(path):
                return None
            self._paths[name] = path
        return self._file(name).size

    def path(self, name: str) -> PurePath:
        """Where a file lies that has a size."""
        return self._paths[name]

    def read(
        self, name: str, offset: int, count: int, within: tuple[int, int]
    ) -> bytes | bytearray:
        """Bytes of a file that has a size; `InputRejected` when they are not there any more."""
        return self._file(name).read(offset, count, within)

    def _file(self, name: str) -> RandomAccessFile:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        path = self._paths[name]
        file = open_file(path)
        try:
            now = identity(path)
        except OSError as error:
            raise InputRejected(path, f"cannot be opened: {error.strerror}") from error
        if self._seen.setdefault(name, now) != now:
            raise InputRejected(path, "replaced while the checkpoint was read: try again")
        self._open[name] = file
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class Section:
    """A run of bytes of one of the files, as a file of its own."""

    def __init__(self, files: ChunkFiles, place: Place) -> None:
        self._files = files
        self._place = place
        self.path: PurePath = files.path(place.file)
        self.size = place.length

    def read(
        self, offset: int, count: int, within: tuple[int, int] | None = None
    ) -> bytes | bytearray:
        """Exactly `count` bytes at `offset`; `InputRejected` if the section ends before."""
        if offset < 0 or offset + count > self.size:
            raise InputRejected(
                self.path, f"a piece of {self.size} bytes, expected at least {offset + count}"
            )
        start = self._place.offset
        first, end = within or (0, self.size)
        bounds = (start + first, start + end)
        return self._files.read(self._place.file, start + offset, count, bounds)

    def prepare(self, spans: Iterable[tuple[int, int]]) -> None:
        """Nothing: a section is small, and its first read says where all of it lies."""

    def close(self) -> None:
        """The files are their owner's to close."""
