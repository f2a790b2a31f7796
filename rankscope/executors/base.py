"""What an executor is: it takes items in order and yields each with its result, as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[Item, Result]):
    """An item and its result; `lost` when the process died or hung on it, twice."""

    item: Item
    result: Result | None
    lost: bool = False


@runtime_checkable
class Weighed(Protocol):
    """An item that tells what it takes, for engines that place work by it."""

    @property
    def memory(self) -> int:
        """Bytes of working memory, an upper bound."""


class Executor(Protocol):
    """Runs a function over items."""

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion."""


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
