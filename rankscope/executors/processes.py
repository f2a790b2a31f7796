"""In worker processes of this machine.

A process that dies takes only its own item with it: whatever was in flight is tried once more,
each alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from rankscope.blas import THREAD_VARIABLES
from rankscope.executors.base import Done, Item, Result

# glibc gives memory above a threshold back at once and fetches it anew for the next matrix; the
# page faults are a twentieth of a Llama-shaped model's time (docs/performance.md). Other C
# libraries ignore these.
MALLOC_KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}

FEEDER = "QueueFeederThread"  # what multiprocessing and loky call it
FEEDER_SECONDS = 1.0  # it ends within a millisecond, or never

PARENT_SECONDS = 1.0  # how often a worker looks whether its parent is still there


@dataclass(frozen=True, slots=True)
class ProcessExecutor:
    """In worker processes, each with its share of the BLAS threads.

    loky starts them: unlike multiprocessing's own pool it does not import the caller's main
    module again, so that it works from a notebook and an unguarded script.

    Attributes:
        workers: processes at a time.
        threads: BLAS threads of each.
        limit: seconds after which an item counts as hung, and its process is killed; None for
            work that may take any time.
    """

    workers: int
    threads: int = 1
    limit: float | None = None

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
        others = threading.enumerate()
        pool = self._pool(self.workers)
        clean = False
        try:
            # Few in flight: when the pool breaks, each of them has to be tried again.
            suspects += _submit(pool, function, _first(queue, 2 * self.workers), flying)
            while flying:
                finished, _ = wait(flying, self.limit, return_when="FIRST_COMPLETED")
                if not finished:
                    suspects += flying.values()
                    break
                for future in finished:
                    item = flying.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(item)
                        continue
                    if not suspects:
                        suspects += _submit(pool, function, _first(queue, 1), flying)
                    yield Done(item, future.result())
            clean = not suspects
        finally:
            _end(pool, others, kill=not clean)
        return clean

    def _alone(self, function: Callable[[Item], Result], item: Item) -> Done[Item, Result]:
        """The second try of an item that was in flight when a process died."""
        others = threading.enumerate()
        pool = self._pool(1)
        clean = False
        try:
            with interrupts_held():
                future = pool.submit(function, item)
            result = future.result(self.limit)
            clean = True
        except (BrokenProcessPool, TimeoutError):
            return Done(item, None, lost=True)
        finally:
            _end(pool, others, kill=not clean)
        return Done(item, result)

    def _pool(self, workers: int) -> Any:
        from loky import ProcessPoolExecutor

        environment = dict.fromkeys(THREAD_VARIABLES, str(self.threads)) | MALLOC_KEEPS
        with interrupts_held():
            return ProcessPoolExecutor(
                workers, initializer=_begin_worker, initargs=(os.getpid(),), env=environment
            )


def _end(pool: Any, others: Sequence[threading.Thread], *, kill: bool) -> None:
    """Shut a pool down, and wait for the thread that fed it.

    That one is a daemon and frees a semaphore as it ends. Should this process end in between, what
    keeps track of semaphores would tell on stderr of one that leaked.

    Args:
        pool: of loky.
        others: the threads that there were before it.
        kill: its workers are not to be waited for.
    """
    pool.shutdown(wait=True, kill_workers=kill)
    for thread in threading.enumerate():
        # One that is just starting, which is listed too, belongs to a pool beside this one.
        if thread.name == FEEDER and thread not in others and thread.is_alive():
            thread.join(FEEDER_SECONDS)


def _submit(
    pool: Any,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    flying: dict[Future[Result], Item],
) -> list[Item]:
    """Put items in flight; returns those that the pool refused, having broken meanwhile."""
    refused: list[Item] = []
    with interrupts_held():
        for item in items:
            try:
                flying[pool.submit(function, item)] = item
            except BrokenProcessPool:
                refused.append(item)
    return refused


def _first(queue: Iterator[Item], count: int) -> Iterator[Item]:
    for _, item in zip(range(count), queue, strict=False):
        yield item


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes may be started; they inherit that, for good.

    It reaches the whole process group, and the parent alone decides what it means. A worker that
    ignores it only once it runs would print a traceback when it comes earlier, and a pool that is
    interrupted while it starts cannot be shut down.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start would end the block: it lets signals through again without looking.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # Another thread may take the signal all the same; Python then handles it in the main one.
    held: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    ours = handler is not None and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if ours:
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _begin_worker(parent: int) -> None:
    """What a worker does first."""
    # What `interrupts_held` does already, where that can be inherited.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: killed, it cannot tell its workers to go.

    They would wait for work for ever, since each holds both ends of the queue's pipe.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
