"""Many small spans of a remote file, asked for together: a directory's headers lie all over it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rankscope.places import RemotePath
from rankscope.remote.patience import Patience
from rankscope.remote.sources import Source, fetch, source_of
from rankscope.remote.status import Status

Span = tuple[int, int]  # the first byte, and the one behind the last

# On their way at a time: botocore has ten connections, and the others wait there.
IN_FLIGHT = 16

# Spans with less between them are one request: a file system's page, as of any other small read.
GAP_BYTES = 4 * 2**10

BATCH = 1024  # that wait for their turn: 250,000 would take half a gigabyte of tasks

# Remembered, since each task opens its file again: of a few files, some MB each at most.
FILES_KEPT = 8
KEPT_BYTES = 4 * 2**20


def together(
    path: RemotePath, found: Status, spans: Iterable[Span], patience: Patience
) -> Sequence[tuple[int, bytes]]:
    """The bytes of spans of a file in the version of its status: where each begins, and they.

    Raises:
        InputRejected: they do not come.
    """
    asked = tuple(merged(spans))
    # Without a tag, nothing tells whether what is remembered is still the file's.
    if found.tag and sum(stop - start for start, stop in asked) <= KEPT_BYTES:
        return _kept(path, found, asked, patience)
    return _fetched(path, found, asked, patience)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Those that are close to each other as one, ascending.

    >>> merged([(9000, 9100), (0, 30), (4000, 4030), (4010, 4020)])
    [(0, 4030), (9000, 9100)]
    """
    found: list[Span] = []
    for start, stop in sorted(spans):
        if found and start - found[-1][1] < GAP_BYTES:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _fetched(
    path: RemotePath, found: Status, spans: tuple[Span, ...], patience: Patience
) -> tuple[tuple[int, bytes], ...]:
    from fsspec.asyn import get_loop, sync

    source = source_of(path, found, patience)
    parts: list[bytes] = []
    for first in range(0, len(spans), BATCH):
        parts += sync(get_loop(), _gathered, source, spans[first : first + BATCH], patience)
    return tuple((start, part) for (start, _), part in zip(spans, parts, strict=True))


_kept = lru_cache(maxsize=FILES_KEPT)(_fetched)


async def _gathered(source: Source, spans: Sequence[Span], patience: Patience) -> list[bytes]:
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(start: int, stop: int) -> bytes:
        data = bytearray()
        async with slots:
            await fetch(source, start, stop, lambda _, chunk: data.extend(chunk), patience)
        return bytes(data)

    tasks = [asyncio.ensure_future(one(*span)) for span in spans]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
