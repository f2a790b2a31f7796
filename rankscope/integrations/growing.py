"""A run that grows, told of snapshot by snapshot: each is read once, and its rows are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rankscope.how import How
from rankscope.integrations.readings import (
    MatrixReading,
    SnapshotReading,
    above,
    check_steps,
    counts_of,
    numbers_of,
)
from rankscope.live.course import Course, Known, course
from rankscope.live.following import Follower
from rankscope.live.logtail import LogTail
from rankscope.live.lookout import Lookout
from rankscope.live.taking import Asked
from rankscope.matrices import Selection
from rankscope.question import Question
from rankscope.runlog import LOG_FILE
from rankscope.series import Series

Counts = dict[tuple[int | None, str], tuple[int, ...]]


class Growing:
    """What is new in a run since it was last asked.

    As `readings`, of which the store spares the decompositions of what is known, but not that all
    of it is gone through: of a long run, a second or more for each new snapshot.

    Args:
        path: a run directory, or anybody's directory of numbered checkpoints.
        after: the last step that is known already; None where none is.
        metrics: as of `rankscope.analyze`.
        how: by which means.
    """

    def __init__(self, path: Path, after: int | None, metrics: Sequence[str], how: How) -> None:
        self._path = path
        self._after = after
        self._metrics = metrics
        self._asked = Asked(Question(tuple(metrics)), Selection(), how)
        self._lookout = Lookout(path)
        self._log = LogTail(path / LOG_FILE)
        self._follower = Follower(self._asked, newest_first=False)

    def news(self, series: Series) -> Iterator[SnapshotReading]:
        """The snapshots above the last one told of, in the order of their steps.

        Args:
            series: what is there now.

        Raises:
            UsageError: the snapshots have no steps.
        """
        check_steps(series)
        new = tuple(one for one in series.snapshots if above(one.step, self._after))
        if not new:
            return
        # First, so that the store, which then knows them, has the spectra taken once.
        counts = counts_of(replace(series, snapshots=new), self._metrics, self._asked.how)
        found = self._measured()
        means = {row["step"]: row for row in found.summary}
        for one in new:
            step = one.step
            if step is None:
                continue
            self._after = step
            if step in found.rows:
                yield _reading(step, found, means[step], counts)
            else:
                failure = self._follower.failures.get(step)
                reason = "is gone" if failure is None else failure.reason
                yield SnapshotReading(step, (), {}, f"{one.path}: {reason}")

    def _measured(self) -> Course:
        """Measure what has not been; everything that is known then."""
        sight = self._lookout.look()
        self._follower.see(sight)
        while self._follower.due:  # what cannot be read is due again seconds later
            self._follower.measure(self._follower.due[0], lambda *_: None)
        self._log.read()
        while self._log.behind:
            self._log.read()
        epochs = sight.series is not None and sight.series.counts_epochs
        known = Known(sight.record, self._log.records, epochs)
        return course(self._follower.taken, self._follower.steps, self._asked.question, known)


def _reading(step: int, found: Course, means: dict[str, object], counts: Counts) -> SnapshotReading:
    matrices = tuple(
        MatrixReading(
            row["name"], numbers_of(row, found.columns), counts.get((step, row["name"]), ())
        )
        for row in found.rows[step]
    )
    return SnapshotReading(step, matrices, numbers_of(means, found.columns))
