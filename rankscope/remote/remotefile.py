"""A file behind a URL, read at given offsets: only ranges are asked for, each byte once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import lru_cache

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.looking import file_status
from rankscope.remote.patience import PATIENT, Patience
from rankscope.remote.pieces import CLOSED, HEAD_BYTES, KEPT_BYTES, Fetcher, Region, Rest
from rankscope.remote.sources import Source, compressed, fetch, source_of
from rankscope.remote.status import Status
from rankscope.remote.together import together
from rankscope.remote.webserver import UNKNOWN

# Kept for reading again: a matrix is hashed, then decomposed, and may be made of several tensors
# (weights, scales, zeros; two factors).
TENSORS_KEPT = 8

HEADS = 32  # beginnings that are remembered: 4 MB


class RemoteFile:
    """A file behind a URL, in the version that was there when it was opened.

    May be read from several threads.

    Attributes:
        path: as given.
        size: bytes when opened.
    """

    def __init__(self, path: RemotePath, patience: Patience = PATIENT) -> None:
        self.path = path
        self._regions: list[Region] = []
        self._lock = threading.Lock()
        self._source: Source | None = None
        found = file_status(path, "cannot be opened")
        if found.coding:
            raise InputRejected(path, compressed(found.coding))
        if found.size == UNKNOWN:
            raise InputRejected(
                path, "the server does not tell its size: download the file, or give --download"
            )
        self.size = found.size
        self._found, self._patience = found, patience
        self._source = source_of(path, found, patience)
        self._fetcher = Fetcher(self._source, patience)
        self._rest = Rest(self._fetcher, self.size)
        # Without a tag, nothing tells whether what is remembered is still the file's.
        self._head = (path, found, patience) if found.tag else None

    def read(
        self, offset: int, count: int, within: tuple[int, int] | None = None
    ) -> bytes | bytearray:
        """Exactly `count` bytes at `offset`; `InputRejected` if the file ends before.

        Args:
            offset: the first byte.
            count: how many.
            within: where the tensor begins and ends that they are of: more of it is fetched
                ahead, and nothing beyond.
        """
        if self._source is None:
            raise InputRejected(self.path, CLOSED)
        if offset + count > self.size:
            raise InputRejected(
                self.path,
                f"ends at byte {self.size}, expected {offset + count}: "
                "truncated or replaced while it was read",
            )
        if count == 0:
            return b""
        if within is None or not within[0] <= offset <= offset + count <= within[1]:
            if offset < HEAD_BYTES:
                self._keep_head()
            return self._rest.read(offset, count)
        return self._region(within[0], min(within[1], self.size)).read(offset, count)

    def prepare(self, spans: Iterable[tuple[int, int]]) -> None:
        """As of `RandomAccessFile`: they are held from now on."""
        if self._source is None:
            raise InputRejected(self.path, CLOSED)
        self._keep_head()
        missing = self._rest.missing(spans)
        for start, data in together(self.path, self._found, missing, self._patience):
            self._rest.keep(start, data)

    def _keep_head(self) -> None:
        if self._head is not None:
            self._rest.keep(0, _head_of(*self._head))
            self._head = None

    def _region(self, start: int, stop: int) -> Region:
        """What is kept of a tensor; the least used of the others is forgotten."""
        with self._lock:
            found = next((one for one in self._regions if one.bounds == (start, stop)), None)
            if found is None:
                found = Region(self._fetcher, start, stop)
            self._regions = [one for one in self._regions if one is not found] + [found]
            while len(self._regions) > 1 and (
                len(self._regions) > TENSORS_KEPT
                or sum(one.begun for one in self._regions) > KEPT_BYTES
            ):
                self._regions.pop(0).cancel()
            return found

    def close(self) -> None:
        """Ask for nothing more, and forget what was fetched; closing twice is fine."""
        if self._source is not None:
            self._source = None
            self._fetcher.cancel()
            with self._lock:
                self._regions.clear()

    def __del__(self) -> None:
        self.close() if hasattr(self, "_rest") else None


@lru_cache(maxsize=HEADS)
def _head_of(path: RemotePath, found: Status, patience: Patience) -> bytes:
    """How a version of a file begins: a checkpoint is recognised, listed and opened in turn."""
    from fsspec.asyn import get_loop, sync

    data = bytearray()
    sync(
        get_loop(),
        fetch,
        source_of(path, found, patience),
        0,
        min(HEAD_BYTES, found.size),
        lambda _, chunk: data.extend(chunk),
        patience,
    )
    return bytes(data)
