"""In this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rankscope.blas import blas_threads
from rankscope.executors.base import Done, Item, Result


@dataclass(frozen=True, slots=True)
class InlineExecutor:
    """In this process, one after the other.

    Attributes:
        threads: BLAS threads.
    """

    threads: int = 1

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order given."""
        with blas_threads(self.threads):
            for item in items:
                yield Done(item, function(item))
