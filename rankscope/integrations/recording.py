"""What every hook does: snapshots when they are due, a log of what the updates were made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.errors import OutputFailed
from rankscope.integrations.optimisers import Batch, Settings
from rankscope.integrations.resuming import resume
from rankscope.integrations.states import tensors_of
from rankscope.runrecord import RUN_FILE, RunRecord
from rankscope.snapshots import Contents, LogRecord, SnapshotWriter, due

if TYPE_CHECKING:
    from rankscope.integrations.following import Follower
    from rankscope.integrations.sinks import Sink


@dataclass(frozen=True, slots=True)
class Saving:
    """What is saved, and when.

    Attributes:
        every: steps from one snapshot to the next; None where somebody else says when.
        burst: so many consecutive steps up to each, as of `rankscope.snapshots.due`.
        contents: as of `SnapshotWriter`.
        sinks: each is told of the spectra, by a process beside the training.
    """

    every: int | None
    burst: int = 1
    contents: Contents = "weights"
    sinks: Sequence[Sink] = ()

    def __post_init__(self) -> None:
        # Refuses what is below 1.
        due(0, every=1 if self.every is None else self.every, burst=self.burst)
        for sink in self.sinks:
            from rankscope.integrations.sinks import checked_metrics

            checked_metrics(sink.metrics)

    def due(self, after: int, step: int) -> bool:
        """Whether one of the steps above `after`, up to `step`, is to be saved."""
        if self.every is None:
            return False
        every, burst = self.every, self.burst
        return any(due(one, every=every, burst=burst) for one in range(after + 1, step + 1))


class Recording:
    """A run directory that a training fills, in the process that writes; in others it does nothing.

    Every process of a training has to call every method, because a model that is spread over them
    is gathered by all.

    Args:
        run_dir: made where it is missing.
        saving: what is saved, and when.
        writes: whether this process is the one that writes.

    Attributes:
        step: updates done so far.
        closed: whether nothing more is recorded.
    """

    def __init__(self, run_dir: Path | str, saving: Saving, *, writes: bool) -> None:
        self.run_dir = Path(run_dir)
        self.step = 0
        self.closed = False
        self._saving = saving
        self._writes = writes
        self._saved = -1
        self._writer: SnapshotWriter | None = None
        self._followers: list[Follower] = []
        self._batch: int | None = None
        self._exact = False
        self._line = (-1, LogRecord())
        self._updated = (-1, Settings())

    def open(self, step: int, model: Any, record: RunRecord, batch: Batch | None) -> None:
        """Begin, or go on with what is there.

        Args:
            step: updates done before; 0 is saved, another one if it is due.
            model: as of `tensors_of`.
            record: for run.json; a run that is resumed keeps what it has.
            batch: what an update is made of, if that is known.

        Raises:
            UsageError: the directory holds another run, or another writer is at work in it.
            OutputFailed: the directory cannot be written to.
        """
        self.step = step
        # Where run.json has none of it, the log's is that of a whole update.
        self._batch = batch.whole if batch and record.hyperparameters is None else None
        # The bound needs every update of SGD, and is about nothing else; with other optimisers the
        # lines of a million updates would be there for nobody.
        self._exact = record.optimiser is not None and record.optimiser.name == "sgd"
        if self._writes:
            self._open(step, record)
        try:
            if step == 0 or self._saving.due(step - 1, step):
                self.save(model)
        except BaseException as error:
            self.close(error)
            raise

    def _open(self, step: int, record: RunRecord) -> None:
        resumed = resume(self.run_dir, step) and (self.run_dir / RUN_FILE).exists()
        # A schedule has taken the learning rate elsewhere meanwhile; the log tells of that.
        known = None if resumed else record
        self._writer = SnapshotWriter(self.run_dir, known, contents=self._saving.contents)
        try:
            for sink in self._saving.sinks:
                from rankscope.integrations.following import Follower

                self._followers.append(Follower(self.run_dir, sink))
        except BaseException as error:
            self.close(error)
            raise

    def reached(
        self,
        step: int,
        model: Any,
        settings: Settings,
        line: Callable[[], LogRecord] = LogRecord,
    ) -> None:
        """Take note of an update, and save the model if it is due.

        Args:
            step: updates done, this one included; may be several more than at the last call.
            model: as of `tensors_of`.
            settings: with what the update was made.
            line: what else the log shall say, asked for only where it does say something.
        """
        at, before = self._updated
        if self._exact and at >= 0 and settings != before and self._line[0] < at:
            self.note(at, LogRecord())  # what held up to there
        after, self.step = self.step, step
        self._updated = (step, settings)
        if self._saving.due(after, step):
            self.save(model)
            self.note(step, line())

    def save(self, model: Any) -> None:
        """Save the model as it is at this step, unless that is done.

        Raises:
            OutputFailed: an earlier snapshot could not be written.
        """
        if self._saved == self.step:
            return
        self._saved = self.step
        tensors = tensors_of(model, wanted=self._writer is not None)
        if self._writer is not None and not self._writer.saved(self.step):
            self._writer.save(self.step, tensors)

    def note(self, step: int, line: LogRecord) -> None:
        """Add to what the log says of a step."""
        at, known = self._line
        whole = self._settings(step)
        for part in (known, line) if at == step else (line,):
            told = {one.name: getattr(part, one.name) for one in fields(part)}
            # A tensor would keep all that it was computed from.
            whole = replace(
                whole, **{key: _plain(value) for key, value in told.items() if value is not None}
            )
        news = whole != (known if at == step else LogRecord())
        self._line = (step, whole)
        if self._writer is not None and news:
            self._writer.log(step, whole)

    def _settings(self, step: int) -> LogRecord:
        """What the log says of the update that led to a step."""
        at, now = self._updated
        if at != step:
            return LogRecord()
        return LogRecord(
            lr=now.lr,
            weight_decay=now.weight_decay,
            momentum=now.momentum,
            batch_size=self._batch,
        )

    def close(self, error: BaseException | None = None) -> None:
        """Wait until everything is written, and told to the sinks; closing twice is fine.

        Args:
            error: what ended the training, if it was one. It is what the user has to see: nothing
                else is raised, and the sinks are not waited for.

        Raises:
            OutputFailed: a snapshot could not be written; the others are.
        """
        if self._writer is not None and error is None:
            self.note(self.step, LogRecord())  # of the updates since the last line
        self.closed = True
        writer, self._writer = self._writer, None
        followers, self._followers = self._followers, []
        try:
            if writer is not None:
                writer.close()
        except OutputFailed as failure:
            if error is None:
                raise
            error.add_note(str(failure))
        finally:
            for follower in followers:
                follower.close(wait=error is None)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else float(value)
