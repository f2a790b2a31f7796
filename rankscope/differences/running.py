"""Pairs of matrices -> the spectra of their differences, through the store and an executor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rankscope.answering import answer
from rankscope.differences.delta import Outcome, Pair, Task, sound, subtract
from rankscope.engines import INLINE_FLOPS, executor_of
from rankscope.executors import (
    Executor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    available_cores,
)
from rankscope.how import How
from rankscope.identities import Identity
from rankscope.measure import SAVE_SECONDS
from rankscope.plan import flops
from rankscope.records import Measurement, Route, Unmeasured
from rankscope.series import Snapshot
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.tasks import absolute, grouped


@dataclass(frozen=True, slots=True)
class Places:
    """Where the two checkpoints are.

    Attributes:
        before: the checkpoint A.
        after: the checkpoint B.
        seen: the identity of both's files from before they were measured.
        isolated: one of them is of a format whose library a damaged file can crash.
        store: the store file of B, or None.
    """

    before: Snapshot
    after: Snapshot
    seen: tuple[Identity, ...]
    isolated: bool
    store: Path | None


def deltas(pairs: Sequence[Pair], places: Places, how: How) -> Iterator[Outcome]:
    """The spectrum of every pair's difference: known ones at once, the others as they come."""
    if not pairs:
        return
    store = SpectrumStore(places.store, ROUTE_VERSION)
    run = _Run(how, places, store)
    try:
        unknown: list[Pair] = []
        for pair in pairs:
            found = run.recall(pair)
            if found is None:
                unknown.append(pair)
            else:
                yield found
        if unknown:
            yield from run.compute(unknown)
    finally:
        run.save()
        store.close()


@dataclass(slots=True)
class _Run:
    """One call of `deltas` while its results are drawn."""

    how: How
    places: Places
    store: SpectrumStore
    unsaved: list[Outcome] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def recall(self, pair: Pair) -> Outcome | None:
        """What the store knows of a pair: no file is opened for it."""

        def look_up(route: Route) -> Measurement | None:
            return sound(self.store.find(pair.key, route), pair)

        answered = answer(self.how.route, pair.columns, look_up)
        return None if answered is None else Outcome(pair, *answered)

    def compute(self, pairs: Sequence[Pair]) -> Iterator[Outcome]:
        """The others, in whatever process; saved as they come."""
        tasks = [self._task(group) for group in _grouped(pairs)]
        # The largest first: what is left at the end is small, and the workers end together.
        tasks.sort(key=_flops, reverse=True)
        total, done = sum(map(_flops, tasks)), 0.0
        for outcome in _outcomes(self._executor(tasks), tasks):
            self.unsaved.append(outcome)
            if time.monotonic() - self.saved > SAVE_SECONDS:
                self.save()
            done += flops(outcome.pair.after.shape)
            if self.how.progress is not None:
                self.how.progress(done, total)
            yield outcome

    def save(self) -> None:
        """Write what is unsaved: all at once, so that the store is locked for a moment only."""
        for outcome in self.unsaved:
            pair = outcome.pair
            self.store.put(self.places.after.path, pair.after.name, pair.key, outcome.computed)
        self.store.commit()
        self.unsaved.clear()
        self.saved = time.monotonic()

    def _task(self, pairs: tuple[Pair, ...]) -> Task:
        places = self.places
        before, after, store = places.before, places.after, places.store
        if self.how.executor is not None:
            # Elsewhere another directory is current, and the store is this process's own.
            before, after, store = _absolute(before), _absolute(after), None
        return Task(before, after, pairs, self.how.route, store, places.seen)

    def _executor(self, tasks: Sequence[Task]) -> Executor:
        """As for measuring: threads for little work; processes for much, and for risky files."""
        if self.how.executor is not None:
            return executor_of(self.how.executor)
        cores = available_cores()
        workers = max(1, min(self.how.workers or cores, len(tasks)))
        threads = max(1, cores // workers)
        if self.places.isolated or sum(map(_flops, tasks)) >= INLINE_FLOPS:
            return ProcessExecutor(workers, threads)
        return ThreadExecutor(workers) if workers > 1 else InlineExecutor(threads)


def _absolute(snapshot: Snapshot) -> Snapshot:
    base = None if snapshot.base is None else absolute(snapshot.base)
    return replace(snapshot, path=absolute(snapshot.path), base=base)


def _grouped(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, ...]]:
    """Pairs in groups of as much work as those of measuring; a large one by itself."""
    rest = iter(pairs)
    # A difference is always formed, also of what is stored as factors.
    for group in grouped([replace(pair.after, factors=None) for pair in pairs]):
        yield tuple(pair for _, pair in zip(group, rest, strict=False))


def _flops(task: Task) -> float:
    return sum(flops(pair.after.shape) for pair in task.pairs)


def _outcomes(executor: Executor, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Every pair's outcome; a pair on which workers die twice is `worker_lost`."""
    lost: list[Task] = []
    for done in executor.run(subtract, tasks):
        if done.result is not None:
            yield from done.result
        elif len(done.item.pairs) > 1:
            lost += [replace(done.item, pairs=(pair,)) for pair in done.item.pairs]
        else:
            reason = "the process that compared it died, twice (out of memory, or killed)"
            yield Outcome(done.item.pairs[0], Unmeasured("worker_lost", reason))
    if lost:
        yield from _outcomes(executor, lost)
