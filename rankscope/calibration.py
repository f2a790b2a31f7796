"""What this machine can do: the rates that a plan reckons with, measured in a second or two.

With the routes' own calls, in as many worker processes at a time as there are cores: memory is
shared, and what one process does alone tells little of what each of several does.
"""

from __future__ import annotations

import hashlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from rankscope.blas import blas_threads
from rankscope.dtypes import FLOATS, numpy_dtype
from rankscope.executors import ProcessExecutor, available_cores
from rankscope.overheads import command_seconds, overheads, seconds_of
from rankscope.rates import Curve, Rates, Speeds, Storage
from rankscope.solvers.entries import Block, EntryNorms

# Between them, straight between logarithms. The last eigenproblem takes a fifth of a second and
# is larger than most caches; what is larger still follows from the rate of memory.
GRAM_ORDERS = (16, 64, 256, 1024)
EIGEN_ORDERS = (16, 64, 128, 256, 512, 1024, 1536)
SVD_ORDERS = (16, 64, 256, 512)
QR_ORDER = 384
BANDWIDTH_ORDER = 3072  # 75 MB: more than a core's share of any cache
CONVERTED = 2**20  # elements: 8 MiB, as a block is larger than the nearest caches

MOST_PROCESSES = 8  # at a time: more cores wait for the same memory in the same way
ROUNDS = 2  # of each process, of which the median counts

THREAD_PAIRS = 3  # of one thread and all


