"""Snapshots out of Lightning's Trainer, by either of its names.

    Trainer(..., callbacks=[RankScopeCallback("runs/mine", every=100)])

docs/hooks.md has a complete example.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.extras import needs
from rankscope.integrations.describing import completed
from rankscope.integrations.optimisers import Batch, Optimisers, Settings
from rankscope.integrations.recording import Recording, Saving
from rankscope.integrations.states import unwrapped
from rankscope.snapshots import Contents, LogRecord, RunRecord

if TYPE_CHECKING:
    from rankscope.integrations.sinks import Sink

SEED_VARIABLE = "PL_GLOBAL_SEED"  # where `seed_everything` leaves it

# What LightningModules usually call what they log in validation.
LOSSES = ("val_loss", "valid_loss", "validation_loss")
ACCURACIES = ("val_acc", "val_accuracy", "valid_acc", "validation_accuracy")


def _library() -> str:
    """The package whose Trainer is used, if one is loaded; else the one that is installed."""
    names = ("lightning", "pytorch_lightning")
    loaded = [name for name in names if sys.modules.get(name) is not None]
    installed = [name for name in names if find_spec(name) is not None]
    found = next(iter([*loaded, *installed]), None)
    if found is None:
        needs("RankScopeCallback", "lightning", "lightning")
        raise AssertionError  # for it has raised
    return found


LIBRARY = _library()

# Both packages hold the same classes, and a Trainer takes either's callbacks.
Callback: Any = importlib.import_module(
    "lightning.pytorch" if LIBRARY == "lightning" else LIBRARY
).Callback


class RankScopeCallback(Callback):  # type: ignore[misc] # of no type that mypy knows
    """Records the module that a Trainer trains.

    Saved are the weights of step 0, those of every step that is due, and those of the last one;
    steps are the Trainer's `global_step`, so that accumulated batches make one. Of several
    processes that train together, the first writes. What the Trainer and the optimizer know goes
    into run.json, the training loss and `val_loss`, `val_acc` into the log. A training that resumes
    from a checkpoint goes on with its run.

    Nothing of the training changes: tensors are copied out, random numbers are left as they are.

    Args:
        run_dir: the run's directory; see docs/run-directory.md.
        every: steps from one snapshot to the next.
        batch_size: samples per device and batch; None for what the data loader says.
        example: a batch of at least 4 samples, as the module's `forward` takes it. The inputs per
            sample of each matrix (m_l) are counted on it.
        record: what else run.json shall say; what it says wins over what is found out here.
        burst: so many consecutive steps up to each snapshot, for `rankscope certify`.
        contents: as of `SnapshotWriter`.
        sinks: each is told of the spectra, by a process beside the training.

    Raises:
        UsageError: when training begins: the directory holds another run, or snapshots of later
            steps. At once: a number is out of range.
        OutputFailed: when training begins: the directory cannot be written to.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own, and one has to be made
        self,
        run_dir: Path | str,
        *,
        every: int,
        batch_size: int | None = None,
        example: Any = None,
        record: RunRecord | None = None,
        burst: int = 1,
        contents: Contents = "weights",
        sinks: Sequence[Sink] = (),
    ) -> None:
        self.run_dir = Path(run_dir)
        self._saving = Saving(every, burst, contents, sinks)
        self._batch_size = batch_size
        self._example = example
        self._record = record
        self._recording: Recording | None = None
        self._optimisers = Optimisers([])
        self._settings = Settings()
        self._loss: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the run."""
        model = unwrapped(_model(trainer, pl_module))
        self._optimisers = Optimisers(trainer.optimizers)
        batch = self._batch(trainer, pl_module)
        seed = os.environ.get(SEED_VARIABLE)
        told = completed(
            self._record,
            model,
            self._optimisers,
            batch,
            self._example,
            None if seed is None else int(seed),
            {LIBRARY: version(LIBRARY)},
        )
        self._recording = Recording(self.run_dir, self._saving, writes=trainer.is_global_zero)
        self._recording.open(trainer.global_step, model, told, batch)

    def _batch(self, trainer: Any, module: Any) -> Batch | None:
        """What an update is made of; None where that is not known, or not always the same."""
        size = self._batch_size or getattr(trainer.train_dataloader, "batch_size", None)
        # GradientAccumulationScheduler's: by epoch.
        changes = any(len(getattr(one, "scheduling", ())) > 1 for one in trainer.callbacks)
        if not isinstance(size, int) or changes or not module.automatic_optimization:
            return None
        return Batch(size, trainer.accumulate_grad_batches, trainer.world_size)

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Note the learning rate, which a scheduler changes before the batch ends."""
        self._settings = self._optimisers.settings()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, _: Any, batch_idx: int
    ) -> None:
        """Save the step if the batch was the last of one, and the step is due."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:  # divided by the number of batches that are accumulated
            self._loss = loss if self._loss is None else self._loss + loss
        if self._recording is None or trainer.global_step == self._recording.step:
            return
        total, self._loss = self._loss, None
        epoch = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        self._recording.reached(
            trainer.global_step,
            _model(trainer, pl_module),
            self._settings,
            lambda: LogRecord(epoch=epoch, train_loss=None if total is None else float(total)),
        )

    def on_validation_end(self, trainer: Any, _: Any) -> None:
        """Put what was validated into the log."""
        if self._recording is None or self._recording.closed:
            return
        found = trainer.callback_metrics

        def first(names: Sequence[str]) -> float | None:
            return next((float(found[name]) for name in names if name in found), None)

        line = LogRecord(test_loss=first(LOSSES), test_accuracy=first(ACCURACIES))
        if line != LogRecord():
            self._recording.note(trainer.global_step, line)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save the last step and wait until everything is written."""
        if self._recording is not None:
            self._recording.save(_model(trainer, pl_module))
            self._recording.close()

    def on_exception(self, _: Any, __: Any, exception: BaseException) -> None:
        """Wait until what was saved is written."""
        if self._recording is not None:
            self._recording.close(exception)


def _model(trainer: Any, module: Any) -> Any:
    """What is trained, as it may be wrapped."""
    model = getattr(trainer.strategy, "model", None)
    return module if model is None else model
