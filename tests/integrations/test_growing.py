"""A run read as it grows: what is told of each snapshot, and that nothing is read twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankscope.errors import UsageError
from rankscope.how import How
from rankscope.integrations.growing import Growing
from rankscope.integrations.readings import SnapshotReading, readings
from rankscope.live import taking
from rankscope.series import discover
from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from tests.matrix import Array, low_rank

HOW = How(workers=1, cores=1)

RECORD = RunRecord(
    matrices=(
        MatrixRecord("a.weight", "linear", (30, 24), 1),
        MatrixRecord("b.weight", "linear", (12, 8), 1, averaged=False),
    ),
    optimiser=Optimiser("sgd"),
    hyperparameters=Hyperparameters(1, 0.5, 1.0),
)


def weights(step: int) -> dict[str, Array]:
    """A matrix whose rank and norm fall with the step, and one that stays."""
    falling = low_rank(30, 24, max(1, 20 - step // 10), seed=step) * 0.9**step
    return {"a.weight": falling, "b.weight": np.eye(12, 8), "b.bias": np.ones(12)}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The step of every snapshot that is read through from now on."""
    found: list[int | None] = []
    take = taking.take

    def counted(*arguments: object) -> object:
        found.append(arguments[1].step)  # type: ignore[attr-defined]
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("rankscope.live.following.take", counted)
    return found


def news(growing: Growing, path: Path) -> list[SnapshotReading]:
    return list(growing.news(discover(path)))


@pytest.mark.parametrize("record", [RECORD, None])
def test_each_snapshot_is_read_once_and_told_as_an_analysis_of_all_has_it(
    tmp_path: Path, taken: list[int | None], record: RunRecord | None
) -> None:
    growing = Growing(tmp_path, None, (), HOW)
    last: int | None = None
    bounds = 0
    with SnapshotWriter(tmp_path, record) as writer:
        for some in ((0,), (10, 20), (30,), (45,)):
            for step in some:
                writer.save(step, weights(step), LogRecord(lr=0.5, train_loss=1 / (1 + step)))
            writer.flush()
            found = news(growing, tmp_path)
            assert [one.step for one in found] == list(some)
            assert found == list(readings(tmp_path, last, (), HOW))
            assert news(growing, tmp_path) == []
            last = some[-1]
            bounds += sum("bound_exact" in m.values for one in found for m in one.matrices)
    assert taken == [0, 10, 20, 30, 45]
    assert bool(bounds) == (record is not None)
    assert "norm_ratio" in found[0].means


def test_what_is_known_already_is_not_told_but_counts(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path, RECORD) as writer:
        for step in (0, 10, 20):
            writer.save(step, weights(step))
    found = news(Growing(tmp_path, 10, ("rank",), HOW), tmp_path)
    assert found == list(readings(tmp_path, 10, ("rank",), HOW))
    assert [one.step for one in found] == [20]
    assert "norm_ratio" in found[0].means  # over the one before


def test_what_cannot_be_read_is_told_with_its_reason(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        for step in (0, 10, 20):
            writer.save(step, weights(step))
    damaged = tmp_path / "snapshots" / "step-00000010.safetensors"
    damaged.write_bytes(b"damaged")
    first, second, third = news(Growing(tmp_path, None, ("rank",), HOW), tmp_path)
    assert (first.trouble, third.trouble) == ("", "")
    assert second.trouble.startswith(f"{damaged}: ")
    assert "safetensors" in second.trouble
    assert len(third.matrices) == 2


def test_a_snapshot_that_a_trainer_removed_counts_for_the_next(tmp_path: Path) -> None:
    growing = Growing(tmp_path, None, ("rank",), HOW)
    with SnapshotWriter(tmp_path) as writer:
        for step in (0, 10):
            writer.save(step, weights(step))
        writer.flush()
        news(growing, tmp_path)
        writer.save(20, weights(20))
        writer.flush()
        (tmp_path / "snapshots" / "step-00000000.safetensors").unlink()
        (found,) = news(growing, tmp_path)
    assert found.step == 20
    assert found.means["norm_ratio"] == pytest.approx(
        np.mean(
            [
                np.linalg.norm(weights(10)[n]) / np.linalg.norm(weights(20)[n])
                for n in ("a.weight", "b.weight")
            ]
        )
    )


def test_without_steps_nothing_can_be_told(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        writer.save(0, weights(0))
    path = tmp_path / "snapshots" / "step-00000000.safetensors"
    path.rename(path.with_name("model.safetensors"))
    with pytest.raises(UsageError, match="no snapshot has a step in its name"):
        news(Growing(tmp_path, None, ("rank",), HOW), tmp_path)
