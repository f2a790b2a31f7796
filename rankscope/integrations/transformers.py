"""Snapshots out of the Trainer of Hugging Face's transformers.

    Trainer(..., callbacks=[RankScopeCallback("runs/mine", every=100)])

docs/hooks.md has a complete example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.integrations.describing import completed
from rankscope.integrations.optimisers import Batch, Optimisers, Settings
from rankscope.integrations.recording import Recording, Saving
from rankscope.integrations.states import unwrapped
from rankscope.snapshots import Contents, LogRecord, RunRecord

if TYPE_CHECKING:
    from rankscope.integrations.sinks import Sink

needs("RankScopeCallback", "transformers", "transformers")

from transformers import TrainerCallback  # noqa: E402 - asked for first

Every = int | Literal["save", "log"]


class RankScopeCallback(TrainerCallback):  # type: ignore[misc] # of no type that mypy knows
    """Records the model that a Trainer trains.

    Saved are the weights of step 0, those of every step that is due, and those of the last one;
    steps are the Trainer's `global_step`, so that accumulated batches make one. Of several
    processes that train together, the first writes. What TrainingArguments and the optimizer know
    goes into run.json, the Trainer's loss and evaluations into the log. A training that resumes
    from a checkpoint goes on with its run.

    Nothing of the training changes: tensors are copied out, random numbers are left as they are.

    The Trainer tells no callback of an error: what is saved by then is whole, and the directory
    stays locked until the process ends or `close` is called (`with RankScopeCallback(...)` does).

    Args:
        run_dir: the run's directory; see docs/run-directory.md.
        every: steps from one snapshot to the next; `save` or `log` for whenever the Trainer saves
            a checkpoint, or logs its loss.
        example: a batch of at least 4 samples, as the data collator makes it. The inputs per sample
            of each matrix (m_l) are counted on it.
        record: what else run.json shall say; what it says wins over what is found out here.
        burst: so many consecutive steps up to each snapshot, for `rankscope certify`; with `every`
            a number.
        contents: as of `SnapshotWriter`.
        sinks: each is told of the spectra, by a process beside the training.

    Raises:
        UsageError: when training begins: the directory holds another run, or snapshots of later
            steps. At once: a number is out of range.
        OutputFailed: when training begins: the directory cannot be written to.
    """

    def __init__(
        self,
        run_dir: Path | str,
        *,
        every: Every = "save",
        example: Any = None,
        record: RunRecord | None = None,
        burst: int = 1,
        contents: Contents = "weights",
        sinks: Sequence[Sink] = (),
    ) -> None:
        if isinstance(every, str) and every not in ("save", "log"):
            raise UsageError(f"every is {every!r}, expected a number of steps, save or log")
        self.run_dir = Path(run_dir)
        self._every = every
        number = None if isinstance(every, str) else every
        self._saving = Saving(number, burst, contents, sinks)
        self._example = example
        self._record = record
        self._recording: Recording | None = None
        self._optimisers = Optimisers([])
        self._settings = Settings()

    def on_train_begin(
        self, args: Any, state: Any, _: Any, *, model: Any, optimizer: Any, **__: Any
    ) -> None:
        """Open the run."""
        self.close()
        self._optimisers = Optimisers([optimizer])
        # A batch size that has yet to be tried out is not known when run.json is written.
        batch = (
            None
            if args.auto_find_batch_size
            else Batch(args.train_batch_size, args.gradient_accumulation_steps, args.world_size)
        )
        told = completed(
            self._record,
            unwrapped(model),
            self._optimisers,
            batch,
            self._example,
            args.seed,
            {"transformers": version("transformers")},
        )
        self._recording = Recording(self.run_dir, self._saving, writes=state.is_world_process_zero)
        self._recording.open(state.global_step, model, told, batch)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Note the learning rate, which the scheduler changes before the step ends."""
        self._settings = self._optimisers.settings()

    def on_step_end(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
        """Save the step if it is due."""
        if self._recording is not None:
            line = LogRecord(epoch=state.epoch)
            self._recording.reached(state.global_step, model, self._settings, lambda: line)

    def on_save(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
        """Save the step where the Trainer saved a checkpoint, if asked to."""
        if self._recording is not None and self._every == "save":
            self._recording.save(model)
            self._recording.note(state.global_step, LogRecord())

    def on_log(
        self, _: Any, state: Any, __: Any, *, model: Any, logs: Mapping[str, Any], **___: Any
    ) -> None:
        """Put loss and evaluations into the log; save the step if asked to, or if it is the last.

        The last log of a training comes before the Trainer loads the best model, if it does.
        """
        if self._recording is None or self._recording.closed:
            return
        if "train_runtime" in logs or (self._every == "log" and "loss" in logs):
            self._recording.save(model)
        self._recording.note(state.global_step, _line(logs))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Wait until everything is written."""
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Wait until everything is written; closing twice is fine.

        Args:
            error: what ended the training, if it was one; nothing else is raised then.

        Raises:
            OutputFailed: a snapshot could not be written; the others are.
        """
        if self._recording is not None:
            self._recording.close(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(error)


def _line(logs: Mapping[str, Any]) -> LogRecord:
    def number(key: str) -> float | None:
        value = logs.get(key)
        return float(value) if isinstance(value, int | float) else None

    return LogRecord(
        epoch=number("epoch"),
        train_loss=number("loss"),
        test_loss=number("eval_loss"),
        test_accuracy=number("eval_accuracy"),
    )
