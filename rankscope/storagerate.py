"""How fast the files of a place are read: a sample of their own bytes, cold or warm."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

from rankscope.files import open_file
from rankscope.rates import Storage

PIECE = 2**21  # bytes: a worker's reads are of this size and above
PIECES = 16  # 32 MiB in all: a quarter of a second of the slowest disk that is worth planning for
READERS = 4  # at once: network file systems and object stores give more to several
PROBES = 8  # of each piece: whether its pages are in memory


@dataclass(frozen=True, slots=True)
class _Read:
    """A piece that was read: its bytes, seconds, and the share of it that was in memory."""

    size: int
    seconds: float
    cached: float | None


def storage_rate(paths: Sequence[PurePath]) -> Storage:
    """The rate of reading these files, of at most 32 MiB of them.

    Raises:
        InputRejected: a file cannot be read.
    """
    wanted = [piece for path in paths for piece in _pieces(path)]
    # Evenly over all files: the last ones written may be in memory and the others not.
    step = max(1, len(wanted) // PIECES)
    chosen = wanted[::step][:PIECES]
    start = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(_read, chosen))
    passed = time.perf_counter() - start
    again = [_read(piece) for piece in chosen[:READERS]]
    told = [one.cached for one in found if one.cached is not None]
    cached = sum(told) / len(told) if told else None
    size = sum(one.size for one in found)
    warm = _rate(again)
    fresh = sum(one.size for one in found if one.cached is not None and one.cached < 1.0)
    # What was in memory took next to none of the time.
    cold = fresh / passed if fresh else None
    return Storage(
        str(paths[0]) if paths else "", cached, warm, cold, size + sum(one.size for one in again)
    )


def _pieces(path: PurePath) -> list[tuple[PurePath, int, int]]:
    """A file in pieces: (path, offset, bytes), the last one shorter."""
    file = open_file(path)
    size = file.size
    file.close()
    return [(path, start, min(PIECE, size - start)) for start in range(0, size, PIECE)]


def _rate(reads: Sequence[_Read]) -> float:
    seconds = sum(one.seconds for one in reads)
    return sum(one.size for one in reads) / seconds if seconds else float(PIECE)


def _read(piece: tuple[PurePath, int, int]) -> _Read:
    path, offset, count = piece
    file = open_file(path)
    try:
        cached = _cached(path, offset, count) if isinstance(path, Path) else 0.0
        start = time.perf_counter()
        file.read(offset, count)
        return _Read(count, time.perf_counter() - start, cached)
    finally:
        file.close()


def _cached(path: Path, offset: int, count: int) -> float | None:
    """The share of a piece's pages in memory, by reads that must not wait; None if none can be.

    Linux alone tells, and not of every file system (preadv2(2), RWF_NOWAIT).
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    there = 0
    with open(path, "rb", buffering=0) as file:
        for probe in range(PROBES):
            try:
                got = os.preadv(
                    file.fileno(), [bytearray(1)], offset + probe * count // PROBES, os.RWF_NOWAIT
                )
                there += got > 0
            except BlockingIOError:
                continue
            except OSError:  # EOPNOTSUPP
                return None
    return there / PROBES
