"""Series -> a measurement of every wanted matrix, through the store and an executor.

Spectra leave here one by one, as they come, and are not kept: a long run of a large model has
more of them than fit into memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankscope import plan
from rankscope.answering import answer, asked_route, sound
from rankscope.checkpoints import is_isolated
from rankscope.engines import HOST, Engine
from rankscope.how import How
from rankscope.inventory import Entry, Inventory, check_downloads, take_inventory
from rankscope.matrices import Selection
from rankscope.places import RemotePath
from rankscope.question import Column
from rankscope.records import MatrixSpec, Measurement, Reading, Route
from rankscope.series import Series
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore, store_path
from rankscope.tasks import grouped, grouped_for_cards, held, portions, sent, task_flops
from rankscope.worker import Outcome, Task, find_task

SAVE_SECONDS = 1.0  # how often finished work is saved; a kill costs what came since


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
    Engine(how).check()
    stores = _stores(all_series, how.store)
    try:
        if how.verify:
            for store, one in zip(stores, all_series, strict=True):
                store.forget([snapshot.path for snapshot in one.snapshots])
                store.commit()  # at once: listing takes long, and others would wait
            check_downloads(all_series)
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
        reader = Engine(self.how).to_read(tasks, isolated=self._isolated(tasks))
        for done in reader.run(find_task, tasks) if tasks else ():
            for outcome in done.result or ():
                del left[done.item.ticket][outcome.spec]
                yield self._noted(done.item, outcome)
        return [(index, list(specs)) for index, specs in left.items() if specs]

    def _is_near(self, entry: Entry) -> bool:
        """Whether reading once more than needed costs little; measuring looks contents up too."""
        remote = isinstance(entry.snapshot.path, RemotePath)
        return self.how.executor is None and not remote

    def _isolated(self, tasks: Sequence[Task]) -> bool:
        """Whether reading any of these can end a process."""
        return any(is_isolated(self.entries[task.ticket].listing) for task in tasks)

    def _noted(self, task: Task, outcome: Outcome) -> Measured:
        """A result, to be saved when it is time."""
        entry = self.entries[task.ticket]
        self.unsaved.append((entry, outcome))
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()
        return Measured(entry, outcome.spec, outcome.measurement, outcome.readings, outcome.key)

    def _compute(self, pending: Sequence[tuple[int, list[MatrixSpec]]]) -> Iterator[Measured]:
        total, done = sum(plan.matrix_flops(spec) for _, specs in pending for spec in specs), 0.0
        engine = Engine(self.how)
        devices = engine.devices(total)
        group = grouped if devices == HOST else grouped_for_cards
        tasks = [self._task(index, some) for index, specs in pending for some in group(specs)]
        # The largest first: what is left at the end is small, and the workers end together.
        tasks.sort(key=task_flops, reverse=True)
        for task, outcome in engine.run(tasks, devices, isolated=self._isolated(tasks)):
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
            task = held(task, entry.seen)
        return task if how.executor is None else sent(task)

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