@dataclass(frozen=True, slots=True)
class _Sampling:
    """What a process is to measure: nothing above the largest order, each of these types."""

    largest: int
    dtypes: tuple[str, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class _Sampled:
    """When a process began, by the wall clock; and of each round the speeds, and how long it took.

    Rounds do the same, so that their times tell how far the machine can be relied on. `share` is of
    processor time in all of it.
    """

    begun: float
    share: float
    rounds: tuple[tuple[Speeds, float], ...]


def measured_rates(
    storage: Storage, largest: int, dtypes: Sequence[str], workers: int | None = None
) -> Rates:
    """The rates of this machine.

    Args:
        storage: of the place that is planned for.
        largest: the largest order that will be decomposed; nothing larger is measured.
        dtypes: the stored types that will be converted; float32 without any.
        workers: that the plan is for; None for one per core.
    """
    started = time.perf_counter()
    cores = available_cores()
    processes = max(1, min(cores, workers or cores, MOST_PROCESSES))
    types = tuple(name for name in dict.fromkeys(dtypes) if name in FLOATS) or ("float32",)
    one = _Sampling(largest, types, 1)
    with blas_threads(1):
        alone = _sample(one).rounds
        task, matrix, row = overheads()
    begun = time.time()
    several = _Sampling(largest, types, ROUNDS)
    found = [
        done.result
        for done in ProcessExecutor(processes, 1).run(_sample, [several] * processes)
        if done.result is not None
    ]
    rounds = [one for sampled in found for one in sampled.rounds]
    times = sorted(seconds for _, seconds in rounds)
    return Rates(
        machine=f"{platform.system()} {platform.machine()}, {cores} cores",
        cores=cores,
        processes=processes,
        alone=_middle([speeds for speeds, _ in alone]),
        together=_middle([speeds for speeds, _ in rounds]),
        threaded=_threaded(min(largest, GRAM_ORDERS[-1]), cores),
        command=command_seconds(),
        workers=max(0.0, statistics.median(one.begun for one in found) - begun),
        task=task,
        matrix=matrix,
        row=row,
        spread=(times[-1] - times[0]) / 2 / statistics.median(times),
        share=statistics.mean(one.share for one in found),
        seconds=time.perf_counter() - started,
        storage=storage,
    )


def _sample(job: _Sampling) -> _Sampled:
    begun = time.time()
    _product_rate(64)  # the first call of a BLAS prepares its memory
    rounds = []
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(job.rounds):
        start = time.perf_counter()
        speeds = _speeds(job)
        rounds.append((speeds, time.perf_counter() - start))
    share = (time.process_time() - processor) / (time.perf_counter() - wall)
    return _Sampled(begun, min(1.0, share), tuple(rounds))


def _speeds(job: _Sampling) -> Speeds:
    rng = np.random.default_rng(0)
    square = np.ones((QR_ORDER, QR_ORDER)) + np.diag(np.arange(QR_ORDER))
    tall = np.concatenate([square, square])
    numbers = rng.standard_normal(CONVERTED)
    content = numbers.tobytes()
    # m n^2 operations twice over, less a third of n^3 twice over.
    qr = (2.0 * 2.0 - 2.0 / 3.0) * QR_ORDER**3
    return Speeds(
        gram=tuple((n, _product_rate(n)) for n in _up_to(GRAM_ORDERS, job.largest)),
        eigen=_decompositions(_symmetric, np.linalg.eigvalsh, _up_to(EIGEN_ORDERS, job.largest)),
        svd=_decompositions(_triangle, _values, _up_to(SVD_ORDERS, job.largest)),
        qr=qr / seconds_of(lambda: np.linalg.qr(tall, mode="r")),
        bandwidth=_bandwidth(),
        convert=tuple((name, _conversion(numbers, name)) for name in job.dtypes),
        hashing=len(content) / seconds_of(lambda: hashlib.sha256(content).digest()),
    )


def _up_to(orders: Sequence[int], largest: int) -> list[int]:
    """Those below the largest that is needed, and the next one."""
    below = [order for order in orders if order < largest]
    return list(orders[: len(below) + 1])


def _product_rate(order: int) -> float:
    """flop/s of the Gram product, of blocks four times as long as the small side."""
    block = np.ones((order, 4 * order))
    out = np.empty((order, order))
    return 4.0 * order**3 / seconds_of(lambda: np.matmul(block, block.T, out=out))


def _symmetric(order: int) -> Block:
    """A Gram matrix: that of a Gaussian one, whose eigenvalues lie as those of weights do."""
    numbers = np.random.default_rng(order).standard_normal((order, 2 * order))
    return numbers @ numbers.T


def _triangle(order: int) -> Block:
    return np.triu(np.random.default_rng(order).standard_normal((order, order)))


def _values(matrix: Block) -> object:
    return np.linalg.svd(matrix, compute_uv=False)


def _decompositions(
    make: Callable[[int], Block],
    decompose: Callable[[Block], object],
    orders: Sequence[int],
) -> Curve:
    found = []
    for order in orders:
        matrix = make(order)
        found.append((order, seconds_of(partial(decompose, matrix))))
    return tuple(found)


def _bandwidth() -> float:
    matrix = np.ones((BANDWIDTH_ORDER, BANDWIDTH_ORDER))
    vector = np.ones(BANDWIDTH_ORDER)
    return matrix.nbytes / seconds_of(lambda: matrix @ vector)


def _conversion(numbers: Block, dtype: str) -> float:
    """Seconds per element of what both routes do with a block before they decompose."""
    stored = numbers.astype(numpy_dtype(dtype)).reshape(1024, -1)
    block = np.empty(stored.shape)
    norms = EntryNorms(np.zeros(len(block)), np.zeros(len(block), np.bool_))

    def convert() -> None:
        np.multiply(stored, 1.0, out=block, dtype=np.float64, casting="unsafe")
        norms.add_long(block)

    return seconds_of(convert) / stored.size


def _middle(rounds: Sequence[Speeds]) -> Speeds:
    """Of each quantity the median over the rounds."""

    def middle(values: Sequence[Any]) -> Any:
        if isinstance(values[0], float):
            return statistics.median(values)
        # Pairs of what was measured, the same in every round, and its number.
        return tuple(
            (same[0][0], statistics.median(one[1] for one in same))
            for same in zip(*values, strict=True)
        )

    return Speeds(*(middle([getattr(one, part.name) for one in rounds]) for part in fields(Speeds)))


def _threaded(order: int, cores: int) -> tuple[float, float]:
    """How many times faster all cores are than one on one matrix: (product, eigenvalues).

    In turns, of which the median counts: threads that wait for each other on a machine that is
    used by others take a hundred times as long now and then.
    """
    if cores < 2:
        return 1.0, 1.0
    matrix = _symmetric(max(GRAM_ORDERS[0], order))

    def pair(call: Callable[[], object]) -> float:
        seconds = []
        for threads in (1, cores):
            with blas_threads(threads):
                seconds.append(seconds_of(call))
        return seconds[0] / seconds[1]

    calls = (lambda: np.matmul(matrix, matrix.T), lambda: np.linalg.eigvalsh(matrix))
    first, second = (statistics.median(pair(call) for _ in range(THREAD_PAIRS)) for call in calls)
    return first, second
