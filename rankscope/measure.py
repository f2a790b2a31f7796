"""Series -> a measurement of every wanted matrix, through the store and an executor.

Spectra leave here one by one, as they come, and are not kept: a long run of a large model has
more of them than fit into memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from rankscope import plan
from rankscope.checkpoints import is_isolated
from rankscope.errors import UsageError
from rankscope.executors import (
    Executor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    available_cores,
)
from rankscope.inventory import Entry, Inventory, take_inventory
from rankscope.matrices import Selection
from rankscope.question import Column
from rankscope.records import MatrixSpec, Measurement, Reading, Route, Unmeasured
from rankscope.series import Series
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore, store_path
from rankscope.worker import (
    Outcome,
    RouteChoice,
    Task,
    answer,
    asked_route,
    find_task,
    measure_task,
    sound,
)

# Starting workers takes about a quarter of a second; two cores at 50 GFLOP/s each do this much
# in that time, and less work is done sooner in this process.
INLINE_FLOPS = 2.5e10

# Matrices of one file go to a worker together until they make this much work (about 20 ms),
# so that a run of small matrices is not spent on opening files and passing messages.
TASK_FLOPS = 1e9

# Read and hashed together: a fifth of a second's work, beside which opening a file is nothing.
PORTION_BYTES = 2**28

SAVE_SECONDS = 1.0  # how often finished work is saved; a kill costs what came since

Progress = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class How:
    """How to measure; none of it changes a number beyond its stated resolution.

    Attributes:
        route: auto, gram or direct.
        workers: processes; None for as many as there are cores and work for them.
        store: keep spectra; True where the run or the user's cache is, a path, or False.
        verify: read every file again, whatever is remembered of it.
        keyed: tell what each matrix's content is, `Measured.key`, also without a store.
        progress: called with the floating-point operations done and to be done.
        cores: of this machine, to be used together; None for all that this process may use.
    """

    route: RouteChoice = "auto"
    workers: int | None = None
    store: bool | Path = True
    verify: bool = False
    keyed: bool = False
    progress: Progress | None = None
    cores: int | None = None

    def __post_init__(self) -> None:
        if self.route not in get_args(RouteChoice):
            choices = ", ".join(get_args(RouteChoice))
            raise UsageError(f"route is {self.route!r}, expected one of {choices}")
        for name, value in (("workers", self.workers), ("cores", self.cores)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected at least 1")


@dataclass(frozen=True, slots=True)
class Measured:
    """One matrix of one snapshot and what became of it.

    Attributes:
        entry: the snapshot.
        spec: the matrix.
        measurement: its spectrum, or why it has none.
        readings: of the columns, if they are known already.
        key: under which the store knows it, if that is known.
    """

    entry: Entry
    spec: MatrixSpec
    measurement: Measurement
    readings: tuple[Reading, ...] | None = None
    key: bytes | None = None

    @property
    def content(self) -> bytes | None:
        """A digest of the matrix's entries, if it is known; of a stored spectrum not its own."""
        if self.spec.solved is None:
            return self.key
        return bytes.fromhex(self.spec.solved.key) or None


def measure(
    all_series: Sequence[Series], selection: Selection, columns: Sequence[Column], how: How
) -> tuple[Inventory, Generator[Measured, None, None]]:
    """What there is, and an iterator that measures it.

    Args:
        all_series: what was asked for.
        selection: which matrices.
        columns: what will be read off the spectra; decides which need the direct route.
        how: by which means.

    Raises:
        InputRejected: no snapshot is sound.
        UsageError: the selection makes no sense.
    """
    stores = _stores(all_series, how.store)
    try:
        if how.verify:
            for store, one in zip(stores, all_series, strict=True):
                store.forget([snapshot.path for snapshot in one.snapshots])
                store.commit()  # at once: listing takes long, and others would wait
        inventory = take_inventory(all_series, selection, stores)
        for store in stores:
            store.commit()
    except BaseException:
        for store in stores:
            store.close()
        raise
    run = _Run(how, tuple(columns), stores, inventory.entries)
    return inventory, run.measured()


