"""Following a run until told to stop: look, measure what is new, show it, rest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rankscope.live.course import Known, course
from rankscope.live.following import Follower
from rankscope.live.logtail import LogTail
from rankscope.live.lookout import Lookout, Sight
from rankscope.live.picture import Logged, Measurements, Picture, logged, measurements
from rankscope.live.remarks import remarks
from rankscope.live.taking import Asked
from rankscope.live.writerlock import is_locked
from rankscope.metrics.thresholded import Norm
from rankscope.question import Question
from rankscope.runlog import LOG_FILE
from rankscope.runrecord import Hyperparameters, RunRecord
from rankscope.store import StoreWarning

# What eps is relative to.
RELATIVE: dict[Norm, str] = {
    "frobenius": "of the Frobenius norm",
    "spectral": "of the spectral norm",
    "none": "absolute",
}

# Looking and laying out may take at most this share of the time: a directory of thousands of
# checkpoints on a slow file system is looked at less often.
SHARE = 0.05

REST_SECONDS = 0.25  # how soon it is noticed that the terminal is gone


class View(Protocol):
    """What shows pictures to somebody.

    Attributes:
        newest_first: in which order snapshots are wanted.
    """

    newest_first: bool

    def start(self) -> None:
        """Take the terminal."""

    def stop(self) -> None:
        """Give it back; called also when not all of it was taken."""

    def show(self, picture: Picture) -> None:
        """Show a picture from now on."""

    def check(self) -> None:
        """Raise `BrokenPipeError` when nobody can see it any more."""


class Watch:
    """One run directory and what is shown of it."""

    def __init__(self, path: Path, asked: Asked, view: View, interval: float) -> None:
        """Prepare to follow a directory; nothing is read yet.

        Args:
            path: the directory, which need not be there yet.
            asked: what is measured, and how.
            view: what is shown to.
            interval: seconds between two looks, at least.
        """
        self._path = path
        self._asked = asked
        self._view = view
        self._lookout = Lookout(path)
        self._log = LogTail(path / LOG_FILE)
        self._follower = Follower(asked, newest_first=view.newest_first)
        self._sight = Sight()
        self._doing = ""
        self._writing: bool | None = None
        self._looks = Pace(interval)
        self._ticks = Pace(REST_SECONDS)
        self._layouts = Pace(0.0)
        self._laid_out: tuple[object, ...] = (0,)
        self._found = Measurements()
        self._logged: tuple[Logged, ...] = ()
        self._store = ""

    def run(self, check: Callable[[], None]) -> None:
        """Follow it for ever.

        Args:
            check: called often; what it raises ends the watch, as does what `View.check` raises.

        Raises:
            UsageError: the question makes no sense for the first snapshot.
        """
        with warnings.catch_warnings(record=True) as caught:
            # Libraries' own warnings are not the user's, and would be written over the picture.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", StoreWarning)
            while True:
                self._look()
                due = self._follower.due
                if due:
                    self._measure(due)
                self._store = str(caught[-1].message) if caught else self._store
                caught.clear()
                self._show()
                self._rest(check)

    def _rest(self, check: Callable[[], None]) -> None:
        """Wait until there is something to do."""
        check()
        self._view.check()
        while not (self._follower.due or self._looks.due or self._log.behind):
            time.sleep(REST_SECONDS)
            check()
            self._view.check()

    def _look(self) -> None:
        """Take notice of what is there, if it is time to."""
        if not self._looks.due and not self._log.behind:
            return
        with self._looks:
            self._sight = self._lookout.look()
            self._follower.see(self._sight)
            self._writing = is_locked(self._path / LOG_FILE)
            if self._log.read():
                self._logged = logged(self._log.records)

    def _measure(self, due: list[int]) -> None:
        step, later = due[0], len(due) - 1

        def tick(done: int, total: int) -> None:
            if not self._ticks.due:
                return
            with self._ticks:
                more = f", then {later} more" if later else ""
                self._doing = f"measuring step {step}: {done} of {total}{more}"
                self._look()
                self._show()
                self._view.check()

        self._doing = f"measuring step {step}"
        self._show()
        self._follower.measure(step, tick)
        self._doing = ""

    def _show(self) -> None:
        self._lay_out()
        seen = self._sight.seen
        self._view.show(
            Picture(
                str(self._path),
                about(self._sight.record, self._asked.question),
                self._found,
                self._logged,
                self._sight.waiting,
                max(one.mtime_ns for one in seen.values()) / 1e9 if seen else None,
                self._doing,
                self._writing,
                remarks(self._follower, self._sight, self._log.remark, self._store),
            )
        )

    def _lay_out(self) -> None:
        """Put the measurements together anew, if there is anything new and it is time to."""
        follower, sight = self._follower, self._sight
        epochs = sight.series is not None and sight.series.counts_epochs
        known = Known(sight.record, self._log.records, epochs)
        current = (follower.version, len(follower.steps), sight.record, self._log.version)
        urgent = follower.version != self._laid_out[0] and not follower.due
        if current == self._laid_out or not (urgent or self._layouts.due):
            return
        with self._layouts:
            self._laid_out = current
            found = course(follower.taken, follower.steps, self._asked.question, known)
            files = {step: one.seen[0] for step, one in follower.taken.items()}
            self._found = measurements(found, files)


class Pace:
    """When something is due again that must take only a share of the time; entered, it is timed."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._next = time.monotonic()
        self._began = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._next = now + max(self._least, (now - self._began) / SHARE)


def about(record: RunRecord | None, question: Question) -> str:
    """What is run, and how its ranks are measured, in one line."""
    record = record or RunRecord()
    given = record.hyperparameters
    parts = [
        record.model,
        _trained(given) if given else "",
        f"eps {', '.join(f'{eps:g}' for eps in question.eps)} {RELATIVE[question.norm]}",
        record.data,  # may be long
    ]
    return "; ".join(part for part in parts if part)


def _trained(given: Hyperparameters) -> str:
    return f"B {given.samples_per_update}, mu {given.lr:g}, weight decay {given.weight_decay:g}"
