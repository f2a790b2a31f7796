"""Bytes of one file behind a URL, from wherever in it, by the protocol of its service.

A source makes one attempt and checks that what comes is of the version that it was opened for;
`fetch` has the patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.failures import as_os_error, cause_of, is_passing, retry_after
from rankscope.remote.filesystem import filesystem_of, service_of
from rankscope.remote.looking import url_of
from rankscope.remote.patience import Patience
from rankscope.remote.status import Status
from rankscope.remote.webserver import Told, asked, first_byte, range_end, told
from rankscope.text import printable

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from fsspec import AbstractFileSystem

# What is taken out of a connection at once; aiohttp's own buffer holds 128 KiB at most.
CHUNK_BYTES = 2**20

REPLACED = "replaced while it was read: try again"
UNTOLD = (
    "the server does not tell of which version (ETag, Last-Modified) a range is, though of the "
    "file: try again, or give --download"
)
NO_RANGES = "the server sends no ranges: download the file, or give --download"


# An answer that tells and brings so much, though less than asked for, is a server's own limit and
# no failed attempt; with less in each, a tensor would take a request for every few bytes.
PROGRESS_BYTES = 64 * 2**10


def compressed(coding: str) -> str:
    """What is said of a file of which ranges are ranges of something else."""
    return (
        f"the server sends it compressed (Content-Encoding: {printable(coding)[:40]}) though it is "
        "asked not to: download the file, or give --download"
    )


class Source(Protocol):
    """A file behind a URL, in the version that it had when it was opened."""

    path: RemotePath

    def parts(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `stop`, in one attempt: they may end before.

        Raises:
            InputRejected: it is another version by now, or cannot be read like this.
            Exception: what the library of the protocol raises.
        """


def source_of(path: RemotePath, found: Status, patience: Patience) -> Source:
    """The source of a file whose status is known."""
    fs = filesystem_of(path)
    protocol = service_of(path).protocol
    if protocol == "http":
        return WebSource(fs, path, found, patience)
    if protocol == "s3":
        return S3Source(fs, path, found)
    if protocol == "gs":
        return GoogleSource(fs, path, found)
    return HubSource(fs, path)


class WebSource:
    """A file on a web server."""

    def __init__(
        self, fs: AbstractFileSystem, path: RemotePath, found: Status, patience: Patience
    ) -> None:
        self.path = path
        self._fs = fs
        self._patience = patience
        self._version = Told(found.size, found.tag, found.mtime_ns, is_page=False, digests={})

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """As of `Source`."""
        limited = True
        while limited and start < stop:
            begin = start
            async with asked(
                self._fs, "GET", self.path.url, self._patience, (start, stop)
            ) as answer:
                if answer.status in (404, 410, 416):
                    raise InputRejected(self.path, REPLACED)
                answer.raise_for_status()
                self._check(answer, start, stop)
                end = range_end(answer)
                async for chunk in answer.content.iter_any():
                    start += len(chunk)
                    yield chunk
            limited = start == end and end - begin >= PROGRESS_BYTES

    def _check(self, answer: ClientResponse, start: int, stop: int) -> None:
        found = told(answer)
        if found.coding:
            raise InputRejected(self.path, compressed(found.coding))
        if found.differs(self._version):
            raise InputRejected(self.path, REPLACED)
        if found.lacks(self._version):
            raise InputRejected(self.path, UNTOLD)
        whole = (start, stop) == (0, self._version.size)
        if answer.status != 206 and not whole:
            raise InputRejected(self.path, NO_RANGES)
        if answer.status == 206 and first_byte(answer) != start:
            raise InputRejected(
                self.path,
                f"the server sends a range from byte {first_byte(answer)}, asked for {start}: "
                "download the file, or give --download",
            )

    async def whole(self) -> AsyncGenerator[bytes, None]:
        """All of it, in one attempt, from a server that knows no ranges or tells no size."""
        async with asked(self._fs, "GET", self.path.url, self._patience) as answer:
            answer.raise_for_status()
            if told(answer).differs(self._version):
                raise InputRejected(self.path, REPLACED)
            async for chunk in answer.content.iter_any():
                yield chunk


