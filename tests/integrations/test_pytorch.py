"""`Recorder`: what a loop that is not ours leaves behind, and that it trains as without it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import accelerate
import pytest
import safetensors.torch
import torch

from rankscope.errors import OutputFailed, UsageError
from rankscope.integrations.pytorch import Recorder
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshots import (
    Contents,
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from tests.integrations.runs import (
    BATCH,
    LR,
    WEIGHT_DECAY,
    asked,
    batch_of,
    by_hand,
    decompositions,
    network,
    samples,
    sgd,
    state_of,
    steps_in,
    told,
    trained,
    update,
)
from tests.test_snapshots import file_size_limit

MATRICES = (
    MatrixRecord("0.weight", "linear", (16, 12), 1),
    MatrixRecord("4.weight", "linear", (10, 16), 1),
)

RECORD = RunRecord(
    model="Sequential",
    matrices=MATRICES,
    optimiser=Optimiser("sgd"),
    hyperparameters=Hyperparameters(BATCH, LR, WEIGHT_DECAY),
)

LINE = LogRecord(lr=LR, weight_decay=WEIGHT_DECAY, momentum=0.0)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        update(model, optimizer, step)


def record(run_dir: Path, steps: int = 12, **options: Any) -> None:
    """The small training with a recorder, saved after every 4 steps."""
    model = network()
    optimizer = sgd(model)
    with Recorder(model, run_dir, every=4, optimizer=optimizer, **options):
        train(model, optimizer, 1, steps)


def reference(run_dir: Path, *steps: int, contents: Contents = "weights") -> Path:
    """The same training, its snapshots written by hand."""
    states = trained(steps[-1])
    return by_hand(
        run_dir,
        RECORD,
        {step: states[step] for step in steps},
        {step: LINE for step in steps if step},
        contents,
    )


@pytest.mark.parametrize("contents", ["weights", "spectra", "both"])
def test_analyses_as_what_the_plain_writer_writes(tmp_path: Path, contents: Any) -> None:
    record(tmp_path / "hook", contents=contents, batch_size=BATCH, example=samples(4)[0])
    found = asked(tmp_path / "hook")
    expected = asked(reference(tmp_path / "hand", 0, 4, 8, 12, contents=contents))
    assert told(found) == told(expected)
    assert any(row["bound_exact"] for row in found.matrices)
    assert not found.incomplete


def test_leaves_the_files_of_the_plain_writer(tmp_path: Path) -> None:
    record(tmp_path / "hook", batch_size=BATCH, example=samples(4)[0])
    reference(tmp_path / "hand", 0, 4, 8, 12)
    for path in (tmp_path / "hand").rglob("*"):
        if path.is_file():
            assert (tmp_path / "hook" / path.relative_to(tmp_path / "hand")).read_bytes() == (
                path.read_bytes()
            ), path


def test_the_training_is_bit_for_bit_that_without_it(tmp_path: Path) -> None:
    def final(*, recorded: bool) -> tuple[dict[str, Any], torch.Tensor]:
        model = network()
        optimizer = sgd(model, momentum=0.9)
        if recorded:
            options: Any = {"batch_size": BATCH, "example": samples(8)[0], "contents": "both"}
            with Recorder(model, tmp_path, every=2, optimizer=optimizer, **options):
                train(model, optimizer, 1, 7)
        else:
            train(model, optimizer, 1, 7)
        return state_of(model), torch.rand(3)

    with_it, drawn_with_it = final(recorded=True)
    without, drawn_without = final(recorded=False)
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    assert torch.equal(drawn_with_it, drawn_without)
    assert steps_in(tmp_path) == [0, 2, 4, 6, 7]


def test_what_is_saved_are_the_weights_after_the_step(tmp_path: Path) -> None:
    record(tmp_path, 8)
    states = trained(8)
    for step in (0, 4, 8):
        saved = safetensors.torch.load_file(tmp_path / f"snapshots/step-{step:08d}.safetensors")
        assert saved.keys() == states[step].keys()
        assert all(torch.equal(saved[name], states[step][name]) for name in saved)


class TestCounting:
    def test_the_last_step_is_saved_whatever_its_number(self, tmp_path: Path) -> None:
        record(tmp_path, 10)
        assert steps_in(tmp_path) == [0, 4, 8, 10]

    def test_a_burst(self, tmp_path: Path) -> None:
        record(tmp_path, 8, burst=2)
        assert steps_in(tmp_path) == [0, 3, 4, 7, 8]

    def test_accumulated_batches_make_one_step(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        with Recorder(model, tmp_path, every=2, optimizer=optimizer):
            for batch in range(1, 13):
                inputs, classes = batch_of(batch)
                loss = torch.nn.functional.cross_entropy(model(inputs), classes)
                loss.backward()  # type: ignore[no-untyped-call]
                if batch % 3 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
        assert steps_in(tmp_path) == [0, 2, 4]

    def test_a_step_that_a_gradient_scaler_skips_is_none(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        scaler = torch.amp.GradScaler("cpu")
        with Recorder(model, tmp_path, every=1, optimizer=optimizer):
            for factor in (1.0, float("inf"), 1.0):
                inputs, classes = batch_of(1)
                loss = torch.nn.functional.cross_entropy(model(inputs), classes) * factor
                optimizer.zero_grad()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
        assert steps_in(tmp_path) == [0, 1, 2]

    def test_of_an_optimizer_that_accelerate_has_wrapped(self, tmp_path: Path) -> None:
        model = network()
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        prepared, optimizer = accelerator.prepare(model, sgd(model))
        with Recorder(prepared, tmp_path, every=2, optimizer=optimizer, batch_size=2 * BATCH):
            for batch in range(1, 9):
                inputs, classes = batch_of(batch)
                with accelerator.accumulate(prepared):
                    accelerator.backward(
                        torch.nn.functional.cross_entropy(prepared(inputs), classes)
                    )
                    optimizer.step()
                    optimizer.zero_grad()
        assert steps_in(tmp_path) == [0, 2, 4]
        known = read_run_record(tmp_path)
        assert known is not None
        assert known.optimiser == Optimiser("sgd")
        assert known.hyperparameters == Hyperparameters(2 * BATCH, LR, WEIGHT_DECAY)

    def test_nothing_is_counted_after_the_end(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        recorder = Recorder(model, tmp_path, every=1, optimizer=optimizer)
        train(model, optimizer, 1, 2)
        recorder.close()
        train(model, optimizer, 3, 4)
        recorder.close()
        assert steps_in(tmp_path) == [0, 1, 2]

    def test_by_the_loop_where_there_is_no_optimizer(self, tmp_path: Path) -> None:
        weights = {"w": torch.eye(3)}
        with Recorder(weights, tmp_path, every=2) as recorder:
            for step in range(5):
                weights["w"] += 1
                recorder.step(loss=torch.tensor(float(step)))
        assert steps_in(tmp_path) == [0, 2, 4, 5]
        assert read_log(tmp_path) == [
            {"step": 2, "train_loss": 1.0},
            {"step": 4, "train_loss": 3.0},
        ]

    def test_not_by_both(self, tmp_path: Path) -> None:
        model = network()
        with (
            Recorder(model, tmp_path, every=2, optimizer=sgd(model)) as recorder,
            pytest.raises(UsageError, match="counts its optimizer's steps"),
        ):
            recorder.step()

    def test_an_optimizer_without_hooks_is_refused(self, tmp_path: Path) -> None:
        optimizer: Any = object()
        with pytest.raises(UsageError, match="object has no register_step_post_hook"):
            Recorder(network(), tmp_path / "run", every=2, optimizer=optimizer)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 1, "burst": 0}])
    def test_a_number_out_of_range(self, tmp_path: Path, wrong: Any) -> None:
        with pytest.raises(UsageError, match="is 0, expected at least 1"):
            Recorder(network(), tmp_path / "run", **wrong)
        assert not (tmp_path / "run").exists()


class TestWhatIsWrittenOfTheOptimizer:
    def test_the_learning_rate_of_every_update(self, tmp_path: Path) -> None:
        """The bound with a schedule that changes between snapshots is that of run.json's own."""
        model = network()
        optimizer = sgd(model)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6], gamma=0.75)
        states = {0: state_of(model)}
        options: Any = {"batch_size": BATCH, "example": samples(4)[0]}
        with Recorder(model, tmp_path / "hook", every=5, optimizer=optimizer, **options):
            for step in range(1, 16):
                update(model, optimizer, step)
                schedule.step()
                states[step] = state_of(model)
        rates = [LR, LR * 0.75, LR * 0.75 * 0.75]
        hyper = Hyperparameters(BATCH, LR, WEIGHT_DECAY, schedule=((3, rates[1]), (6, rates[2])))
        known = RunRecord("Sequential", MATRICES, Optimiser("sgd"), hyper)
        by_hand(tmp_path / "hand", known, {step: states[step] for step in (0, 5, 10, 15)}, {})
        found, expected = asked(tmp_path / "hook"), asked(tmp_path / "hand")
        assert told(found)["matrices"] == told(expected)["matrices"]
        assert any(row["bound_exact"] for row in found.matrices)
        assert found.runs[0]["remarks"] == []
        lines = {line["step"]: line["lr"] for line in read_log(tmp_path / "hook")}
        assert lines == {3: LR, 5: rates[1], 6: rates[1], 10: rates[2], 15: rates[2]}

    def test_groups_without_a_matrix_do_not_count(self, tmp_path: Path) -> None:
        model = network()
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim < 2]
        groups: Any = [{"params": others, "weight_decay": 0.0, "lr": 9.0}, {"params": matrices}]
        optimizer = torch.optim.SGD(
            groups,
            lr=0.25,
            weight_decay=0.5,
            momentum=0.875,
            nesterov=True,
        )
        with Recorder(model, tmp_path, every=1, optimizer=optimizer, batch_size=BATCH):
            update(model, optimizer, 1)
        known = read_run_record(tmp_path)
        assert known is not None
        assert known.optimiser == Optimiser("sgd", 0.875, nesterov=True)
        assert known.hyperparameters == Hyperparameters(BATCH, 0.25, 0.5)
        line = {"step": 1, "lr": 0.25, "weight_decay": 0.5, "momentum": 0.875}
        assert read_log(tmp_path) == [line]

    def test_what_matrices_do_not_share_is_left_open(self, tmp_path: Path) -> None:
        model = network()
        first, second = (p for p in model.parameters() if p.ndim > 1)
        groups: Any = [{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.2}]
        optimizer = torch.optim.SGD(groups, weight_decay=0.5)
        with Recorder(model, tmp_path, every=1, optimizer=optimizer, batch_size=BATCH):
            update(model, optimizer, 1)
        known = read_run_record(tmp_path)
        assert known is not None
        assert known.hyperparameters is None
        line = {"lr": None, "weight_decay": 0.5, "momentum": 0.0, "batch_size": BATCH}
        assert read_log(tmp_path) == [{"step": 1, **line}]
        assert asked(tmp_path).runs[0]["no_bound"] == "the learning rate is not recorded; give --mu"

    def test_of_adam_at_snapshots_only(self, tmp_path: Path) -> None:
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=8)
        with Recorder(model, tmp_path, every=4, optimizer=optimizer):
            for step in range(1, 9):
                update(model, optimizer, step)
                schedule.step()
        lines = {line["step"]: line["lr"] for line in read_log(tmp_path)}
        assert lines == pytest.approx({4: 0.5 * 5 / 8, 8: 0.5 / 8})

    def test_adam_is_named(self, tmp_path: Path) -> None:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters())
        with Recorder(model, tmp_path, every=1, optimizer=optimizer, batch_size=BATCH):
            update(model, optimizer, 1)
        assert asked(tmp_path).runs[0]["no_bound"].startswith("no bound for adamw")

    def test_several_momenta_have_no_bound(self, tmp_path: Path) -> None:
        model = network()
        first, second = (p for p in model.parameters() if p.ndim > 1)
        groups: Any = [{"params": [first], "momentum": 0.9}, {"params": [second]}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        with Recorder(model, tmp_path, every=1, optimizer=optimizer):
            update(model, optimizer, 1)
        known = read_run_record(tmp_path)
        assert known is not None
        assert known.optimiser == Optimiser("several: sgd")

    def test_the_users_record_wins(self, tmp_path: Path) -> None:
        mine = RunRecord(
            "mine", data="digits", seed=0, matrices=MATRICES[:1], versions={"mine": "3"}
        )
        record(tmp_path, 4, record=mine, batch_size=BATCH, example=samples(4)[0])
        known = read_run_record(tmp_path)
        assert known is not None
        assert (known.model, known.data, known.seed) == ("mine", "digits", 0)
        assert known.matrices == MATRICES[:1]
        assert known.hyperparameters == RECORD.hyperparameters
        assert {"mine", "torch", "python"} <= known.versions.keys()

    def test_what_the_loop_adds_to_the_log(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        with Recorder(model, tmp_path, every=2, optimizer=optimizer) as recorder:
            for step in range(1, 4):
                loss = update(model, optimizer, step)
                if step == 2:
                    tensor: Any = torch.tensor(loss)
                    recorder.log(LogRecord(train_loss=tensor))
                    recorder.log(LogRecord(test_accuracy=0.5))
        at_2 = {line["step"]: line for line in read_log(tmp_path)}[2]
        assert at_2["test_accuracy"] == 0.5
        assert at_2["lr"] == LR
        assert at_2["train_loss"] > 0


class TestResuming:
    def test_after_a_crash_from_a_checkpoint_before_the_last_snapshot(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "hook"
        options: Any = {"every": 2, "batch_size": BATCH, "example": samples(4)[0]}
        model = network()
        optimizer = sgd(model)

        def crashing() -> None:
            with Recorder(model, run_dir, optimizer=optimizer, **options):
                train(model, optimizer, 1, 5)
                torch.save([model.state_dict(), torch.get_rng_state()], tmp_path / "checkpoint")
                train(model, optimizer, 6, 9)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            crashing()
        assert steps_in(run_dir) == [0, 2, 4, 6, 8]

        model = network(1)
        weights, random = torch.load(tmp_path / "checkpoint")
        model.load_state_dict(weights)
        torch.set_rng_state(random)
        optimizer = sgd(model)
        message = "resumes from step 5: 2 snapshots of later steps were removed"
        with pytest.warns(RuntimeWarning, match=message):
            recorder = Recorder(model, run_dir, optimizer=optimizer, step=5, **options)
        with recorder:
            assert steps_in(run_dir) == [0, 2, 4]
            # The line of step 6 said with what update 5 was made.
            assert [line["step"] for line in read_log(run_dir)] == [2, 4, 5]
            train(model, optimizer, 6, 12)
        assert told(asked(run_dir)) == told(
            asked(reference(tmp_path / "hand", 0, 2, 4, 6, 8, 10, 12))
        )

    def test_where_it_was_left(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        with Recorder(model, tmp_path, every=2, optimizer=optimizer, batch_size=BATCH):
            update(model, optimizer, 1)
            schedule.step()
            update(model, optimizer, 2)
        with Recorder(model, tmp_path, every=2, optimizer=optimizer, batch_size=BATCH, step=2):
            schedule.step()  # the learning rate is another one: still the same run
            train(model, optimizer, 3, 4)
        assert steps_in(tmp_path) == [0, 2, 4]
        lines = {line["step"]: line["lr"] for line in read_log(tmp_path)}
        assert lines == {1: LR, 2: LR / 2, 4: LR / 4}

    def test_a_training_from_the_start_in_a_used_directory_is_refused(self, tmp_path: Path) -> None:
        record(tmp_path, 4)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UsageError, match="up to step 4 and this training begins at step 0"):
            record(tmp_path, 4)
        assert sorted(tmp_path.rglob("*")) == before

    def test_nothing_is_removed_beside_a_living_writer(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path) as writer:
            for step in range(4):
                writer.save(step, {"w": torch.eye(2)})
            writer.flush()
            with pytest.raises(UsageError, match="another writer is at work"):
                Recorder({"w": torch.eye(2)}, tmp_path, every=1, step=2)
            assert steps_in(tmp_path) == [0, 1, 2, 3]


class TestTroubleInTheLoop:
    def test_the_users_error_is_raised_and_snapshots_are_whole(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)

        def loop() -> None:
            with Recorder(model, tmp_path, every=2, optimizer=optimizer):
                train(model, optimizer, 1, 5)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            loop()
        assert steps_in(tmp_path) == [0, 2, 4]  # 5 may have been half an update
        assert not asked(tmp_path).incomplete
        Recorder(model, tmp_path, every=2, optimizer=optimizer, step=5).close()  # not locked

    def test_a_full_disk_does_not_hide_it(self, tmp_path: Path) -> None:
        def loop() -> None:
            with Recorder({"w": torch.zeros(300, 300)}, tmp_path, every=1):
                raise ZeroDivisionError

        with file_size_limit(100_000), pytest.raises(ZeroDivisionError) as caught:
            loop()
        assert "step-00000000" in caught.value.__notes__[0]

    def test_a_full_disk_is_told(self, tmp_path: Path) -> None:
        def loop() -> None:
            with Recorder({"w": torch.zeros(300, 300)}, tmp_path, every=100):
                pass

        with file_size_limit(100_000), pytest.raises(OutputFailed, match="step-00000000"):
            loop()

    def test_a_model_that_cannot_be_saved_leaves_no_lock(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="complex64 cannot be stored"):
            Recorder({"w": torch.zeros(2, 2, dtype=torch.complex64)}, tmp_path, every=1)
        Recorder({"w": torch.zeros(2, 2)}, tmp_path, every=1).close()


class TestNoDecompositionWhileTraining:
    @pytest.mark.parametrize("contents", ["weights", "spectra", "both"])
    def test_in_the_loops_thread(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Any
    ) -> None:
        main = threading.get_ident()
        with decompositions(monkeypatch, lambda: threading.get_ident() != main) as seen:
            record(tmp_path, contents=contents, example=samples(4)[0])
        # Where spectra are saved, the thread that writes decomposes: so the watch does see it.
        assert bool(seen) == (contents != "weights")


class TestWrappedModels:
    def test_names_are_those_of_the_model_itself(self, tmp_path: Path) -> None:
        inner = network()
        compiled = torch.compile(torch.nn.DataParallel(inner), backend="eager")
        optimizer = sgd(inner)
        with Recorder(compiled, tmp_path, every=1, optimizer=optimizer, example=samples(4)[0]):
            update(inner, optimizer, 1)
        saved = safetensors.torch.load_file(tmp_path / "snapshots/step-00000001.safetensors")
        assert saved.keys() == inner.state_dict().keys()
        known = read_run_record(tmp_path)
        assert known is not None
        assert (known.model, known.matrices) == ("Sequential", MATRICES)

    def test_zero_3_is_refused_and_not_saved_empty(self, tmp_path: Path) -> None:
        model = network()
        for number, parameter in enumerate(model.parameters()):
            parameter.ds_id = number  # type: ignore[attr-defined] # as DeepSpeed marks them
        with pytest.raises(UsageError, match="ZeRO-3"):
            Recorder(model, tmp_path, every=1)


class TestExamples:
    """Whatever a batch comes as, the model is called with it as training calls it."""

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(12, 8)

        def forward(self, inputs: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            result: torch.Tensor = self.layer(inputs) * scale
            return result

    @pytest.mark.parametrize(
        "example",
        [
            torch.ones(4, 5, 12),
            (torch.ones(6, 5, 12), 2.0),
            {"inputs": torch.ones(4, 5, 12), "scale": 3.0},
        ],
        ids=["tensor", "tuple", "mapping"],
    )
    def test_inputs_per_sample_are_counted(self, tmp_path: Path, example: Any) -> None:
        Recorder(self.Named(), tmp_path, every=1, example=example).close()
        known = read_run_record(tmp_path)
        assert known is not None
        assert known.matrices == (MatrixRecord("layer.weight", "linear", (8, 12), 5),)

    def test_too_few_samples_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"forward\(n\) has to run it on n samples"):
            Recorder(self.Named(), tmp_path / "run", every=1, example=torch.ones(1, 12))
        assert not (tmp_path / "run").exists()


class Tied(torch.nn.Module):
    """An output layer that shares the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(30, 12)
        self.middle = torch.nn.Linear(12, 12)
        self.head = torch.nn.Linear(12, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores of the next token."""
        scores: torch.Tensor = self.head(self.middle(self.embed(tokens)))
        return scores


@pytest.mark.parametrize("counted", [False, True])
def test_a_tied_matrix_is_averaged_once(tmp_path: Path, *, counted: bool) -> None:
    torch.manual_seed(0)
    model = Tied()
    example = torch.arange(20).reshape(4, 5) if counted else None
    with Recorder(model, tmp_path, every=2, optimizer=sgd(model), example=example):
        pass
    table = asked(tmp_path)
    ranks = {row["name"]: row["effective_rank"] for row in table.matrices}
    assert ranks["embed.weight"] == ranks["head.weight"]
    summary = table.summary[0]
    assert (summary["matrices"], summary["averaged"]) == (3, 2)
    mean = (ranks["embed.weight"] + ranks["middle.weight"]) / 2
    assert summary["effective_rank"] == pytest.approx(mean)
    # Every tensor is there, so that the snapshot can be loaded back.
    saved = safetensors.torch.load_file(next((tmp_path / "snapshots").iterdir()))
    assert saved.keys() == model.state_dict().keys()
