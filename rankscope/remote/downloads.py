"""Whole files, fetched into the user's cache: `--download`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import platformdirs

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.checksums import checksum_of
from rankscope.remote.failures import as_os_error, cause_of
from rankscope.remote.filesystem import filesystem_of
from rankscope.remote.looking import file_status, status
from rankscope.remote.patience import PATIENT, Patience
from rankscope.remote.pieces import IN_FLIGHT, PIECE_BYTES
from rankscope.remote.sources import (
    NO_RANGES,
    REPLACED,
    UNTOLD,
    Source,
    WebSource,
    fetch,
    source_of,
)
from rankscope.remote.status import Status
from rankscope.remote.webserver import UNKNOWN

FOLDER = "downloads"  # in the user's cache

LONGEST_NAME = 200  # bytes; file systems take 255, and `.part` comes to it


def downloaded(path: RemotePath, patience: Patience = PATIENT) -> Path:
    """A file behind a URL as a file of this machine, fetched unless that was done before.

    It lies in the user's cache under a name that its URL and its version give. What a killed
    process has fetched is not fetched again; two processes do not fetch at once.

    Raises:
        UsageError: as of `looking.status`.
        InputRejected: nothing is there, it does not come whole, or the cache has no room for it.
    """
    found = file_status(path, "cannot be fetched")
    known = found.is_known
    target = _place(path, found if known else replace(found, mtime_ns=0))
    if known and _is_whole(target, found):
        return target
    try:
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        with _alone(target.with_name(target.name + ".part")) as part:
            if not (known and _is_whole(target, found)):  # another process may have been first
                if not known:
                    part.truncate(0)
                _fill(path, found, part, patience)
                _verify(path, found, part)
                os.replace(part.name, target)
    except OSError as error:
        reason = f"cannot be kept in {target.parent}: {error.strerror or error}"
        raise InputRejected(path, reason) from error
    return target


def forget_damaged(path: RemotePath) -> None:
    """Remove what was kept of a file, unless it has the checksum that the service tells.

    What cannot be looked at is told when it is read.
    """
    try:
        found = status(path)
        target = None if found is None else _place(path, found)
        if target is not None and target.is_file():
            told = checksum_of(filesystem_of(path), path)
            if told is None or not told.fits(target):
                target.unlink()
    except Exception:  # whatever a library raises; reading the file will tell
        return


def _is_whole(target: Path, found: Status) -> bool:
    try:
        return found.size in (target.stat().st_size, UNKNOWN)
    except OSError:
        return False


def _place(path: RemotePath, found: Status) -> Path:
    """Where a version of a file lies, under its own name: what it is is told by that, too."""
    version = f"{_named(path).url}\0{found.tag}\0{found.mtime_ns}\0{found.size}"
    key = hashlib.sha256(version.encode()).hexdigest()[:32]
    plain = unquote(urlsplit(str(path)).path) if path.scheme in ("http", "https") else path.name
    name = plain.rstrip("/").rpartition("/")[2].replace("\0", "_")
    while len(name.encode()) > LONGEST_NAME:
        name = name[1:]  # the end tells the format
    folder = Path(platformdirs.user_cache_dir("rankscope")) / FOLDER / key
    return folder / (name if name not in ("", ".", "..") else "file")


def _named(path: RemotePath) -> RemotePath:
    """A path without the hub's revision: the tag tells the version, in every commit the same."""
    if not path.on_hub:
        return path
    from rankscope.remote.hub import without_revision

    return without_revision(path)[0]


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """A file to append to, held by this process alone.

    The lock is the system's own, so that a killed process holds none.
    """
    while True:
        with open(path, "ab", opener=_private) as file:
            if os.name == "posix":
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):  # whoever held it is done, and has renamed it
                continue
            try:
                yield file
            finally:
                if _is_at(path, file) and os.fstat(file.fileno()).st_size == 0:
                    path.unlink()
            return


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else may read: what a signed URL gives is not for everybody."""
    return os.open(path, flags, 0o600)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _fill(path: RemotePath, found: Status, part: IO[bytes], patience: Patience) -> None:
    """Append what is still missing."""
    from fsspec.asyn import get_loop, sync

    source = source_of(path, found, patience)
    begin = part.seek(0, os.SEEK_END)
    if begin > max(found.size, 0):
        begin = part.truncate(0)
    if found.size >= 0:
        try:
            sync(get_loop(), _in_order, source, begin, found.size, part, patience)
        except InputRejected as error:
            if error.reason not in (NO_RANGES, UNTOLD) or not isinstance(source, WebSource):
                raise
        else:
            return
    if not isinstance(source, WebSource):
        raise InputRejected(path, "the service does not tell its size")
    part.truncate(0)
    try:
        sync(get_loop(), _as_it_comes, source.whole(), part)
        # One answer is no mixture; where it does not tell which version it is, this does.
        if status(path, afresh=True) != found:
            part.truncate(0)
            raise InputRejected(path, REPLACED)
    except InputRejected:
        raise
    except Exception as error:
        raise InputRejected(
            path, f"cannot be fetched: {as_os_error(error, path).strerror}"
        ) from cause_of(error, path)


async def _in_order(
    source: Source, begin: int, end: int, part: IO[bytes], patience: Patience
) -> None:
    """Fetch pieces, several at a time, and append them in order: its length tells what is there."""

    async def piece(start: int) -> bytearray:
        data = bytearray()
        stop = min(start + PIECE_BYTES, end)
        await fetch(source, start, stop, lambda _, chunk: data.extend(chunk), patience)
        return data

    waiting = iter(range(begin, end, PIECE_BYTES))
    coming = [asyncio.ensure_future(piece(start)) for start in islice(waiting, IN_FLIGHT)]
    try:
        while coming:
            part.write(await coming.pop(0))
            part.flush()
            coming += [asyncio.ensure_future(piece(start)) for start in islice(waiting, 1)]
    finally:
        for one in coming:
            one.cancel()
        await asyncio.gather(*coming, return_exceptions=True)


async def _as_it_comes(parts: AsyncGenerator[bytes, None], part: IO[bytes]) -> None:
    async with aclosing(parts):
        async for chunk in parts:
            part.write(chunk)
    part.flush()


def _verify(path: RemotePath, found: Status, part: IO[bytes]) -> None:
    """Whether what came is what the service holds; else nothing of it is kept."""
    part.flush()
    os.fsync(part.fileno())
    size = os.fstat(part.fileno()).st_size
    if found.size not in (size, -1):
        part.truncate(0)
        raise InputRejected(path, f"{size} bytes came, expected {found.size}")
    try:
        told = checksum_of(filesystem_of(path), path)
    except Exception as error:
        raise InputRejected(
            path, f"cannot be fetched: {as_os_error(error, path).strerror}"
        ) from cause_of(error, path)
    if told is not None and not told.fits(Path(part.name)):
        part.truncate(0)
        raise InputRejected(path, f"what came has another {told.kind} checksum: try again")
