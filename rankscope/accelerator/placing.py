"""One process a card, side by side over one queue of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from rankscope.executors import Done, Executor, ProcessExecutor, SideBySideExecutor
from rankscope.executors.base import Item, Result


def device_executor(devices: Sequence[str], threads: int) -> Executor:
    """An executor with a process for each device; items are dataclasses with a field `device`.

    Args:
        devices: as `devices_for` names them.
        threads: BLAS threads of each process, for what a card leaves to the CPU.
    """
    return SideBySideExecutor(
        tuple(OnDevice(ProcessExecutor(1, threads), device) for device in devices)
    )


@dataclass(frozen=True, slots=True)
class OnDevice:
    """An executor whose items are told their device.

    Attributes:
        executor: runs them.
        device: its name.
    """

    executor: Executor
    device: str

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item as it was given, with its result, in the order of completion."""
        return self.executor.run(_Told(function, self.device), items)


@dataclass(frozen=True, slots=True)
class _Told(Generic[Result]):
    """A function of an item that is told its device; it travels to a process."""

    function: Callable[[Any], Result]
    device: str

    def __call__(self, item: Any) -> Result:
        return self.function(replace(item, device=self.device))
