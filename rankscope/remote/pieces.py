"""What of a remote file is fetched, how much around it, and where it is kept meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.patience import Patience
from rankscope.remote.sources import Source, fetch
from rankscope.remote.spool import Extents, Spool

# Of a tensor, so much is one request. Measured in benchmarks/remote.py over loopback, where
# 4 to 32 MiB differ by less than the runs; Amazon advises ranges of 8 or 16 MB.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
PIECE_BYTES = 8 * 2**20

# Pieces on their way at a time, and how many behind the last one asked for; a connection to an
# object store carries some 90 MB/s (the same guidelines), so that four fill 3 Gbit/s a worker.
IN_FLIGHT = 4
AHEAD = 4

# Beside tensors: the first read at a file's beginning or end fetches so much. huggingface_hub
# fetches 100 kB of a safetensors file, which holds 97 % of all headers.
# https://huggingface.co/docs/safetensors/metadata_parsing
HEAD_BYTES = 128 * 2**10
LEAST_BYTES = 4 * 2**10  # anywhere else: a zip entry's own header, and often what follows it
MOST_AHEAD = 2**20  # when one read follows the other, as in the header of a GGUF file

KEPT_BYTES = 2**30  # for reading again: on a disk, or where /tmp is memory, there

CLOSED = "cannot be read: closed"


class Fetcher:
    """Fetches spans of a file into spools, a few at a time, on fsspec's event loop."""

    def __init__(self, source: Source, patience: Patience) -> None:
        import asyncio

        self.path = source.path
        self._source = source
        self._patience = patience
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._begun: set[Future[None]] = set()

    def begin(self, start: int, stop: int, spool: Spool) -> Future[None]:
        """A span on its way into a spool."""
        import asyncio

        from fsspec.asyn import get_loop

        future = asyncio.run_coroutine_threadsafe(self._fetch(start, stop, spool), get_loop())
        self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        return future

    async def _fetch(self, start: int, stop: int, spool: Spool) -> None:
        async with self._slots:
            await fetch(self._source, start, stop, spool.write, self._patience)

    def cancel(self) -> None:
        """Stop whatever is on its way."""
        for future in list(self._begun):
            future.cancel()


class Region:
    """A tensor's bytes, in pieces that are fetched when they are asked for, or shortly before."""

    def __init__(self, fetcher: Fetcher, start: int, stop: int) -> None:
        self.bounds = start, stop
        self._fetcher = fetcher
        self._spool = Spool(fetcher.path, start)
        self._pieces: dict[int, Future[None]] = {}
        self._lock = threading.Lock()

    @property
    def begun(self) -> int:
        """Bytes that are kept or on their way, at most."""
        return len(self._pieces) * PIECE_BYTES

    def read(self, offset: int, count: int) -> bytes | bytearray:
        """Bytes of the tensor, waited for."""
        start, stop = self.bounds
        first = (offset - start) // PIECE_BYTES
        behind = -(-(offset + count - start) // PIECE_BYTES)
        pieces = -(-(stop - start) // PIECE_BYTES)
        with self._lock:
            asked = [self._piece(number) for number in range(first, behind)]
            for number in range(behind, min(behind + AHEAD, pieces)):
                self._piece(number)
        _wait_for(asked, self._fetcher.path)
        return self._spool.read(offset, count)

    def _piece(self, number: int) -> Future[None]:
        found = self._pieces.get(number)
        if found is None:
            start = self.bounds[0] + number * PIECE_BYTES
            stop = min(start + PIECE_BYTES, self.bounds[1])
            found = self._pieces[number] = self._fetcher.begin(start, stop, self._spool)
        return found

    def cancel(self) -> None:
        """Stop what is on its way."""
        with self._lock:
            for future in self._pieces.values():
                future.cancel()


class Rest:
    """Headers and directories: small reads, most of them at a file's beginning or its end."""

    def __init__(self, fetcher: Fetcher, size: int) -> None:
        self._fetcher = fetcher
        self._size = size
        self._spool = Spool(fetcher.path, 0)
        self._held = Extents()
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes | bytearray:
        """Bytes of the file, waited for."""
        with self._lock:
            if self._held.total > KEPT_BYTES:
                self._spool, self._held = Spool(self._fetcher.path, 0), Extents()
            for start, stop in self._held.gaps(offset, offset + count):
                self._fill(*self._reach(start, stop))
            return self._spool.read(offset, count)

    def keep(self, offset: int, data: bytes) -> None:
        """Take bytes of the file that are known from elsewhere."""
        with self._lock:
            self._spool.write(offset, data)
            self._held.add(offset, offset + len(data))

    def missing(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """What of spans is not held yet."""
        with self._lock:
            return [gap for span in spans for gap in self._held.gaps(*span)]

    def _reach(self, start: int, stop: int) -> tuple[int, int]:
        """How far around a missing span to fetch."""
        before = self._held.end_of(start)
        if start < HEAD_BYTES:
            stop = max(stop, HEAD_BYTES)
        elif stop > self._size - HEAD_BYTES:
            start, stop = min(start, self._size - HEAD_BYTES), self._size
        elif before is not None:
            stop = max(stop, start + MOST_AHEAD)
        return start, min(max(stop, start + LEAST_BYTES), self._size)

    def _fill(self, start: int, stop: int) -> None:
        gaps = self._held.gaps(start, stop)
        spans = [
            (begin, min(begin + PIECE_BYTES, end))
            for first, end in gaps
            for begin in range(first, end, PIECE_BYTES)
        ]
        begun = [self._fetcher.begin(begin, end, self._spool) for begin, end in spans]
        _wait_for(begun, self._fetcher.path)
        for begin, end in spans:
            self._held.add(begin, end)


def _wait_for(futures: Sequence[Future[None]], path: RemotePath) -> None:
    """Wait until all are done; the first failure is raised."""
    try:
        for future in futures:
            future.result()
    except CancelledError as error:
        raise InputRejected(path, CLOSED) from error
