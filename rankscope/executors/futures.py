"""On any executor of `concurrent.futures`, which somebody else owns."""

from __future__ import annotations

import concurrent.futures
import os
import platform
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue

from rankscope.blas import blas_threads, keep_to_one_thread
from rankscope.errors import RankScopeError
from rankscope.executors.base import Done, Item, Result
from rankscope.executors.processes import ProcessExecutor

AHEAD = 2  # in flight for each worker: one that is done finds the next one there

# Where a pool does not tell how many workers it has (Dask's does not): items are small, and a
# cluster of this many is kept busy.
UNTOLD_WORKERS = 64


class PoolBroken(RankScopeError):
    """An executor that was given cannot be used any more; what was finished is kept."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class FuturesExecutor:
    """On an executor of `concurrent.futures`; it is not shut down.

    A pool of processes breaks when one of them dies, for good, and does not tell which item it
    was. What was in flight, and what was left, is then done by processes of our own, where a
    death takes its own item only.

    Attributes:
        pool: threads, processes, or somebody's cluster.
        in_flight: items at a time; None for twice as many as there are workers.
    """

    pool: concurrent.futures.Executor
    in_flight: int | None = None

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion.

        Raises:
            PoolBroken: the pool takes no more work, and is not of this machine's processes.
        """
        queue = iter(items)
        suspects: list[Item] = []
        # Threads share this process's BLAS; its libraries are looked through once, here.
        with blas_threads(1):
            yield from self._until_broken(function, queue, suspects)
        if suspects:
            others = ProcessExecutor(_workers(self.pool) or 1)
            yield from others.run(function, chain(suspects, queue))

    def _until_broken(
        self, function: Callable[[Item], Result], queue: Iterator[Item], suspects: list[Item]
    ) -> Generator[Done[Item, Result], None, None]:
        """Yields results; leaves in `suspects` what a pool of processes had when it broke."""
        call = partial(_call, _this_process(), function)
        flying: dict[Future[Result], Item] = {}
        # By callbacks: `wait` would never see what the pool's owner cancels by shutting it down.
        landed: SimpleQueue[Future[Result]] = SimpleQueue()
        room = self.in_flight or AHEAD * (_workers(self.pool) or UNTOLD_WORKERS)
        try:
            while True:
                for item in islice(queue, 0 if suspects else room - len(flying)):
                    future = self._submit(call, item)
                    if future is None:
                        suspects.append(item)
                        break
                    flying[future] = item
                    future.add_done_callback(landed.put)
                if not flying:
                    return
                future = landed.get()
                item = flying.pop(future)
                if _broke(future):
                    suspects.append(item)
                else:
                    yield Done(item, future.result())
        finally:
            for future in flying:
                future.cancel()
            while flying:
                del flying[landed.get()]

    def _submit(self, call: Callable[[Item], Result], item: Item) -> Future[Result] | None:
        """An item in flight; None where a pool of processes is broken."""
        try:
            return self.pool.submit(call, item)
        except BrokenProcessPool:
            return None
        except (BrokenExecutor, RuntimeError) as error:  # RuntimeError: it was shut down
            raise _unusable(error) from error


def _broke(future: Future[Result]) -> bool:
    """Whether the death of a process ended it."""
    try:
        error = future.exception()
    except CancelledError as cancelled:
        raise _unusable(cancelled) from cancelled
    if isinstance(error, BrokenExecutor) and not isinstance(error, BrokenProcessPool):
        raise _unusable(error) from error
    return isinstance(error, BrokenProcessPool)


def _unusable(error: BaseException) -> PoolBroken:
    told = str(error) or type(error).__name__
    return PoolBroken(
        f"the executor that was given takes no more work ({told}); what was finished is kept: "
        "measure again with another one"
    )


def _workers(pool: concurrent.futures.Executor) -> int | None:
    """How many a pool has, as threads, processes and loky's (`_max_workers`) and MPI's tell it."""
    for name in ("_max_workers", "num_workers"):
        count = getattr(pool, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return None


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _call(home: tuple[str, int], function: Callable[[Item], Result], item: Item) -> Result:
    """In a process of others: one BLAS thread. In the caller's own, `run` has seen to it."""
    if _this_process() != home:
        keep_to_one_thread()
    return function(item)
