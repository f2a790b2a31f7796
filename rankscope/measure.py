"""Series -> a measurement of every wanted matrix, through the store and an executor.

Spectra leave here one by one, as they come, and are not kept: a long run of a large model has
more of them than fit into memory.
"""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import get_args

from rankscope import plan
from rankscope.accelerator import check_device, device_executor, devices_for
from rankscope.checkpoints import is_isolated
from rankscope.errors import UsageError
from rankscope.executors import (
    Executor,
    FuturesExecutor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    available_cores,
)
from rankscope.files import ABSENT, Identity
from rankscope.inventory import Entry, Inventory, take_inventory
from rankscope.matrices import Selection
from rankscope.places import RemotePath, place
from rankscope.presence import fixed
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

# On a card, two seconds of a Gram route that runs at 1 TFLOP/s: enough for equal shapes to meet in
# a batch and for reading to stay ahead, little enough for cards to end together.
CARD_TASK_FLOPS = 2e12

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
        device: cpu, cuda, cuda:N, cuda:* for every one, or auto: whichever is sooner done.
        executor: where matrices are measured instead of this machine's own processes; ours, or
            any of `concurrent.futures`.
    """

    route: RouteChoice = "auto"
    workers: int | None = None
    store: bool | Path = True
    verify: bool = False
    keyed: bool = False
    progress: Progress | None = None
    cores: int | None = None
    device: str = "auto"
    executor: Executor | concurrent.futures.Executor | None = None

    def __post_init__(self) -> None:
        if self.route not in get_args(RouteChoice):
            choices = ", ".join(get_args(RouteChoice))
            raise UsageError(f"route is {self.route!r}, expected one of {choices}")
        check_device(self.device)
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
    if how.device != "auto" and how.executor is None:
        devices_for(how.device, 0.0)  # before anything is read, whether it is there
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
            if self._is_near(self.entries[index])
            and not self.stores[self.entries[index].series].empty
            for group in portions(specs)
        ]
        for done in self._executor_to_read(tasks).run(find_task, tasks) if tasks else ():
            for outcome in done.result or ():
                del left[done.item.ticket][outcome.spec]
                yield self._noted(done.item, outcome)
        return [(index, list(specs)) for index, specs in left.items() if specs]

    def _is_near(self, entry: Entry) -> bool:
        """Whether reading once more than needed costs little; measuring looks contents up too."""
        remote = isinstance(entry.snapshot.path, RemotePath)
        return self.how.executor is None and not remote

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
        work = sum(plan.matrix_flops(spec) for _, specs in pending for spec in specs)
        devices = self._devices(work)
        on_cards = devices != ("cpu",)
        group = grouped_for_cards if on_cards else grouped
        tasks = [self._task(index, some) for index, specs in pending for some in group(specs)]
        # The largest first: what is left at the end is small, and the workers end together.
        tasks.sort(key=_flops, reverse=True)
        isolated = any(is_isolated(self.entries[index].listing) for index, _ in pending)
        executor = self._executor(tasks, isolated=isolated or on_cards)
        ran = self._ran_on(devices, tasks, executor) if on_cards else _outcomes(executor, tasks)
        total, done = work, 0.0
        for task, outcome in ran:
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
        task = Task(path, specs, how.route, self.columns, store.path, index, seen, how.keyed, base)
        if isinstance(path, RemotePath):
            task = _held(task, entry.seen)
        return task if how.executor is None else _sent(task)

    def _devices(self, work: float) -> tuple[str, ...]:
        """Where so much work is done; of another machine each worker takes the first card."""
        if self.how.route == "direct":  # which is the CPU's, see `rankscope.accelerator`
            return ("cpu",)
        if self.how.executor is None:
            return devices_for(self.how.device, work)
        return ("cuda",) if self.how.device.startswith("cuda") else ("cpu",)

    def _ran_on(
        self, cards: Sequence[str], tasks: Sequence[Task], executor: Executor
    ) -> Iterator[tuple[Task, Outcome]]:
        """Outcomes from cards; `executor` measures what these lose, or has cards of its own."""
        if self.how.executor is not None:
            return _outcomes(executor, [replace(task, device="cuda") for task in tasks])
        threads = max(1, (self.how.cores or available_cores()) // len(cards))
        return _outcomes(device_executor(cards, threads), tasks, executor)

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
    return _groups(specs, TASK_FLOPS)


def grouped_for_cards(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """As `grouped`, of `CARD_TASK_FLOPS`, equal orders of Gram matrices next to each other."""
    alike = sorted(specs, key=lambda spec: sorted(spec.shape), reverse=True)
    return _groups(alike, CARD_TASK_FLOPS)


def _groups(specs: Sequence[MatrixSpec], most: float) -> Iterator[tuple[MatrixSpec, ...]]:
    group: list[MatrixSpec] = []
    work = 0.0
    for spec in specs:
        cost = plan.matrix_flops(spec)
        if group and work + cost > most:
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


def _outcomes(
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
            lost += [_narrowed(done.item, spec) for spec in done.item.specs]
        else:
            reason = "the process that measured it died, twice (out of memory, or killed)"
            yield done.item, Outcome(done.item.specs[0], Unmeasured("worker_lost", reason))
    if lost:
        yield from _outcomes(spare or executor, lost)


def executor_of(engine: Executor | concurrent.futures.Executor) -> Executor:
    """Somebody else's executor as ours."""
    return FuturesExecutor(engine) if isinstance(engine, concurrent.futures.Executor) else engine


def _held(task: Task, seen: Sequence[Identity]) -> Task:
    """A task that reads what was listed, whatever is at its place by the time that it is done."""
    told = [one for one in seen if one.inode or one.size == ABSENT]  # the others tell nothing
    listed = tuple(one._replace(path=str(fixed(place(one.path)))) for one in told)
    base = None if task.base is None else fixed(task.base)
    return replace(task, path=fixed(task.path), base=base, listed=listed)


def _sent(task: Task) -> Task:
    """A task as another machine understands it: where it stands, another directory is current.

    Nor does it get at the store: a database that lies on a network's file system is no safe place
    to meet. It tells the content's key instead, by which it is kept here.
    """
    base = None if task.base is None else absolute(task.base)
    keyed = task.keyed or task.store is not None
    return replace(task, path=absolute(task.path), base=base, store=None, keyed=keyed)


def absolute(path: PurePath) -> PurePath:
    """A place as it is called from any working directory."""
    return path.absolute() if isinstance(path, Path) else path


def _narrowed(task: Task, spec: MatrixSpec) -> Task:
    return replace(task, specs=(spec,))
