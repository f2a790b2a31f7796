"""Lightning's callback, in real Trainers of both packages."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from rankscope.errors import UsageError
from rankscope.integrations.lightning import RankScopeCallback
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
)
from tests.integrations.runs import (
    BATCH,
    LR,
    WEIGHT_DECAY,
    State,
    asked,
    by_hand,
    decompositions,
    network,
    samples,
    sgd,
    state_of,
    steps_in,
    told,
    trained,
)

pytestmark = [
    # What it says wherever SLURM is installed.
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
    # Lightning advises workers for the loader of 64 samples.
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    # Lightning 2.6 tells trees from leaves in the way that torch 2.13 gives up.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]

ROOT = Path(__file__).parents[2]

RECORD = RunRecord(
    model="Module",
    matrices=(
        MatrixRecord("network.0.weight", "linear", (16, 12), 1),
        MatrixRecord("network.4.weight", "linear", (10, 16), 1),
    ),
    optimiser=Optimiser("sgd"),
    hyperparameters=Hyperparameters(BATCH, LR, WEIGHT_DECAY),
)


class Module(LightningModule):  # type: ignore[misc] # of no type that mypy knows
    """The small training, as Lightning wants it."""

    def __init__(self, *, schedule: bool = False) -> None:
        super().__init__()
        self.network = network()
        self.schedule = schedule

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.network(inputs)

    def training_step(self, batch: Any, _: int) -> Any:
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self)
        if not self.schedule:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=9)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Validated(Module):
    """The same with a validation."""

    def validation_step(self, batch: Any, _: int) -> None:
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log_dict({"val_loss": loss, "val_acc": torch.tensor(0.25)})


def loader(size: int = BATCH) -> Any:
    """In the order of `batch_of`; drawing from a generator of its own."""
    return DataLoader(TensorDataset(*samples()), size, generator=torch.Generator())


def trainer(*callbacks: Any, **options: Any) -> Any:
    chosen: dict[str, Any] = {
        "max_steps": 12,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(callbacks=list(callbacks), **(chosen | options))


def named(states: dict[int, State]) -> dict[int, State]:
    """States of the network, as those of the module that it is in."""
    return {
        step: {f"network.{name}": tensor for name, tensor in state.items()}
        for step, state in states.items()
    }


class States(Callback):  # type: ignore[misc] # of no type that mypy knows
    """The weights of every step, copied by hand."""

    def __init__(self) -> None:
        self.at: dict[int, State] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.at[trainer.global_step] = state_of(module)


class Failing(Callback):  # type: ignore[misc] # of no type that mypy knows
    """Fails after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def losses(run_dir: Path) -> dict[int, float]:
    return {line["step"]: line["train_loss"] for line in read_log(run_dir) if "train_loss" in line}


def test_analyses_as_what_the_plain_writer_writes(tmp_path: Path) -> None:
    hook = RankScopeCallback(tmp_path / "hook", every=5, example=samples(4)[0])
    trainer(hook).fit(Module(), loader())
    states = named(trained(12))
    found = losses(tmp_path / "hook")
    lines = {
        step: LogRecord(step / 8, LR, WEIGHT_DECAY, 0.0, train_loss=found[step]) for step in (5, 10)
    }
    lines[12] = LogRecord(None, LR, WEIGHT_DECAY, 0.0)
    by_hand(tmp_path / "hand", RECORD, {step: states[step] for step in (0, 5, 10, 12)}, lines)
    table = asked(tmp_path / "hook")
    assert told(table) == told(asked(tmp_path / "hand"))
    assert any(row["bound_exact"] for row in table.matrices)
    written = read_run_record(tmp_path / "hook")
    assert written is not None
    assert written.versions["lightning"] == lightning.__version__


def test_the_training_is_bit_for_bit_that_without_it(tmp_path: Path) -> None:
    """`trained` knows nothing of Lightning; random numbers are where they are without the hook."""
    module = Module()
    hook = RankScopeCallback(tmp_path, every=1, example=samples(4)[0], contents="both")
    trainer(hook).fit(module, loader())
    drawn = torch.rand(3)
    expected = trained(12)[12]
    assert all(torch.equal(state_of(module.network)[name], expected[name]) for name in expected)
    assert torch.equal(drawn, torch.rand(3))


def test_no_decomposition_in_the_trainers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = threading.get_ident()
    with decompositions(monkeypatch, lambda: threading.get_ident() != main) as seen:
        hook = RankScopeCallback(tmp_path, every=2, example=samples(4)[0], contents="both")
        trainer(hook).fit(Module(), loader())
    assert seen


