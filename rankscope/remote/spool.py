"""Bytes of a remote file that were fetched, in a file of this machine that has no name."""

from __future__ import annotations

import bisect
import os
import tempfile
from pathlib import PurePath

from rankscope.errors import InputRejected


class Spool:
    """A temporary file that holds a span of another one; gone with its last reference.

    Written to and read from at positions, by several threads. Holes take no space.
    """

    def __init__(self, path: PurePath, begin: int) -> None:
        """Make an empty one.

        Args:
            path: the file of which it holds a span, for what is said of it.
            begin: that file's byte that is first here.
        """
        self._path = path
        self._begin = begin
        self._fd = -1
        try:
            with tempfile.TemporaryFile(prefix="rankscope-", buffering=0) as file:
                self._fd = os.dup(file.fileno())
        except OSError as error:
            raise self._full(error) from error

    def write(self, offset: int, data: bytes) -> None:
        """Keep bytes; `InputRejected` where there is no room for them."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, offset - self._begin)
                offset, view = offset + written, view[written:]
        except OSError as error:
            raise self._full(error) from error

    def read(self, offset: int, count: int) -> bytes | bytearray:
        """Bytes that were kept."""
        data = os.pread(self._fd, count, offset - self._begin)
        if len(data) == count:
            return data
        whole = bytearray(data)  # one call returns at most about 2 GiB on Linux
        while len(whole) < count:
            position = offset - self._begin + len(whole)
            more = os.pread(self._fd, count - len(whole), position)
            if not more:
                raise AssertionError("only what was kept is read")
            whole += more
        return whole

    def _full(self, error: OSError) -> InputRejected:
        return InputRejected(
            self._path,
            f"what is fetched cannot be kept in {tempfile.gettempdir()}: {error.strerror}; "
            "set TMPDIR to a directory with more room",
        )

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Extents:
    """Which bytes are there: spans that neither touch nor overlap, ascending.

    >>> held = Extents()
    >>> held.add(0, 10)
    >>> held.add(20, 30)
    >>> held.gaps(5, 25), held.end_of(3), held.total
    ([(10, 20)], 10, 20)
    """

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        """Bytes from `start` to before `stop` are there now."""
        first = bisect.bisect_left(self._spans, start, key=lambda span: span[1])
        last = bisect.bisect_right(self._spans, stop, key=lambda span: span[0])
        for begin, end in self._spans[first:last]:
            start, stop = min(start, begin), max(stop, end)
        self._spans[first:last] = [(start, stop)]

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What is missing from `start` to before `stop`."""
        found = []
        first = bisect.bisect_right(self._spans, start, key=lambda span: span[1])
        for begin, end in self._spans[first:]:
            if begin >= stop:
                break
            if start < begin:
                found.append((start, begin))
            start = max(start, end)
        return [*found, (start, stop)] if start < stop else found

    def end_of(self, position: int) -> int | None:
        """Where the span ends that holds or ends at a position; None when there is none."""
        at = bisect.bisect_left(self._spans, position, key=lambda span: span[1])
        if at < len(self._spans) and self._spans[at][0] <= position:
            return self._spans[at][1]
        return None

    @property
    def total(self) -> int:
        """How many bytes are there."""
        return sum(stop - start for start, stop in self._spans)
