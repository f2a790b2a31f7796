"""Reading and writing files with care: positioned reads, identity, atomic replacement."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, NamedTuple, Protocol, TypeVar

from rankscope.errors import InputRejected, OutputFailed
from rankscope.places import RemotePath, WholePath, place

# What `_temporary` makes.
TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


Built = TypeVar("Built")
Where = TypeVar("Where", bound=PurePath)


ABSENT = -1  # the size of a file that is not there


class Identity(NamedTuple):
    """What tells that a file is still the same one without reading it.

    Attributes:
        path: absolute, or a URL.
        size: bytes.
        mtime_ns: when it was changed, in nanoseconds since 1970; 0 where a service does not tell.
        inode: its number in the file system; of a remote one, a digest of what the service calls
            its content: ETag, SHA-256.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


def identity(path: PurePath | str, *, afresh: bool = False) -> Identity:
    """The identity of a file now. Raises OSError when it is gone.

    Args:
        path: the file.
        afresh: do not believe what was seen of a remote one in the last seconds.
    """
    where = place(path)
    if isinstance(where, RemotePath):
        return _remote_identity(where, afresh=afresh)
    status = os.stat(where)
    return Identity(os.path.abspath(where), status.st_size, status.st_mtime_ns, status.st_ino)


def _remote_identity(path: RemotePath, *, afresh: bool) -> Identity:
    from rankscope.remote.looking import status

    found = status(path, afresh=afresh)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))
    if not found.is_known:
        # Nothing would tell another file of the same size: for all that is known, it changes now.
        return Identity(path.url, found.size, time.time_ns(), 0)
    # 63 bits, which an SQLite integer holds.
    digest = hashlib.sha256(found.tag.encode()).digest()
    return Identity(path.url, found.size, found.mtime_ns, int.from_bytes(digest[:8], "big") >> 1)


def identity_or_absence(path: PurePath | str) -> Identity:
    """The identity of a file that need not be there; its absence is an identity too."""
    where = place(path)
    try:
        return identity(where)
    except FileNotFoundError:
        return _absence(where)


def identity_of_hint(path: PurePath | str) -> Identity:
    """The same of a file that says how to read others: absent where it is not handed out."""
    where = place(path)
    if isinstance(where, RemotePath):
        from rankscope.remote.looking import handed_out

        return _absence(where) if handed_out(where) is None else identity(where)
    return identity_or_absence(where)


def identity_again(seen: Identity, *, afresh: bool = False) -> Identity:
    """What the identity of a file is by now. Raises OSError when it is gone."""
    if seen.size == ABSENT:
        return identity_of_hint(seen.path)
    return identity(seen.path, afresh=afresh)


def _absence(where: PurePath) -> Identity:
    name = where.url if isinstance(where, RemotePath) else os.path.abspath(where)
    return Identity(name, ABSENT, 0, 0)


def seen_from_here(path: Where) -> Where:
    """The path as a person in the working directory writes it, where the file is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def unchanged(seen: Iterable[Identity], *, afresh: bool = False) -> bool:
    """Whether files still are what they were, and what was absent still is."""
    try:
        return all(identity_again(one, afresh=afresh) == one for one in seen)
    except (OSError, ValueError, TypeError):
        return False  # one is gone, or is no path at all


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


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` whole, or not at all.

    Written beside its final place, flushed to the disk, renamed; the directory is flushed
    too. When anything fails the old file stays and `OutputFailed` is raised.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        with open(temporary, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        commit(temporary, target)
    except OSError as error:
        raise OutputFailed(target, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Like `atomic_write`, for a library that wants a path to write a file at.

    The path lies in a temporary directory of its own beside the final place, because a library
    may write under yet another name first (safetensors does) and leave that behind when killed.
    """
    target = Path(path)
    directory = _temporary(target)
    inner = directory / target.name
    try:
        directory.mkdir()
        # The permissions of any new file; a library's own may be for its owner only.
        inner.touch(exist_ok=False)
        mode = stat.S_IMODE(inner.stat().st_mode)
        yield inner
        inner.chmod(mode)
        _flush(inner)
        commit(inner, target)
    except OSError as error:
        raise OutputFailed(target, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_temporaries(directory: Path) -> None:
    """Remove what killed writers left; only where no writer can be at work."""
    for child in directory.iterdir():
        if TEMPORARY.fullmatch(child.name) is None:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    # Not tempfile: its files are readable by their owner only, and would stay so.
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(temporary: Path, final: Path) -> None:
    """Rename a file that is already flushed to its final name, and make the name last."""
    os.replace(temporary, final)
    if os.name == "posix":
        # Without this the rename itself may be lost when the machine goes down.
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