class TestWhatIsSaved:
    def test_accumulated_batches_make_one_step(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path / "run", every=2)
        module = Module()
        per_batch: list[float] = []

        class Losses(Callback):  # type: ignore[misc] # of no type that mypy knows
            def on_train_batch_end(self, _: Any, __: Any, outputs: Any, *___: Any) -> None:
                per_batch.append(float(outputs["loss"]))

        trainer(hook, Losses(), accumulate_grad_batches=3, max_steps=4).fit(module, loader(4))
        assert steps_in(tmp_path / "run") == [0, 2, 4]
        written = read_run_record(tmp_path / "run")
        assert written is not None
        assert written.hyperparameters == Hyperparameters(4, LR, WEIGHT_DECAY, accumulation=3)
        saved = load_file(tmp_path / "run/snapshots/step-00000004.safetensors")
        assert torch.equal(saved["network.0.weight"], module.network.state_dict()["0.weight"])
        assert losses(tmp_path / "run") == pytest.approx(
            {2: sum(per_batch[3:6]), 4: sum(per_batch[9:12])}
        )

    def test_a_burst_and_the_last_step(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path, every=5, burst=2)
        trainer(hook).fit(Module(), loader())
        assert steps_in(tmp_path) == [0, 4, 5, 9, 10, 12]

    def test_the_learning_rate_of_every_update_and_the_validations(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path, every=5)
        ran = trainer(hook, max_steps=-1, max_epochs=1)
        ran.fit(Validated(schedule=True), loader(), loader())
        log = {line["step"]: line for line in read_log(tmp_path)}
        assert [log[step]["lr"] for step in sorted(log)] == pytest.approx(
            [LR * (1 - 0.1 * step) for step in range(8)]
        )
        assert log[8]["test_accuracy"] == 0.25
        assert log[8]["test_loss"] == pytest.approx(float(ran.callback_metrics["val_loss"]))
        assert all("test_loss" not in log[step] for step in range(1, 8))

    def test_what_is_not_always_the_same_is_left_open(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path, every=5)
        schedule = GradientAccumulationScheduler({0: 1, 1: 2})
        trainer(hook, schedule).fit(Module(), loader())
        written = read_run_record(tmp_path)
        assert written is not None
        assert written.hyperparameters is None
        assert asked(tmp_path).runs[0]["no_bound"] == "the batch size is not recorded; give --B"

    def test_two_optimizers_have_no_bound(self, tmp_path: Path) -> None:
        class Two(Module):
            def __init__(self) -> None:
                super().__init__()
                self.automatic_optimization = False

            def configure_optimizers(self) -> Any:
                return sgd(self.network[0]), sgd(self.network[4])

            def training_step(self, batch: Any, _: int) -> None:
                loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
                for optimizer in self.optimizers():
                    optimizer.zero_grad()
                self.manual_backward(loss)
                for optimizer in self.optimizers():
                    optimizer.step()

        hook = RankScopeCallback(tmp_path, every=5)
        trainer(hook).fit(Two(), loader())
        assert steps_in(tmp_path) == [0, 6, 10, 12]  # Lightning counts the steps of both
        assert asked(tmp_path).runs[0]["no_bound"].startswith("no bound for optimiser several: sgd")

    def test_the_seed_of_seed_everything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PL_GLOBAL_SEED", "17")
        trainer(RankScopeCallback(tmp_path, every=5)).fit(Module(), loader())
        written = read_run_record(tmp_path)
        assert written is not None
        assert written.seed == 17


def test_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    def training(*callbacks: Any, **options: Any) -> Any:
        hook = RankScopeCallback(tmp_path / "hook", every=3)
        return trainer(states, hook, *callbacks, **options)

    states = States()
    last: Any = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    first = training(max_steps=8)
    first.fit(Module(), loader())
    first.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(ZeroDivisionError):
        training(Failing(11)).fit(Module(), loader(), **last)
    assert steps_in(tmp_path / "hook") == [0, 3, 6, 8, 9]
    third = training()
    with pytest.warns(RuntimeWarning, match="resumes from step 8: 1 snapshots of later steps"):
        third.fit(Module(), loader(), **last)
    assert steps_in(tmp_path / "hook") == [0, 3, 6, 8, 9, 12]
    for step in (3, 6, 8, 9, 12):
        saved = load_file(tmp_path / f"hook/snapshots/step-{step:08d}.safetensors")
        assert all(torch.equal(saved[name], states.at[step][name]) for name in saved), step
    assert not asked(tmp_path / "hook").incomplete


class TestTrouble:
    def test_the_users_error_is_raised_and_snapshots_are_whole(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path, every=2)
        with pytest.raises(ZeroDivisionError):
            trainer(hook, Failing(5)).fit(Module(), loader())
        assert steps_in(tmp_path) == [0, 2, 4]
        assert not asked(tmp_path).incomplete
        # Not locked, and not counted for finished.
        with pytest.raises(UsageError, match="up to step 4 and this training begins at step 0"):
            trainer(RankScopeCallback(tmp_path, every=2)).fit(Module(), loader())

    def test_a_number_out_of_range(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="every is 0, expected at least 1"):
            RankScopeCallback(tmp_path, every=0)


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", property(lambda _: False))
    trainer(RankScopeCallback(tmp_path / "run", every=1)).fit(Module(), loader())
    assert not (tmp_path / "run").exists()


PYTORCH_LIGHTNING = """
import sys, warnings
import pytorch_lightning
import torch
from rankscope.integrations.lightning import LIBRARY, RankScopeCallback
assert LIBRARY == "pytorch_lightning", LIBRARY
assert issubclass(RankScopeCallback, pytorch_lightning.Callback)
assert "lightning" not in sys.modules

class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def training_step(self, batch, _):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = pytorch_lightning.Trainer(
    max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
    callbacks=[RankScopeCallback(sys.argv[1], every=2)],
)
trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(8, 4), 2))
"""


def test_of_the_other_package(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PYTORCH_LIGHTNING, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert steps_in(tmp_path) == [0, 2, 4]
    written = read_run_record(tmp_path)
    assert written is not None
    assert written.hyperparameters == Hyperparameters(2, 0.1, 0.0)
