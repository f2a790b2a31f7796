"""The Trainer's callback, in a real Trainer on a tiny model built from scratch."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from rankscope.errors import UsageError
from rankscope.integrations.transformers import RankScopeCallback
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
    LR,
    WEIGHT_DECAY,
    State,
    asked,
    by_hand,
    decompositions,
    state_of,
    steps_in,
    told,
)

TOKENS = 6


def model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            tie_word_embeddings=False,
            attention_dropout=0.1,
        )
    )


def data() -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    return [{"input_ids": row, "labels": row} for row in torch.randint(20, (32, TOKENS))]


def batch() -> dict[str, torch.Tensor]:
    return {key: torch.stack([row[key] for row in data()[:4]]) for key in ("input_ids", "labels")}


def trainer(out: Path, *callbacks: Any, **arguments: Any) -> Any:
    """Ten updates of two accumulated batches of 4."""
    chosen = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 10,
        "optim": "sgd",
        "learning_rate": LR,
        "weight_decay": WEIGHT_DECAY,
        "lr_scheduler_type": "constant",
        "logging_steps": 3,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model(),
        TrainingArguments(str(out), **(chosen | arguments)),
        train_dataset=data(),
        eval_dataset=data()[:8],
        callbacks=list(callbacks),
    )


class States(TrainerCallback):  # type: ignore[misc] # of no type that mypy knows
    """The weights of every step, copied by hand."""

    def __init__(self) -> None:
        self.at: dict[int, State] = {}

    def on_train_begin(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
        self.at[state.global_step] = state_of(model)

    def on_step_end(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
        self.at[state.global_step] = state_of(model)


class Failing(TrainerCallback):  # type: ignore[misc] # of no type that mypy knows
    """Fails after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, _: Any, state: Any, __: Any, **___: Any) -> None:
        if state.global_step == self.step:
            raise ZeroDivisionError


# Every matrix works on the tokens of a sample one by one.
MATRICES = (
    MatrixRecord("model.embed_tokens.weight", "embedding", (20, 16), TOKENS),
    MatrixRecord("model.layers.0.self_attn.q_proj.weight", "linear", (16, 16), TOKENS),
    MatrixRecord("model.layers.0.self_attn.k_proj.weight", "linear", (16, 16), TOKENS),
    MatrixRecord("model.layers.0.self_attn.v_proj.weight", "linear", (16, 16), TOKENS),
    MatrixRecord("model.layers.0.self_attn.o_proj.weight", "linear", (16, 16), TOKENS),
    MatrixRecord("model.layers.0.mlp.gate_proj.weight", "linear", (24, 16), TOKENS),
    MatrixRecord("model.layers.0.mlp.up_proj.weight", "linear", (24, 16), TOKENS),
    MatrixRecord("model.layers.0.mlp.down_proj.weight", "linear", (16, 24), TOKENS),
    MatrixRecord("lm_head.weight", "linear", (20, 16), TOKENS),
)

RECORD = RunRecord(
    model="LlamaForCausalLM",
    matrices=MATRICES,
    optimiser=Optimiser("sgd"),
    hyperparameters=Hyperparameters(4, LR, WEIGHT_DECAY, accumulation=2),
    seed=42,
)


def lines(log_history: list[dict[str, Any]], steps: Iterable[int]) -> dict[int, LogRecord]:
    """What the log has to say: 32 samples are an epoch, 8 an update."""
    losses = {entry["step"]: entry["loss"] for entry in log_history if "loss" in entry}
    return {
        step: LogRecord(step / 4, LR, WEIGHT_DECAY, 0.0, train_loss=losses.get(step))
        for step in steps
    }


def test_analyses_as_what_the_plain_writer_writes(tmp_path: Path) -> None:
    states = States()
    hook = RankScopeCallback(tmp_path / "hook", every=4, example=batch())
    ran = trainer(tmp_path / "out", states, hook)
    ran.train()
    at = {step: states.at[step] for step in (0, 4, 8, 10)}
    by_hand(tmp_path / "hand", RECORD, at, lines(ran.state.log_history, (3, 4, 6, 8, 9, 10)))
    found = asked(tmp_path / "hook")
    assert told(found) == told(asked(tmp_path / "hand"))
    assert any(row["bound_exact"] for row in found.matrices)
    assert found.summary[-1]["lr"] == LR
    written = read_run_record(tmp_path / "hook")
    assert written is not None
    assert written.versions["transformers"] == transformers.__version__


def test_the_training_is_bit_for_bit_that_without_it(tmp_path: Path) -> None:
    def final(*callbacks: Any) -> tuple[State, torch.Tensor]:
        ran = trainer(tmp_path / "out", *callbacks)
        ran.train()
        return state_of(ran.model), torch.rand(3)

    hook = RankScopeCallback(tmp_path / "run", every=1, example=batch(), contents="both")
    with_it, drawn_with_it = final(hook)
    without, drawn_without = final()
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    assert torch.equal(drawn_with_it, drawn_without)
    assert steps_in(tmp_path / "run") == list(range(11))


def test_no_decomposition_in_the_trainers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = threading.get_ident()
    with decompositions(monkeypatch, lambda: threading.get_ident() != main) as seen:
        hook = RankScopeCallback(tmp_path / "run", every=2, example=batch(), contents="both")
        trainer(tmp_path / "out", hook).train()
    assert seen


