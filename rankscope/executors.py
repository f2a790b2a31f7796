"""Where work runs: in this process, or in worker processes of this machine.

An executor takes items in order and yields each with its result, as they come. A process that
dies takes only its own item with it: whatever was in flight is tried once more, each alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Every BLAS that NumPy is built with reads one of these when it is loaded.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Done(Generic[Item, Result]):
    """An item and its result; `lost` when the process died on it, twice."""

    item: Item
    result: Result | None
    lost: bool = False


class Executor(Protocol):
    """Runs a function over items."""

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion."""


class InlineExecutor:
    """In this process, one after the other, with all BLAS threads."""

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order given."""
        for item in items:
            yield Done(item, function(item))


@dataclass(frozen=True, slots=True)
class ProcessExecutor:
    """In worker processes, each with its share of the BLAS threads.

    loky starts them: unlike multiprocessing's own pool it does not import the caller's main
    module again, so that it works from a notebook and an unguarded script.

    Attributes:
        workers: processes at a time.
        threads: BLAS threads of each.
    """

    workers: int
    threads: int = 1

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion."""
        queue = iter(items)
        exhausted = False
        while not exhausted:
            suspects: list[Item] = []
            exhausted = yield from self._until_broken(function, queue, suspects)
            for item in suspects:
                yield self._alone(function, item)

    def _until_broken(
        self, function: Callable[[Item], Result], queue: Iterator[Item], suspects: list[Item]
    ) -> Generator[Done[Item, Result], None, bool]:
        """One pool's life: yields results; returns True at the end of the queue."""
        flying: dict[Future[Result], Item] = {}
        pool = self._pool(self.workers)
        clean = False
        try:
            # Few in flight: when the pool breaks, each of them has to be tried again.
            for item in _first(queue, 2 * self.workers):
                flying[pool.submit(function, item)] = item
            while flying:
                finished, _ = wait(flying, return_when="FIRST_COMPLETED")
                for future in finished:
                    result = future.result()
                    item = flying.pop(future)
                    for new in _first(queue, 1):
                        flying[pool.submit(function, new)] = new
                    yield Done(item, result)
            clean = True
        except BrokenProcessPool:
            suspects += flying.values()
        finally:
            pool.shutdown(wait=True, kill_workers=not clean)
        return clean

    def _alone(self, function: Callable[[Item], Result], item: Item) -> Done[Item, Result]:
        """The second try of an item that was in flight when a process died."""
        pool = self._pool(1)
        clean = False
        try:
            result = pool.submit(function, item).result()
            clean = True
        except BrokenProcessPool:
            return Done(item, None, lost=True)
        finally:
            pool.shutdown(wait=True, kill_workers=not clean)
        return Done(item, result)

    def _pool(self, workers: int) -> Any:
        from loky import ProcessPoolExecutor

        threads = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        return ProcessPoolExecutor(workers, initializer=_ignore_interrupts, env=threads)


def _first(queue: Iterator[Item], count: int) -> Iterator[Item]:
    for _, item in zip(range(count), queue, strict=False):
        yield item


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole process group; the parent alone decides what it means."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def available_cores() -> int:
    """The cores that this process may use, by affinity and control group."""
    from loky import cpu_count

    return int(cpu_count())