def _stores(all_series: Sequence[Series], store: bool | Path) -> list[SpectrumStore]:
    """Each series' store. One object for each file: two would wait for each other's lock."""
    opened: dict[str | None, SpectrumStore] = {}
    stores: list[SpectrumStore] = []
    for one in all_series:
        path = store_path(one, store)
        real = None if path is None else os.path.realpath(path)
        if real not in opened:
            opened[real] = SpectrumStore(path, ROUTE_VERSION)
        stores.append(opened[real])
    return stores


@dataclass(slots=True)
class _Run:
    """One call of `measure` while its results are drawn."""

    how: How
    columns: tuple[Column, ...]
    stores: list[SpectrumStore]
    entries: Sequence[Entry]
    unsaved: list[tuple[Entry, Outcome]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def measured(self) -> Generator[Measured, None, None]:
        """Known matrices at once, the others as they are computed."""
        pending: list[tuple[int, list[MatrixSpec]]] = []
        try:
            for index, entry in enumerate(self.entries):
                recall = self._recall(entry)
                unknown: list[MatrixSpec] = []
                for spec in entry.specs:
                    found = recall(spec)
                    if found is None:
                        unknown.append(spec)
                    else:
                        yield found
                if unknown:
                    pending.append((index, unknown))
            unknown_ones = yield from self._find(pending)
            yield from self._compute(unknown_ones)
        finally:
            self._save()
            for store in self.stores:
                store.close()

    def _recall(self, entry: Entry) -> Callable[[MatrixSpec], Measured | None]:
        """What the memo and the store know of an unchanged file's matrices."""
        store = self.stores[entry.series]
        known = store.find_all(entry.snapshot.path) if entry.remembered else {}

        def recall(spec: MatrixSpec) -> Measured | None:
            keys: list[bytes] = []

            def look_up(route: Route) -> Measurement | None:
                key, found = known.get((spec.name, route), (b"", None))
                keys.append(key)
                return sound(found, spec)

            answered = answer(asked_route(self.how.route, spec), self.columns, look_up)
            return None if answered is None else Measured(entry, spec, *answered, keys[0])

        return recall

    def _find(
        self, pending: Sequence[tuple[int, list[MatrixSpec]]]
    ) -> Generator[Measured, None, list[tuple[int, list[MatrixSpec]]]]:
        """Matrices of files that are not remembered and whose content is; returns the others.

        A model that was saved anew, or checked out by a build, is read once and decomposed never.
        """
        left = {index: dict.fromkeys(specs) for index, specs in pending}
        tasks = [
            self._task(index, group)
            for index, specs in pending
            if not self.stores[self.entries[index].series].empty
            for group in portions(specs)
        ]
        for done in self._executor_to_read(tasks).run(find_task, tasks) if tasks else ():
            for outcome in done.result or ():
                del left[done.item.ticket][outcome.spec]
                yield self._noted(done.item, outcome)
        return [(index, list(specs)) for index, specs in left.items() if specs]

    def _executor_to_read(self, tasks: Sequence[Task]) -> Executor:
        """Reading and hashing leave Python's lock to others: threads will do, but for a crash."""
        workers = self._workers(tasks)
        if any(is_isolated(self.entries[task.ticket].listing) for task in tasks):
            return ProcessExecutor(workers, 1)
        return ThreadExecutor(workers) if workers > 1 else InlineExecutor(1)

    def _noted(self, task: Task, outcome: Outcome) -> Measured:
        """A result, to be saved when it is time."""
        entry = self.entries[task.ticket]
        self.unsaved.append((entry, outcome))
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()
        return Measured(entry, outcome.spec, outcome.measurement, outcome.readings, outcome.key)

    def _compute(self, pending: Sequence[tuple[int, list[MatrixSpec]]]) -> Iterator[Measured]:
        tasks = [self._task(index, group) for index, specs in pending for group in grouped(specs)]
        # The largest first: what is left at the end is small, and the workers end together.
        tasks.sort(key=_flops, reverse=True)
        isolated = any(is_isolated(self.entries[index].listing) for index, _ in pending)
        total, done = sum(map(_flops, tasks)), 0.0
        for task, outcome in _outcomes(self._executor(tasks, isolated=isolated), tasks):
            one = self._noted(task, outcome)
            done += plan.matrix_flops(outcome.spec)
            if self.how.progress is not None:
                self.how.progress(done, total)
            yield one

    def _task(self, index: int, specs: tuple[MatrixSpec, ...]) -> Task:
        entry = self.entries[index]
        store = self.stores[entry.series]
        path, base = entry.snapshot.path, entry.snapshot.base
        # What is merged depends on the base's files too, which no memo is of.
        seen = store.seen(path) if base is None else ()
        how = self.how
        return Task(path, specs, how.route, self.columns, store.path, index, seen, how.keyed, base)

    def _workers(self, tasks: Sequence[Task]) -> int:
        """How many at a time: no more than asked for, than there are cores for, than tasks."""
        asked = self.how.workers or available_cores()
        return max(1, min(asked, self.how.cores or asked, len(tasks)))

    def _executor(self, tasks: Sequence[Task], *, isolated: bool) -> Executor:
        workers = self._workers(tasks)
        # A matrix that is alone gets all the threads.
        threads = max(1, (self.how.cores or available_cores()) // workers)
        if isolated or sum(map(_flops, tasks)) >= INLINE_FLOPS:
            return ProcessExecutor(workers, threads)
        return ThreadExecutor(workers) if workers > 1 else InlineExecutor(threads)

    def _save(self) -> None:
        """Write what is unsaved: all at once, so that the store is locked for a moment only."""
        for entry, outcome in self.unsaved:
            if outcome.key is not None:
                store = self.stores[entry.series]
                path = entry.snapshot.path
                store.put(path, outcome.spec.name, outcome.key, outcome.computed, outcome.seen)
        for store in self.stores:
            store.commit()
        self.unsaved.clear()
        self.saved = time.monotonic()


def grouped(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """Matrices of one file in groups of about `TASK_FLOPS`; a larger one by itself."""
    group: list[MatrixSpec] = []
    work = 0.0
    for spec in specs:
        cost = plan.matrix_flops(spec)
        if group and work + cost > TASK_FLOPS:
            yield tuple(group)
            group, work = [], 0.0
        group.append(spec)
        work += cost
    if group:
        yield tuple(group)


def portions(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """Matrices of one file in portions of about `PORTION_BYTES` to be read."""
    portion: list[MatrixSpec] = []
    size = 0
    for spec in specs:
        portion.append(spec)
        size += plan.stored_bytes(spec)
        if size > PORTION_BYTES:
            yield tuple(portion)
            portion, size = [], 0
    if portion:
        yield tuple(portion)


def _flops(task: Task) -> float:
    return sum(map(plan.matrix_flops, task.specs))


def _outcomes(executor: Executor, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
    """Every matrix's outcome; a matrix on which workers die twice is `worker_lost`."""
    lost: list[Task] = []
    for done in executor.run(measure_task, tasks):
        if done.result is not None:
            for outcome in done.result:
                yield done.item, outcome
        elif len(done.item.specs) > 1:
            lost += [_narrowed(done.item, spec) for spec in done.item.specs]
        else:
            reason = "the process that measured it died, twice (out of memory, or killed)"
            yield done.item, Outcome(done.item.specs[0], Unmeasured("worker_lost", reason))
    if lost:
        yield from _outcomes(executor, lost)


def _narrowed(task: Task, spec: MatrixSpec) -> Task:
    return replace(task, specs=(spec,))
