"""Files open to be read at given offsets, wherever they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

from rankscope.errors import InputRejected
from rankscope.places import RemotePath, WholePath

Built = TypeVar("Built")


class RandomAccessFile(Protocol):
    """A file read at given offsets, wherever it is."""

    @property
    def path(self) -> PurePath:
        """As given."""

    @property
    def size(self) -> int:
        """Bytes when opened."""

    def read(
        self, offset: int, count: int, within: tuple[int, int] | None = None
    ) -> bytes | bytearray:
        """Exactly `count` bytes at `offset`; `InputRejected` if the file ends before.

        Args:
            offset: the first byte.
            count: how many.
            within: where what is read belongs to begins and ends: the rest of that is likely to
                be asked for next, and may be fetched at once where reading is dear.
        """

    def prepare(self, spans: Iterable[tuple[int, int]]) -> None:
        """Small spans are about to be read, one by one: fetched together where reading is dear.

        Args:
            spans: the first byte of each, and the one behind its last; within the file.
        """

    def close(self) -> None:
        """Close the file; closing twice is fine."""


class LocalFile:
    """A regular file of this machine, never mapped.

    A memory map of a file that a trainer truncates kills the process (SIGBUS); a positioned
    read raises. Refuses FIFOs, devices and directories without blocking on them.

    Attributes:
        path: as given.
        size: bytes when opened.
    """

    def __init__(self, path: Path | str, shown: PurePath | None = None) -> None:
        """Open a file; `shown` is what it is called, where it is a copy of that."""
        self.path: PurePath = shown or Path(path)
        # O_NONBLOCK: opening a FIFO that nobody writes to would hang.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise InputRejected(path, f"cannot be opened: {error.strerror}") from error
        except ValueError as error:  # a NUL, or text that is no file name
            raise InputRejected(path, f"cannot be opened: {error}") from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise InputRejected(path, "not a regular file")
        self.size = status.st_size

    def read(
        self,
        offset: int,
        count: int,
        within: tuple[int, int] | None = None,  # noqa: ARG002 - the system reads ahead by itself
    ) -> bytes | bytearray:
        """Exactly `count` bytes at `offset`; `InputRejected` if the file ends before."""
        data = self._some(offset, count)
        if len(data) == count:
            return data
        # One call returns at most about 2 GiB on Linux.
        whole = bytearray(data)
        while len(whole) < count:
            more = self._some(offset + len(whole), count - len(whole))
            if not more:
                raise InputRejected(
                    self.path,
                    f"ends at byte {offset + len(whole)}, expected {offset + count}: "
                    "truncated or replaced while it was read",
                )
            whole += more
        return whole

    def prepare(self, spans: Iterable[tuple[int, int]]) -> None:
        """Nothing: the system reads ahead by itself."""

    def _some(self, offset: int, count: int) -> bytes:
        try:
            return _pread(self._fd, count, offset)
        except OSError as error:  # a bad disk, a network file system that went away
            raise InputRejected(self.path, f"cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close() if hasattr(self, "_fd") else None


def open_file(path: PurePath) -> RandomAccessFile:
    """A file, open to be read. Raises `InputRejected` when it cannot be."""
    if isinstance(path, WholePath):
        from rankscope.remote.downloads import downloaded

        return LocalFile(downloaded(path), path)
    if isinstance(path, RemotePath):
        from rankscope.remote.remotefile import RemoteFile

        return RemoteFile(path)
    return LocalFile(Path(path))


def opened(path: PurePath, build: Callable[[RandomAccessFile], Built]) -> Built:
    """What `build` makes of an open file, which it keeps; closed again when it raises."""
    file = open_file(path)
    try:
        return build(file)
    except BaseException:
        file.close()
        raise


if hasattr(os, "pread"):

    def _pread(fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)
else:  # Windows. Each worker has its own descriptor, so that seeking is safe.

    def _pread(fd: int, count: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)
