"""Which snapshots of a run have been measured, which are to be, and which are no more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from rankscope.errors import InputRejected, UsageError
from rankscope.identities import ABSENT, Identity, identity_or_absence
from rankscope.live.lookout import Sight
from rankscope.live.taking import Asked, Taken, Tick, take
from rankscope.series import Series, Snapshot

# What another program writes in place is half there for a while. Unreadable and changed within this
# time, it counts as being written.
WRITING_SECONDS = 10.0

# What could not be read is looked at again when it changes; and, since a missing shard or a lacking
# permission does not show in the file, after so long, each time twice as long.
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A snapshot that could not be read, or not all of it.

    Attributes:
        name: of its file.
        reason: why, in one line.
        seen: which file it was.
        since: when it failed first, by the monotonic clock.
        wait: seconds until the next try.
        due: when that is, by the monotonic clock.
    """

    name: str
    reason: str
    seen: Identity
    since: float
    wait: float
    due: float

    @property
    def writing(self) -> bool:
        """Whether it may still be being written."""
        age = time.time() - self.seen.mtime_ns / 1e9
        fresh = 0 <= age < WRITING_SECONDS
        return fresh and time.monotonic() - self.since < WRITING_SECONDS


class Follower:
    """The measured snapshots of one run.

    Attributes:
        taken: by step.
        gone: the steps of those among them whose files are no more.
        failures: by step.
        version: grows whenever one of these changes.
    """

    def __init__(self, asked: Asked, *, newest_first: bool) -> None:
        self._asked = asked
        self._newest_first = newest_first
        self._series: Series | None = None
        self._present: dict[int, Snapshot] = {}
        self.taken: dict[int, Taken] = {}
        self.gone: set[int] = set()
        self.failures: dict[int, Failure] = {}
        self.version = 0

    @property
    def steps(self) -> list[int]:
        """Of everything that is there or was measured."""
        return sorted({*self._present, *self.taken})

    @property
    def due(self) -> list[int]:
        """The steps that are to be measured, the next one first.

        Newest first, what a person asks about comes first: how it is now, then how it began.
        """
        now = time.monotonic()
        waiting = {step for step, one in self.failures.items() if one.due > now}
        whole = {step for step in self.taken if step not in self.failures}
        due = sorted(set(self._present) - waiting - whole, reverse=self._newest_first)
        if self._newest_first:
            ends = (max(self._present, default=0), min(self._present, default=0))
            due.sort(key=lambda step: ends.index(step) if step in ends else len(ends))
        return due

    def see(self, sight: Sight) -> None:
        """Take notice of what is there, and forget what is another file now."""
        self._series = sight.series
        snapshots = sight.series.snapshots if sight.series else ()
        self._present = {one.step: one for one in snapshots if one.step is not None}
        same = self._unchanged(sight)
        gone = self._gone(same)
        changed = set(self.taken) - same - gone
        failures = {
            step: one
            for step, one in self.failures.items()
            if step not in changed and sight.seen.get(step) == one.seen
        }
        if changed or gone != self.gone or len(failures) < len(self.failures):
            self.taken = {step: one for step, one in self.taken.items() if step not in changed}
            self.gone, self.failures = gone, failures
            self.version += 1

    def _unchanged(self, sight: Sight) -> set[int]:
        """The measured snapshots whose files are the same as then."""
        files = {one.path: one for one in sight.seen.values()}

        def now(one: Identity) -> Identity:
            if one.path not in files:
                files[one.path] = _identity(one.path)
            return files[one.path]

        return {
            step
            for step, one in self.taken.items()
            if step in self._present and _same(one.seen, map(now, one.seen))
        }

    def _gone(self, same: set[int]) -> set[int]:
        """The measured snapshots that a trainer has removed to make room.

        Later ones of the same run stand there still. Where none does, the run was removed, or
        begun again from an earlier step, and what it was is of no matter to the new one.
        """
        newest = max(same, default=-1)
        return {step for step in self.taken if step not in self._present and step < newest}

    def measure(self, step: int, tick: Tick) -> None:
        """Measure one of `due`.

        Raises:
            UsageError: the question makes no sense: a glob that matches nothing.
        """
        if self._series is None or step not in self._present:
            return
        snapshot = self._present[step]
        seen = _identity(snapshot.path)
        try:
            taken = take(self._series, snapshot, self._asked, tick)
        except InputRejected as error:
            self._fail(snapshot, seen, error.reason)
        except UsageError as error:
            if not self.taken:
                raise
            self._fail(snapshot, seen, str(error))
        else:
            self.taken[step] = taken
            lacking = _lacking(taken)
            if lacking:
                self._fail(snapshot, taken.seen[0], lacking)
            else:
                self.failures.pop(step, None)
        self.version += 1

    def _fail(self, snapshot: Snapshot, seen: Identity, reason: str) -> None:
        if snapshot.step is None:
            raise ValueError(f"{snapshot.path} has no step")
        now = time.monotonic()
        since, wait = now, RETRY_SECONDS
        before = self.failures.get(snapshot.step)
        if before is not None and before.seen == seen:
            since, wait = before.since, 2 * before.wait
        name = snapshot.path.name
        self.failures[snapshot.step] = Failure(name, reason, seen, since, wait, now + wait)


def _identity(path: PurePath | str) -> Identity:
    """Which file it is; what may not be looked at is as good as absent."""
    try:
        return identity_or_absence(path)
    except OSError:
        return Identity(os.path.abspath(path), ABSENT, 0, 0)


def _same(then: Iterable[Identity], now: Iterable[Identity]) -> bool:
    return all(one == other for one, other in zip(then, now, strict=True))


def _lacking(taken: Taken) -> str:
    """Why not all of a snapshot was read; empty when it was, whatever its weights are."""
    for row in taken.left_out:
        return f"{row['name']}: {row['reason']}"
    for row in taken.rows:
        if row["status"] in ("unreadable", "worker_lost"):
            return f"{row['name']}: {row['notes']['status']}"
    return ""
