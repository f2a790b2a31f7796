"""On the workers of a Dask cluster."""

from __future__ import annotations

import itertools
import pickle
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from rankscope.cluster.faults import ClusterLost, WorkerMismatch, lacks_rankscope
from rankscope.cluster.work import Parcel, Performed, versions
from rankscope.cluster.workers import Worker, Workers
from rankscope.executors.base import Done, Item, Result

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

# In flight for each thread of a worker. What its scheduler has and no thread yet is handed to
# whoever is free next; fewer leave workers of tiny tasks waiting for their messages.
AHEAD = 4

# A task costs Dask 4 ms (docs/performance.md), so that items that take less go together until they
# make this much work.
BUNDLE_SECONDS = 0.05
MOST_TOGETHER = 64  # when a worker dies, each of them is tried alone

LOOK_SECONDS = 1.0  # how often workers that joined and left are looked for
ALONE_SECONDS = 0.1  # the same while a single task may have killed the worker that it is on

PATIENCE = (
    120.0  # a worker that a nanny starts again takes 3 seconds, one of an adaptive cluster 60
)


@dataclass(frozen=True, slots=True)
class DaskExecutor:
    """On the workers of a Dask cluster, each task in one thread of one of them.

    Dask itself moves what a dead worker had to another one, until as many workers have died on a
    task as its scheduler allows (`distributed.scheduler.allowed-failures`; 3 unless it is set).
    Such a task is tried once more with no other on its machine. So an item is lost that has killed
    `allowed-failures` + 2 workers, the last of them alone, and none that was beside it.

    Attributes:
        client: of `distributed`; it stays open.
        patience: seconds without any worker after which the cluster counts as gone.
    """

    client: Client
    patience: float = PATIENCE

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        """Each item with its result, in the order of completion.

        Raises:
            ClusterLost: the scheduler is gone, or all workers are.
            WorkerMismatch: a worker has other versions.
        """
        flight = _Flight(self.client, function, self.patience)
        try:
            yield from flight.together(iter(items))
            yield from flight.alone()
        finally:
            flight.cancel()


@dataclass(frozen=True, slots=True)
class _Sent(Generic[Item]):
    """Items in flight, what was asked for them, and the worker that they must run on, if any."""

    items: tuple[Item, ...]
    demands: dict[str, float]
    worker: Worker | None


