"""Where tasks are done: this machine's processes, its cards, or somebody else's executor."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rankscope.accelerator import device_executor, devices_for
from rankscope.executors import (
    Executor,
    FuturesExecutor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    available_cores,
)
from rankscope.how import How
from rankscope.records import Unmeasured
from rankscope.tasks import narrowed, task_flops
from rankscope.worker import ANY_CARD, Outcome, Task, measure_task

# Starting workers takes about a quarter of a second; two cores at 50 GFLOP/s each do this much
# in that time, and less work is done sooner in this process.
INLINE_FLOPS = 2.5e10

HOST = ("cpu",)  # no card


@dataclass(frozen=True, slots=True)
class Engine:
    """What does the work of one analysis.

    Attributes:
        how: by which means.
    """

    how: How

    def check(self) -> None:
        """Raise `UsageError` where a card is asked for by name and not there."""
        if self.how.device != "auto" and self.how.executor is None:
            devices_for(self.how.device, 0.0)

    def run(
        self, tasks: Sequence[Task], devices: Sequence[str], *, isolated: bool
    ) -> Iterator[tuple[Task, Outcome]]:
        """Every matrix's outcome, with its task, in the order of completion.

        Args:
            tasks: the largest first.
            devices: of `devices`.
            isolated: reading can end a process, which must not be this one.
        """
        cards = tuple(devices) != HOST
        executor = self._executor(tasks, isolated=isolated or cards)
        return self._on_cards(devices, tasks, executor) if cards else outcomes(executor, tasks)

    def to_read(self, tasks: Sequence[Task], *, isolated: bool) -> Executor:
        """Reading and hashing leave Python's lock to others: threads will do, but for a crash."""
        workers = self._workers(tasks)
        if isolated:
            return ProcessExecutor(workers, 1)
        return ThreadExecutor(workers) if workers > 1 else InlineExecutor(1)

    def devices(self, work: float) -> tuple[str, ...]:
        """Where so much work is done; of another machine each worker takes the first card."""
        if self.how.route == "direct":  # which is the CPU's, see `rankscope.accelerator`
            return HOST
        if self.how.executor is None:
            return devices_for(self.how.device, work)
        return (ANY_CARD,) if self.how.device.startswith(ANY_CARD) else HOST

    def _on_cards(
        self, cards: Sequence[str], tasks: Sequence[Task], executor: Executor
    ) -> Iterator[tuple[Task, Outcome]]:
        """Outcomes from cards; `executor` measures what these lose, or has cards of its own."""
        if self.how.executor is not None:
            return outcomes(executor, [replace(task, device=ANY_CARD) for task in tasks])
        threads = max(1, (self.how.cores or available_cores()) // len(cards))
        return outcomes(device_executor(cards, threads), tasks, executor)

    def _workers(self, tasks: Sequence[Task]) -> int:
        """How many at a time: no more than asked for, than there are cores for, than tasks."""
        asked = self.how.workers or available_cores()
        return max(1, min(asked, self.how.cores or asked, len(tasks)))

    def _executor(self, tasks: Sequence[Task], *, isolated: bool) -> Executor:
        if self.how.executor is not None:
            return executor_of(self.how.executor)
        workers = self._workers(tasks)
        # A matrix that is alone gets all the threads.
        threads = max(1, (self.how.cores or available_cores()) // workers)
        if isolated or sum(map(task_flops, tasks)) >= INLINE_FLOPS:
            return ProcessExecutor(workers, threads)
        return ThreadExecutor(workers) if workers > 1 else InlineExecutor(threads)


def outcomes(
    executor: Executor, tasks: Sequence[Task], spare: Executor | None = None
) -> Iterator[tuple[Task, Outcome]]:
    """Every matrix's outcome; a matrix on which workers die twice is `worker_lost`.

    Args:
        executor: where they are measured.
        tasks: the matrices.
        spare: where those are measured on which its workers have died, one by one.
    """
    lost: list[Task] = []
    for done in executor.run(measure_task, tasks):
        if done.result is not None:
            for outcome in done.result:
                yield done.item, outcome
        elif len(done.item.specs) > 1 or spare is not None:
            lost += [narrowed(done.item, spec) for spec in done.item.specs]
        else:
            reason = "the process that measured it died, twice (out of memory, or killed)"
            yield done.item, Outcome(done.item.specs[0], Unmeasured("worker_lost", reason))
    if lost:
        yield from outcomes(spare or executor, lost)


def executor_of(engine: Executor | concurrent.futures.Executor) -> Executor:
    """Somebody else's executor as ours."""
    return FuturesExecutor(engine) if isinstance(engine, concurrent.futures.Executor) else engine
