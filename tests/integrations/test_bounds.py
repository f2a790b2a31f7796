"""What a hook leaves of layers that are frozen, added or set apart: never too small a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rankscope.api import Analysis
from rankscope.errors import UsageError
from rankscope.integrations.pytorch import Recorder
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshots import LogRecord, SnapshotWriter
from tests.integrations.runs import BATCH, LR, WEIGHT_DECAY, asked, network, samples, sgd, update

SIZES: dict[str, Any] = {"batch_size": BATCH, "example": samples(4)[0]}


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        update(model, optimizer, step)


def last_row(found: Analysis, name: str) -> dict[str, Any]:
    """The row of a matrix at the last step."""
    return [row for row in found.matrices if row["name"] == name][-1]


def no_bound(found: Analysis) -> str:
    """Why a run has no bound, and that none is shown."""
    assert all(row["bound_exact"] is None for row in found.matrices)
    return str(found.runs[0]["no_bound"])


class TestFrozen:
    @pytest.mark.parametrize("held", [False, True])
    def test_a_frozen_matrix_has_no_bound(self, tmp_path: Path, *, held: bool) -> None:
        """Whether the optimizer holds it or not: without a gradient it does not decay."""
        model = network()
        weight = model.get_parameter("0.weight").requires_grad_(False)
        parameters = [p for p in model.parameters() if held or p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=LR, weight_decay=WEIGHT_DECAY)
        before = weight.clone()
        with Recorder(model, tmp_path, every=4, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 12)
        assert torch.equal(before, weight)
        found = asked(tmp_path)
        frozen = last_row(found, "0.weight")
        assert frozen["bound_exact"] is None
        assert "it was not trained when the run began" in frozen["notes"].values()
        assert last_row(found, "4.weight")["bound_exact"]

    def test_nor_has_one_of_another_optimizer(self, tmp_path: Path) -> None:
        model = network()
        optimizer = torch.optim.SGD(model[4].parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        with Recorder(model, tmp_path, every=4, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 4)
        known = read_run_record(tmp_path)
        assert known is not None
        assert [(one.inputs_per_sample, one.trained) for one in known.matrices] == [
            (None, False),
            (1, True),
        ]

    def test_one_that_is_frozen_later_has_none_from_there_on(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        with Recorder(model, tmp_path, every=20, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 3)
            model.get_parameter("0.weight").requires_grad_(False)
            train(model, optimizer, 4, 8)
        message = "the learning rate of the updates from 3 on is not recorded; give --mu"
        assert no_bound(asked(tmp_path)) == message


class TestGroups:
    def test_one_that_is_added_later_counts_from_there_on(self, tmp_path: Path) -> None:
        model = network()
        last = model.get_parameter("4.weight")
        optimizer = torch.optim.SGD([last], lr=LR, weight_decay=WEIGHT_DECAY)
        with Recorder(model, tmp_path, every=20, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 3)
            optimizer.add_param_group({"params": [model[0].weight], "lr": 1e-4})
            train(model, optimizer, 4, 8)
        assert [(line["step"], line["lr"]) for line in read_log(tmp_path)] == [(3, LR), (8, None)]
        message = "the learning rate of the updates from 3 on is not recorded; give --mu"
        assert no_bound(asked(tmp_path)) == message

    @pytest.mark.parametrize("key", ["lr", "weight_decay"])
    def test_groups_that_part_later(self, tmp_path: Path, key: str) -> None:
        model = network()
        groups: Any = [{"params": [model[0].weight]}, {"params": [model[4].weight]}]
        optimizer = torch.optim.SGD(groups, lr=LR, weight_decay=WEIGHT_DECAY)
        with Recorder(model, tmp_path, every=20, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 3)
            optimizer.param_groups[0][key] = 0.0
            train(model, optimizer, 4, 8)
        steps = [(line["step"], line[key] is None) for line in read_log(tmp_path)]
        assert steps == [(3, False), (8, True)]
        assert "of the updates from 3 on is not recorded" in no_bound(asked(tmp_path))

    def test_momenta_that_part_later(self, tmp_path: Path) -> None:
        model = network()
        groups: Any = [{"params": [model[0].weight]}, {"params": [model[4].weight]}]
        optimizer = torch.optim.SGD(groups, lr=LR, weight_decay=WEIGHT_DECAY, momentum=0.5)
        with Recorder(model, tmp_path, every=20, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 3)
            optimizer.param_groups[0]["momentum"] = 0.9
            train(model, optimizer, 4, 8)
        assert "momentum is not always known" in no_bound(asked(tmp_path))


def test_a_weight_decay_that_ends(tmp_path: Path) -> None:
    """The bound reckons with 3 updates that decay, not with 16."""

    def final(run_dir: Path, *, ends: bool) -> dict[str, Any]:
        model = network()
        optimizer = sgd(model)
        with Recorder(model, run_dir, every=8, optimizer=optimizer, **SIZES):
            train(model, optimizer, 1, 3)
            if ends:
                optimizer.param_groups[0]["weight_decay"] = 0.0
            train(model, optimizer, 4, 16)
        return last_row(asked(run_dir), "0.weight")

    assert final(tmp_path / "constant", ends=False)["bound_exact"]
    # 0.4 ** 3 is what is left, 0.064: above eps / 2.
    ended = final(tmp_path / "ended", ends=True)
    assert ended["bound_exact"] is None
    assert ended["vacuous"] is True


class TestResumed:
    def test_lines_of_later_steps_go_without_a_later_snapshot(self, tmp_path: Path) -> None:
        model = network()
        optimizer = sgd(model)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

        def killed() -> None:
            with Recorder(model, tmp_path, every=4, optimizer=optimizer, **SIZES):
                for step in range(1, 8):
                    update(model, optimizer, step)
                    schedule.step()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            killed()
        assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]
        optimizer.param_groups[0]["lr"] = 0.001
        with pytest.warns(RuntimeWarning, match="step 4: 2 lines of the log of later steps were"):
            recorder = Recorder(model, tmp_path, every=4, optimizer=optimizer, step=4, **SIZES)
        with recorder:
            train(model, optimizer, 5, 8)
        lines = {line["step"]: line["lr"] for line in read_log(tmp_path)}
        assert lines == pytest.approx({1: LR, 2: 0.45, 3: 0.405, 4: 0.3645, 8: 0.001})

    def test_what_a_later_line_says_of_earlier_updates_stays(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path) as writer:
            for step, rate, loss in ((2, 0.1, 3.0), (9, 0.2, 2.0)):
                writer.log(step, LogRecord(lr=rate, train_loss=loss))
            writer.log(5, LogRecord(test_accuracy=0.5))
        model = network()
        with pytest.warns(RuntimeWarning, match="1 lines of the log"):
            Recorder(model, tmp_path, every=20, step=5).close()
        last = {line["step"]: line for line in read_log(tmp_path)}
        assert last == {
            2: {"step": 2, "lr": 0.1, "train_loss": 3.0},
            5: {"step": 5, "test_accuracy": 0.5, "lr": 0.2},
        }


def test_an_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    other = torch.optim.SGD(network().parameters(), lr=LR)
    with pytest.raises(UsageError, match="holds no parameter of this model"):
        Recorder(network(), tmp_path / "run", every=4, optimizer=other)
    assert not (tmp_path / "run").exists()