@dataclass(slots=True)
class _Flight(Generic[Item, Result]):
    """One call of `DaskExecutor.run`."""

    client: Client
    function: Callable[[Item], Result]
    patience: float
    flying: dict[Future[Any], _Sent[Item]] = field(default_factory=dict)
    suspects: list[Item] = field(default_factory=list)
    workers: Workers = field(default_factory=Workers)
    looked: float = -LOOK_SECONDS
    manned: float = field(default_factory=time.monotonic)
    name: str = field(default_factory=lambda: f"rankscope-{uuid.uuid4().hex}")
    numbers: Iterator[int] = field(default_factory=itertools.count)
    landed: as_completed = field(init=False)
    versions: str = field(default_factory=versions)
    seconds: float = BUNDLE_SECONDS  # that an item takes, lately

    def __post_init__(self) -> None:
        from distributed import as_completed

        self.landed = as_completed(loop=self.client.loop, with_results=True, raise_errors=False)

    def together(self, queue: Iterator[Item]) -> Generator[Done[Item, Result], None, None]:
        """All items, a bounded number at a time; those on which workers died go to `suspects`."""
        exhausted = False
        seconds = 0.0
        while not exhausted or self.flying:
            # What has come first, then who is there: a scheduler that is gone takes no result away.
            for items, results in self._landed(seconds):
                if results is None:
                    self.suspects += items
                else:
                    for item, result in zip(items, results, strict=True):
                        yield Done(item, result)
            self._look(LOOK_SECONDS)
            self._send_stranded_again()
            while not exhausted and len(self.flying) < AHEAD * self.workers.threads:
                items = tuple(itertools.islice(queue, self._together))
                exhausted = not items
                if items:
                    self._send(items)
            seconds = LOOK_SECONDS

    def alone(self) -> Generator[Done[Item, Result], None, None]:
        """The second try of the suspects: no two at a time on one machine."""
        seconds = 0.0
        while self.suspects or self.flying:
            for items, results in self._landed(seconds):
                yield Done(items[0], results[0] if results else None, lost=not results)
            # Just before one is sent: to a worker that is gone already, it would never have run.
            self._look(0)
            for future, sent in self._orphans():
                self._forget([future])
                yield Done(sent.items[0], None, lost=True)
            self._send_apart()
            seconds = ALONE_SECONDS

    @property
    def _together(self) -> int:
        """How many items make a task."""
        return int(min(max(BUNDLE_SECONDS / max(self.seconds, 1e-9), 1), MOST_TOGETHER))

    def cancel(self) -> None:
        """Leave nothing behind on the cluster."""
        self._forget(list(self.flying))

    def _look(self, age: float) -> None:
        """Learn which workers there are, unless that is known from `age` seconds ago."""
        now = time.monotonic()
        if self.client.status != "running" or any(future.cancelled() for future in self.flying):
            raise self._lost("the scheduler is gone")
        if now - self.looked < age:
            return
        self.workers, self.looked = Workers.of(self.client), now
        if len(self.workers):
            self.manned = now
        elif now - self.manned > self.patience:
            raise self._lost(f"there has been no worker for {self.patience:.0f} s")

    def _send(self, items: tuple[Item, ...], worker: Worker | None = None) -> None:
        demands = self.workers.demands(items)
        future = self.client.submit(
            pickle.loads,
            pickle.dumps(Parcel(self.versions, pickle.dumps((self.function, items)))),
            # Keys of one group: what is not running yet is given to whichever worker is free.
            key=(self.name, next(self.numbers)),
            pure=False,
            resources=demands or None,
            workers=None if worker is None else [worker.address],
        )
        self.flying[future] = _Sent(items, demands, worker)
        self.landed.add(future)

    def _send_apart(self) -> None:
        """Suspects to workers of machines where none of them is."""
        taken = {sent.worker.host for sent in self.flying.values() if sent.worker}
        for worker in self.workers:
            fitting = (i for i in self.suspects if worker.has(self.workers.demands([i])))
            item = None if worker.host in taken else next(fitting, None)
            if item is not None:
                self.suspects.remove(item)
                self._send((item,), worker)
                taken.add(worker.host)

    def _send_stranded_again(self) -> None:
        """What waits for a worker with more memory than those that are left have, for these."""
        if not len(self.workers):
            return
        for future, sent in list(self.flying.items()):
            if not any(worker.has(sent.demands) for worker in self.workers):
                self._forget([future])
                self._send(sent.items)

    def _orphans(self) -> list[tuple[Future[Any], _Sent[Item]]]:
        """What is in flight to a worker that is not there any more."""
        there = {worker.address for worker in self.workers}
        return [
            (future, sent)
            for future, sent in self.flying.items()
            if sent.worker is not None and sent.worker.address not in there
        ]

    def _landed(
        self, seconds: float
    ) -> Iterator[tuple[tuple[Item, ...], tuple[Result, ...] | None]]:
        """What has come within some time; with None, items on which too many workers died."""
        from distributed import KilledWorker

        with self.landed.thread_condition:
            self.landed.thread_condition.wait_for(self.landed.has_ready, seconds)
        for future, found in self.landed.next_batch(block=False):
            sent = self.flying.pop(future, None)
            if sent is None:
                continue  # called back
            future.release()  # an error that is being handled keeps it alive, and its task there
            # By what has come, not by the future's status: that is "lost" again once the worker
            # which has the result is.
            if isinstance(found, Performed):
                self.seconds = (self.seconds + found.seconds / len(found.results)) / 2
                yield sent.items, found.results
            elif isinstance(found, tuple) and isinstance(found[1], KilledWorker):
                yield sent.items, None
            elif isinstance(found, tuple):
                raise self._told(found[1]).with_traceback(found[2])
            else:
                raise self._lost("the scheduler is gone")

    def _told(self, error: BaseException) -> BaseException:
        """An exception of a task; in our own words where RankScope is not there to raise one."""
        if lacks_rankscope(error):
            return WorkerMismatch("that joined", "it has no such RankScope", self.versions)
        return error

    def _forget(self, futures: list[Future[Any]]) -> None:
        """Call back what is in flight; what runs already ends by itself, and nobody is told."""
        from distributed.client import ClosedClientError

        for future in futures:
            del self.flying[future]
        if futures and self.client.status == "running":
            with suppress(ClosedClientError, OSError):
                self.client.cancel(futures, force=True)

    @property
    def _address(self) -> str:
        scheduler = self.client.scheduler
        return "an unknown address" if scheduler is None else str(scheduler.address)

    def _lost(self, reason: str) -> ClusterLost:
        return ClusterLost(self._address, reason)
