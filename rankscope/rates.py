"""What a machine can do, as a plan reckons with it: the record, and seconds from it.

Pure functions of numbers that `rankscope.calibration` has measured, here or elsewhere: a plan may
be made with the rates of another machine.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rankscope.errors import InputRejected
from rankscope.jsonobject import JsonObject

SCHEMA = "rankscope/rates/1"

# Passes over the Gram matrix that adding one block's product takes when it lies in no cache:
# NumPy mirrors the triangle that BLAS has written, line by line, and the sum reads two matrices
# and writes one. Measured at n = 2048 to 8192: 7 to 10 at the rate of a matrix-vector product.
BLOCK_PASSES = 9.0

Curve = tuple[tuple[int, float], ...]  # (order, value), orders ascending


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one process does on one thread.

    Attributes:
        gram: order -> flop/s of A A^T in float64, m n^2 operations for an n x m block.
        eigen: order -> seconds of LAPACK's values-only symmetric eigensolver.
        svd: order -> seconds of LAPACK's values-only SVD of a triangle.
        qr: flop/s of a QR decomposition, R only.
        bandwidth: bytes/s of a matrix-vector product with a matrix that lies in no cache.
        convert: dtype -> seconds per element, to float64 with the norms of both sides.
        hashing: bytes/s of SHA-256.
    """

    gram: Curve
    eigen: Curve
    svd: Curve
    qr: float
    bandwidth: float
    convert: tuple[tuple[str, float], ...]
    hashing: float

    def product_seconds(self, long: int, small: int, block_elements: int) -> float:
        """The Gram matrix of order `small`, summed over blocks of the long side."""
        flops = float(long) * small**2
        seconds = flops / _at(self.gram, small) if flops else 0.0
        if small > self.gram[-1][0]:  # of smaller ones, the rate itself has it
            blocks = math.ceil(long * small / block_elements)
            seconds += blocks * BLOCK_PASSES * 8.0 * small**2 / self.bandwidth
        return seconds

    def eigen_seconds(self, order: int) -> float:
        """The eigenvalues of a matrix of this order.

        Beyond the largest that was measured: half of the reduction's 4/3 n^3 operations are
        products of the triangle that is left with a vector, which wait for memory at 4 bytes per
        two operations; the others run as a matrix product does (Dongarra, Sorensen & Hammarling
        1989, doi:10.1016/0377-0427(89)90367-1).
        """
        largest, known = self.eigen[-1]
        if order <= largest:
            return _at(self.eigen, order)
        half = 2.0 / 3.0 * (float(order) ** 3 - float(largest) ** 3)
        return known + half / (self.bandwidth / 2.0) + half / self.gram[-1][1]

    def qr_seconds(self, long: int, small: int, block_elements: int) -> float:
        """The triangular factor, block by block; nothing of a square matrix.

        2 m n^2 - 2/3 n^3 operations for m x n; the factor stands above each block but the first.
        """
        if long == small:
            return 0.0
        rows = max(block_elements, small**2) / small
        stacked = long + small * max(0, math.ceil(long / rows) - 1)
        return (2.0 * stacked - 2.0 / 3.0 * small) * small**2 / self.qr

    def svd_seconds(self, order: int) -> float:
        """The singular values of a triangle.

        As `eigen_seconds`: half of 8/3 n^3 operations wait for memory, 8 bytes per two of them.
        """
        largest, known = self.svd[-1]
        if order <= largest:
            return _at(self.svd, order)
        half = 4.0 / 3.0 * (float(order) ** 3 - float(largest) ** 3)
        return known + half / (self.bandwidth / 4.0) + half / self.gram[-1][1]

    def convert_seconds(self, elements: int, dtype: str) -> float:
        """Stored elements to float64, and their norms; of types not measured, the slowest."""
        rates = dict(self.convert)
        return elements * rates.get(dtype, max(rates.values()))


