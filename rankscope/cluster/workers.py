"""The workers that there are, and what they can take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rankscope.executors.base import Weighed

if TYPE_CHECKING:
    from distributed import Client

MEMORY = "MEMORY"  # bytes; as Dask's documentation names it
GPU = "GPU"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process.

    Attributes:
        address: its own, which no other process ever has.
        threads: how many tasks it runs at a time.
        resources: what it declares to have.
    """

    address: str
    threads: int
    resources: Mapping[str, float]

    @property
    def host(self) -> str:
        """The machine that it is on."""
        return urlsplit(self.address).hostname or self.address

    def has(self, demands: Mapping[str, float]) -> bool:
        """Whether it declares as much of everything."""
        return all(self.resources.get(name, 0) >= amount for name, amount in demands.items())


@dataclass(frozen=True, slots=True)
class Workers:
    """All that run at one moment."""

    all: tuple[Worker, ...] = ()

    @classmethod
    def of(cls, client: Client) -> Workers:
        """Those that the scheduler knows now: one question to it, answered in milliseconds."""
        found: dict[str, dict[str, Any]] = client.scheduler_info().get("workers", {})
        return cls(
            tuple(
                Worker(address, told["nthreads"], told.get("resources", {}))
                for address, told in found.items()
                if told.get("status", "running") == "running"
            )
        )

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def threads(self) -> int:
        """How many tasks all of them run at a time."""
        return sum(worker.threads for worker in self.all)

    def demands(self, items: Sequence[object]) -> dict[str, float]:
        """What is asked of a worker for items, one after the other: only what workers declare.

        A matrix that needs more memory than any worker has gets the largest for itself: what it
        needs is an upper bound.
        """
        able: Sequence[Worker] = self.all
        demands: dict[str, float] = {}
        if any(str(getattr(item, "device", "")).startswith("cuda") for item in items):
            equipped = [worker for worker in self.all if worker.has({GPU: 1})]
            if equipped:
                demands[GPU], able = 1, equipped
        memories = [worker.resources.get(MEMORY, 0.0) for worker in able]
        needed = max((item.memory for item in items if isinstance(item, Weighed)), default=0)
        if needed and memories and all(memories):
            demands[MEMORY] = min(needed, max(memories))
        return demands