class TestWhatIsSaved:
    @pytest.mark.parametrize(
        ("options", "arguments", "steps"),
        [
            ({}, {"save_strategy": "steps", "save_steps": 4}, [0, 4, 8, 10]),
            ({}, {"save_strategy": "epoch"}, [0, 4, 8, 10]),
            ({}, {"save_strategy": "no"}, [0, 10]),
            ({"every": "log"}, {"logging_steps": 3}, [0, 3, 6, 9, 10]),
            ({"every": 4, "burst": 2}, {}, [0, 3, 4, 7, 8, 10]),
            ({"every": 3}, {"max_steps": -1, "num_train_epochs": 1}, [0, 3, 4]),
        ],
    )
    def test_follows_the_trainers_strategy(
        self, tmp_path: Path, options: Any, arguments: Any, steps: list[int]
    ) -> None:
        trainer(
            tmp_path / "out", RankScopeCallback(tmp_path / "run", **options), **arguments
        ).train()
        assert steps_in(tmp_path / "run") == steps

    def test_the_last_step_and_not_the_best_model_that_is_loaded_after_it(
        self, tmp_path: Path
    ) -> None:
        states = States()
        hook = RankScopeCallback(tmp_path / "run", every=100)
        ran = trainer(
            tmp_path / "out",
            states,
            hook,
            EarlyStoppingCallback(1),
            save_strategy="steps",
            save_steps=2,
            eval_strategy="steps",
            eval_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=True,  # so that the first is the best, and training stops early
        )
        ran.train()
        last = max(states.at)
        assert last < 10
        assert steps_in(tmp_path / "run") == [0, last]
        saved = load_file(tmp_path / f"run/snapshots/step-{last:08d}.safetensors")
        assert all(torch.equal(saved[name], states.at[last][name]) for name in saved)
        best = state_of(ran.model)["lm_head.weight"]
        assert not torch.equal(best, saved["lm_head.weight"])

    def test_the_learning_rate_of_every_update_and_the_evaluations(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path / "run", every=5)
        arguments = {"lr_scheduler_type": "linear", "eval_strategy": "steps", "eval_steps": 5}
        ran = trainer(tmp_path / "out", hook, **arguments)
        ran.train()
        log = {line["step"]: line for line in read_log(tmp_path / "run")}
        assert [log[step]["lr"] for step in sorted(log)] == pytest.approx(
            [LR * (1 - step / 10) for step in range(10)]
        )
        evaluated = [entry for entry in ran.state.log_history if "eval_loss" in entry]
        assert [log[entry["step"]]["test_loss"] for entry in evaluated] == [
            entry["eval_loss"] for entry in evaluated
        ]
        assert ran.evaluate()["eval_loss"] > 0  # after the end it is nobody's business
        assert max(log) == 10

    def test_with_what_a_snapshot_was_made_that_a_killed_training_left(
        self, tmp_path: Path
    ) -> None:
        class Ends(TrainerCallback):  # type: ignore[misc] # of no type that mypy knows
            def on_step_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
                if state.global_step == 6:
                    raise ZeroDivisionError

        callback = RankScopeCallback(tmp_path / "run")
        saving: Any = {"save_strategy": "steps", "save_steps": 5, "logging_steps": 50}
        with pytest.raises(ZeroDivisionError), callback:
            trainer(tmp_path / "out", callback, Ends(), **saving).train()
        assert steps_in(tmp_path / "run") == [0, 5]
        assert [(line["step"], line["lr"]) for line in read_log(tmp_path / "run")] == [(5, LR)]

    def test_a_batch_size_that_is_tried_out_is_left_open(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path / "run", every=5)
        trainer(tmp_path / "out", hook, auto_find_batch_size=True).train()
        written = read_run_record(tmp_path / "run")
        assert written is not None
        assert written.hyperparameters is None


def test_resumes_from_the_trainers_checkpoint(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4}
    states = States()
    hook = RankScopeCallback(tmp_path / "hook", every=3, example=batch())
    with hook, pytest.raises(ZeroDivisionError):
        trainer(tmp_path / "out", states, hook, Failing(7), **saving).train()
    assert steps_in(tmp_path / "hook") == [0, 3, 6]
    again = RankScopeCallback(tmp_path / "hook", every=3, example=batch())
    ran = trainer(tmp_path / "out", states, again, **saving)
    with pytest.warns(RuntimeWarning, match="resumes from step 4: 1 snapshots of later steps"):
        ran.train(resume_from_checkpoint=True)
    at = {step: states.at[step] for step in (0, 3, 6, 9, 10)}
    by_hand(tmp_path / "hand", RECORD, at, lines(ran.state.log_history, (3, 6, 9, 10)))
    assert told(asked(tmp_path / "hook")) == told(asked(tmp_path / "hand"))


class TestTrouble:
    def test_the_users_error_is_raised_and_snapshots_are_whole(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path / "run", every=2)
        with pytest.raises(ZeroDivisionError):
            trainer(tmp_path / "out", hook, Failing(5)).train()
        hook.close()
        assert steps_in(tmp_path / "run") == [0, 2, 4]
        assert not asked(tmp_path / "run").incomplete

    def test_a_second_training_in_the_same_directory_is_refused(self, tmp_path: Path) -> None:
        hook = RankScopeCallback(tmp_path / "run", every=5)
        ran = trainer(tmp_path / "out", hook)
        ran.train()
        with pytest.raises(UsageError, match="up to step 10 and this training begins at step 0"):
            ran.train()

    def test_an_unknown_word(self, tmp_path: Path) -> None:
        word: Any = "epoch"
        with pytest.raises(UsageError, match="every is 'epoch', expected a number of steps, save"):
            RankScopeCallback(tmp_path / "run", every=word)


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    hook = RankScopeCallback(tmp_path / "run", every=1)

    class Second(TrainerCallback):  # type: ignore[misc] # of no type that mypy knows
        def on_train_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
            state.is_world_process_zero = False

    trainer(tmp_path / "out", Second(), hook).train()
    assert not (tmp_path / "run").exists()
