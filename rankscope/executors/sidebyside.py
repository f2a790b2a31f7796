"""Several executors over one queue of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from rankscope.executors.base import Done, Executor, Item, Result


@dataclass(frozen=True, slots=True)
class SideBySideExecutor:
    """Each executor draws the next item when it is free, in a thread of its own.

    What one of them loses, it tries again by itself; the others go on. Closed early, what is in
    flight is waited for.

    Attributes:
        executors: at least one.
    """

    executors: tuple[Executor, ...]

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Done[Item, Result], None, None]:
        """Each item with its result, in the order of completion."""
        shared = _Shared(iter(items))
        results: queue.SimpleQueue[Done[Item, Result] | BaseException | None] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_drive, args=(executor, function, shared, results.put))
            for executor in self.executors
        ]
        try:
            for thread in threads:
                thread.start()
            working = len(threads)
            while working:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    working -= 1
                else:
                    yield result
        finally:
            shared.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()


@dataclass(slots=True)
class _Shared(Iterator[Item]):
    """An iterator that several threads draw from, until it is stopped."""

    items: Iterator[Item]
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __iter__(self) -> _Shared[Item]:
        return self

    def __next__(self) -> Item:
        with self.lock:
            if self.stopped:
                raise StopIteration
            return next(self.items)

    def stop(self) -> None:
        """Nothing is drawn any more."""
        with self.lock:
            self.stopped = True


def _drive(
    executor: Executor,
    function: Callable[[Item], Result],
    shared: _Shared[Item],
    put: Callable[[Done[Item, Result] | BaseException | None], None],
) -> None:
    """Run an executor on what it draws; ends with None, or with what was raised."""
    try:
        done = executor.run(function, shared)
        try:
            for one in done:
                put(one)
                if shared.stopped:
                    break
        finally:
            if isinstance(done, Generator):
                done.close()
    except BaseException as error:
        put(error)
        return
    put(None)