@dataclass(frozen=True, slots=True)
class Storage:
    """How fast the bytes of one place come.

    Attributes:
        place: the path whose files were sampled.
        cached: the share of the sampled pages that lay in this machine's memory; None where that
            cannot be told.
        warm: bytes/s of what is in memory, one process.
        cold: bytes/s of what is not, for all processes together; None where nothing was read cold.
        sampled: bytes that were read to learn this.
    """

    place: str
    cached: float | None
    warm: float
    cold: float | None
    sampled: int

    def cold_bytes(self, size: float) -> float:
        """How many of so many bytes are not in this machine's memory."""
        return 0.0 if self.cold is None else size * (1.0 - (self.cached or 0.0))


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine does in how long.

    Attributes:
        machine: what it is, in words.
        cores: that a process may use.
        processes: in how many at a time `together` was measured.
        alone: of one process while nothing else of ours runs.
        together: of each of `processes` that run at the same time.
        threaded: how many times faster than one core all are on one matrix: (product, eigenvalues).
        command: seconds that a command takes around its work: the interpreter, imports, the table.
        workers: seconds until worker processes have started.
        task: seconds that a task takes beside its matrices: opening the file.
        matrix: seconds of a matrix beside arithmetic on its entries, in the worker.
        row: seconds of a matrix in the process that collects them.
        spread: how far rounds of the same measurement lay apart: half of slowest minus fastest,
            over the median.
        share: of the time, that this machine's cores were given to it; less than 1 where others
            use them.
        seconds: what measuring took.
        storage: of the place that the plan is for.
    """

    machine: str
    cores: int
    processes: int
    alone: Speeds
    together: Speeds
    threaded: tuple[float, float]
    command: float
    workers: float
    task: float
    matrix: float
    row: float
    spread: float
    share: float
    seconds: float
    storage: Storage

    def crowd(self, workers: int) -> float:
        """How far so many workers slow each other: 0 for one alone, 1 for all that were measured.

        Beyond the cores of this machine they stand for others like it, each as busy.
        """
        busy = min(workers, self.cores)
        if self.processes < 2 or busy < 2:
            return 0.0
        return min(1.0, (busy - 1) / (self.processes - 1))

    def speedups(self, threads: int) -> tuple[float, float]:
        """Of a matrix on so many threads: (product, eigenvalues), a power law up to all cores."""
        if threads < 2 or self.cores < 2:
            return 1.0, 1.0
        share = math.log(min(threads, self.cores)) / math.log(self.cores)
        return self.threaded[0] ** share, self.threaded[1] ** share

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {"schema": SCHEMA, **asdict(self)}


def _at(curve: Curve, order: int) -> float:
    """The value at an order, straight between logarithms; constant outside of the curve."""
    orders = [one for one, _ in curve]
    place = bisect.bisect_left(orders, order)
    if place == len(curve):
        return curve[-1][1]
    if orders[place] == order or place == 0:
        # Below the smallest, calls cost what they cost.
        return curve[place][1]
    (low, before), (high, after) = curve[place - 1], curve[place]
    share = math.log(order / low) / math.log(high / low)
    return float(before * (after / before) ** share)


def rates_of(path: Path, value: object) -> Rates:
    """The rates in a parsed JSON document: `to_document`, or a plan that holds them.

    Raises:
        InputRejected: it is neither.
    """
    whole = JsonObject(path, "", value)
    plan = whole.object("plan")
    found = whole if plan is None else plan.needed("rates", plan.object("rates"))
    if found.text("schema") != SCHEMA:
        raise found.wrong("schema", f'"{SCHEMA}"')
    storage = found.needed("storage", found.object("storage"))
    cold = storage.number("cold", 0.0)
    numbers = ("command", "workers", "task", "matrix", "row", "spread", "share", "seconds")
    first, second = _numbers(path, found.array("threaded"), 2)
    return Rates(
        machine=found.text("machine") or "",
        cores=_whole(found, "cores"),
        processes=_whole(found, "processes"),
        alone=_speeds(path, found, "alone"),
        together=_speeds(path, found, "together"),
        threaded=(first, second),
        storage=Storage(
            storage.text("place") or "",
            storage.number("cached", 0.0),
            _rate(storage, "warm"),
            cold if cold is None or cold > 0 else None,
            storage.needed("sampled", storage.integer("sampled", 0)),
        ),
        **{name: found.needed(name, found.number(name, 0.0)) for name in numbers},
    )


def _speeds(path: Path, rates: JsonObject, key: str) -> Speeds:
    found = rates.needed(key, rates.object(key))
    convert = []
    for item in found.array("convert"):
        name, seconds = item if isinstance(item, list) and len(item) == 2 else (None, None)
        if not isinstance(name, str):
            raise found.wrong("convert", "pairs of a type and seconds")
        convert.append((name, _numbers(path, [seconds], 1)[0]))
    gram, eigen, svd = (_curve(path, found, name) for name in ("gram", "eigen", "svd"))
    if not convert:
        raise found.wrong("convert", "at least one type")
    qr, bandwidth, hashing = (_rate(found, name) for name in ("qr", "bandwidth", "hashing"))
    return Speeds(gram, eigen, svd, qr, bandwidth, tuple(convert), hashing)


def _curve(path: Path, found: JsonObject, key: str) -> Curve:
    points = []
    for item in found.array(key):
        order, value = _numbers(path, item if isinstance(item, list) else [item], 2)
        points.append((int(order), value))
    if not points or any(a[0] >= b[0] for a, b in itertools.pairwise(points)):
        raise found.wrong(key, "points of ascending order")
    return tuple(points)


def _numbers(path: Path, values: Sequence[object], count: int) -> list[float]:
    """So many positive numbers."""
    good = [float(v) for v in values if isinstance(v, int | float) and 0 < v < math.inf]
    if len(good) != count or len(values) != count:
        raise InputRejected(path, f"holds {values!r:.60}, expected {count} positive numbers")
    return good


def _rate(found: JsonObject, key: str) -> float:
    value = found.needed(key, found.number(key, 0.0))
    if value == 0:
        raise found.wrong(key, "a rate above 0")
    return value


def _whole(found: JsonObject, key: str) -> int:
    return found.needed(key, found.integer(key, 1))
