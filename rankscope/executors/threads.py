"""In threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from rankscope.blas import blas_threads
from rankscope.executors.base import Done, Item, Result


@dataclass(frozen=True, slots=True)
class ThreadExecutor:
    """In threads of this process, each with one BLAS thread: nothing to start, for little work.

    NumPy lets go of the interpreter while BLAS, LAPACK and the kernel work.

    Attributes:
        workers: threads at a time.
    """

    workers: int

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion."""
        pool = ThreadPoolExecutor(self.workers)
        with blas_threads(1):
            try:
                flying = {pool.submit(function, item): item for item in items}
                for future in as_completed(flying):
                    yield Done(flying[future], future.result())
            finally:
                pool.shutdown(cancel_futures=True)
