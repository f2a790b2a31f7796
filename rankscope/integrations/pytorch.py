"""Snapshots out of any PyTorch training loop, by one line before it.

    with Recorder(model, "runs/mine", every=100, optimizer=optimizer):
        train(model, optimizer)

docs/hooks.md has complete examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.integrations.describing import completed
from rankscope.integrations.optimisers import Batch, Optimisers, Settings, innermost
from rankscope.integrations.recording import Recording, Saving
from rankscope.integrations.states import rank, unwrapped, world_size
from rankscope.snapshots import Contents, LogRecord, RunRecord

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from rankscope.integrations.sinks import Sink

needs("Recorder", "torch", "train")


class Recorder:
    """Records a model while somebody else's loop trains it.

    With an optimizer it counts its updates by itself: a step that a gradient scaler skips is none,
    batches whose gradients are accumulated make one. Without one, call `step` after each update.
    Saved are the weights of step 0 (or of that which training resumes from), those of every step
    that is due, and those of the last one. Of several processes that train together, rank 0 writes;
    all have to make a recorder and to close it.

    Nothing of the training changes: tensors are copied out, random numbers are left as they are.

    Args:
        model: a module, wrapped or not.
        run_dir: the run's directory; see docs/run-directory.md.
        every: steps from one snapshot to the next.
        optimizer: a `torch.optim.Optimizer`; what it knows goes into run.json and the log.
        step: updates done before, where training resumes from a checkpoint.
        batch_size: samples of one update on one device, accumulated batches included.
        example: a batch of at least 4 samples, as the model takes it: a tensor, a tuple, a mapping.
            The inputs per sample of each matrix (m_l) are counted on it.
        record: what else run.json shall say; what it says wins over what is found out here.
        burst: so many consecutive steps up to each snapshot, for `rankscope certify`.
        contents: as of `SnapshotWriter`.
        sinks: each is told of the spectra, by a process beside the training.

    Raises:
        UsageError: the directory holds another run, or snapshots of later steps; the optimizer has
            no hooks; a number is out of range.
        OutputFailed: the directory cannot be written to.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own, and one has to be made
        self,
        model: Any,
        run_dir: Path | str,
        *,
        every: int,
        optimizer: Optimizer | None = None,
        step: int = 0,
        batch_size: int | None = None,
        example: Any = None,
        record: RunRecord | None = None,
        burst: int = 1,
        contents: Contents = "weights",
        sinks: Sequence[Sink] = (),
    ) -> None:
        hook = getattr(innermost(optimizer), "register_step_post_hook", None)
        if optimizer is not None and hook is None:
            raise UsageError(
                f"{type(optimizer).__name__} has no register_step_post_hook, as PyTorch's "
                "optimizers do: leave optimizer out, and call step() after each update"
            )
        self._model = model
        self._optimisers = Optimisers([] if optimizer is None else [optimizer])
        parameters = list(getattr(unwrapped(model), "parameters", list)())
        if optimizer is not None and not any(map(self._optimisers.holds, parameters)):
            raise UsageError("the optimizer holds no parameter of this model: give its own")
        saving = Saving(every, burst, contents, sinks)
        self._recording = Recording(run_dir, saving, writes=rank() == 0)
        batch = None if batch_size is None else Batch(batch_size, world_size=world_size())
        told = completed(record, unwrapped(model), self._optimisers, batch, example)
        self._recording.open(step, model, told, batch)
        self._handle = None if hook is None else hook(self._updated)

    def _updated(self, *_: Any) -> None:
        """What the optimizer calls after each of its steps."""
        settings = self._optimisers.settings()
        self._recording.reached(self._recording.step + 1, self._model, settings)

    def step(self, loss: Any = None) -> None:
        """An update was done; only for loops whose optimizer the recorder was not given.

        Args:
            loss: of this update, for the log where the step is saved; a number or a tensor.

        Raises:
            OutputFailed: an earlier snapshot could not be written; those before it are intact.
        """
        if self._handle is not None:
            raise UsageError("the recorder counts its optimizer's steps: step() counts them twice")
        self._recording.reached(
            self._recording.step + 1,
            self._model,
            Settings(),
            lambda: LogRecord(train_loss=None if loss is None else float(loss)),
        )

    def log(self, line: LogRecord) -> None:
        """Add to what the log says of the step that was reached.

        Raises:
            OutputFailed: the line could not be written; those before it are intact.
        """
        self._recording.note(self._recording.step, line)

    def close(self) -> None:
        """Save the last step and wait until everything is written; closing twice is fine.

        Raises:
            OutputFailed: a snapshot could not be written; the others are.
        """
        self._leave()
        if not self._recording.closed:
            self._recording.save(self._model)
        self._recording.close()

    def _leave(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            # An interruption may have come in the midst of an update: its weights are no step's.
            self._leave()
            self._recording.close(error)