class S3Source:
    """An object of a service that speaks S3.

    Every answer tells the entity tag, which is compared; that holds for services without
    conditional requests, too.
    """

    def __init__(self, fs: AbstractFileSystem, path: RemotePath, found: Status) -> None:
        self.path = path
        self._fs: Any = fs
        self._tag = found.tag

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """As of `Source`."""
        bucket, key, version = self._fs.split_path(self.path.url)
        named = {} if version is None else {"VersionId": version}
        span = f"bytes={start}-{stop - 1}"
        try:
            answer = await self._fs._call_s3(
                "get_object", Bucket=bucket, Key=key, Range=span, **named
            )
        except FileNotFoundError as error:
            raise InputRejected(self.path, REPLACED) from error
        except Exception as error:  # s3fs and botocore have tried again, each several times
            raise _rejected(self.path, error, "") from error
        async with answer["Body"] as body:
            if self._tag and str(answer.get("ETag", "")).strip('"') != self._tag:
                raise InputRejected(self.path, REPLACED)
            while chunk := await body.read(CHUNK_BYTES):
                yield chunk


class GoogleSource:
    """An object of Google Cloud Storage, asked for by its generation: never another version."""

    def __init__(self, fs: AbstractFileSystem, path: RemotePath, found: Status) -> None:
        self.path = path
        self._fs: Any = fs
        self._generation = found.tag or None

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """As of `Source`."""
        try:
            yield await self._fs._cat_file(
                self.path.url, start=start, end=stop, generation=self._generation
            )
        except FileNotFoundError as error:
            raise InputRejected(self.path, REPLACED) from error
        except Exception as error:  # gcsfs has tried again, six times
            raise _rejected(self.path, error, "") from error


class HubSource:
    """A file of a repository at one commit, where nothing changes."""

    def __init__(self, fs: AbstractFileSystem, path: RemotePath) -> None:
        self.path = path
        self._fs = fs
        self._url = url_of(path)

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """As of `Source`."""
        try:
            # Without "none", the library fetches 5 MiB more than it is asked for.
            yield await asyncio.to_thread(
                self._fs.cat_file, self._url, start, stop, cache_type="none"
            )
        except Exception as error:  # huggingface_hub has tried again, five times
            raise _rejected(self.path, error, "") from error


async def fetch(
    source: Source,
    start: int,
    stop: int,
    keep: Callable[[int, bytes], None],
    patience: Patience,
) -> None:
    """Hand on all bytes from `start` to before `stop`, asking again for what did not come.

    Args:
        source: the file.
        start: the first byte.
        stop: the one behind the last.
        keep: is given an offset and the bytes there, in order, each byte once.
        patience: how often it is asked for what is missing, and how long is waited before.

    Raises:
        InputRejected: it does not come.
    """
    position = start

    def take(chunk: bytes) -> None:
        nonlocal position
        if len(chunk) > stop - position:
            raise InputRejected(source.path, NO_RANGES)
        keep(position, chunk)
        position += len(chunk)

    waits = patience.waits()
    while True:
        failure = await _attempt(source.parts(position, stop), take)
        if position == stop:
            return
        wait = next(waits, None) if failure is None or is_passing(failure) else None
        if wait is None:
            raise _rejected(source.path, failure, f"ends at byte {position}, expected {stop}")
        asked_for = 0.0 if failure is None else retry_after(failure)
        await asyncio.sleep(min(max(wait, asked_for), patience.longest_wait))


async def _attempt(
    parts: AsyncGenerator[bytes, None], take: Callable[[bytes], None]
) -> Exception | None:
    """Take what comes; the library's error when it broke off."""
    try:
        async with aclosing(parts):
            async for chunk in parts:
                take(chunk)
    except InputRejected:
        raise
    except Exception as error:
        return error
    return None


def _rejected(path: RemotePath, failure: Exception | None, otherwise: str) -> InputRejected:
    """What is said of a file whose bytes do not come."""
    if failure is None:
        return InputRejected(path, otherwise)
    rejected = InputRejected(path, f"cannot be read: {as_os_error(failure, path).strerror}")
    rejected.__cause__ = cause_of(failure, path)
    return rejected
