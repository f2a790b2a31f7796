"""What is put together snapshot by snapshot is what `analyze` says of the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rankscope
from rankscope.how import How
from rankscope.live.course import Known, course
from rankscope.live.lookout import Lookout
from rankscope.live.taking import Taken, take
from rankscope.metrics.thresholded import Norm
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshots import LogRecord
from tests.live.watching import asked
from tests.matrix import low_rank
from tests.rundirs import Recipe, Snapshots, write_run

STEPS = (0, 1, 2, 40, 80, 120)


def run_of(path: Path, recipe: Recipe | None, **odd: Any) -> Path:
    rng = np.random.default_rng(3)
    snapshots: Snapshots = {
        step: {
            "a.weight": low_rank(30, 24, 20 - i, seed=i) * 1.01**i,
            "b.weight": rng.standard_normal((12, 8)),
            "c.weight": np.zeros((4, 4)) if i == 3 else rng.standard_normal((4, 4)),
            "d.weight": np.full((3, 3), np.nan) if i == 2 else np.eye(3),
        }
        for i, step in enumerate(STEPS)
    }
    logs = {
        step: LogRecord(epoch=i, lr=0.1, train_loss=1 / (i + 1)) for i, step in enumerate(STEPS)
    }
    return write_run(path, snapshots, recipe, logs)


def nothing(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("recipe", "eps", "norm"),
    [
        (Recipe(weight_decay=0.9, unmarked=("b.weight",)), (1e-2,), "frobenius"),
        (Recipe(momentum=0.5), (1e-2, 1e-3), "spectral"),
        (Recipe(optimiser="adam"), (1e-2,), "frobenius"),
        (Recipe(inputs=None), (1e-2,), "none"),
        (Recipe(schedule=None), (1e-2,), "frobenius"),
    ],
)
def test_rows_are_those_of_analyze(
    tmp_path: Path, recipe: Recipe, eps: tuple[float, ...], norm: Norm
) -> None:
    run = run_of(tmp_path / "run", recipe)
    metrics = ["rank", "effective_rank", "frobenius_norm"]
    table = rankscope.analyze(
        run, metrics=metrics, eps=eps, norm=norm, how=How(workers=1, store=False)
    )
    question = asked(metrics, eps, norm)
    series = Lookout(run).look().series
    assert series is not None
    # In any order: a person wants the newest first.
    order = (120, 0, 80, 2, 1, 40)
    by_step = {one.step: one for one in series.snapshots}
    taken: dict[int, Taken] = {}
    for step in order:
        taken[step] = take(series, by_step[step], question, nothing)
    log = {line["step"]: line for line in read_log(run)}
    known = Known(read_run_record(run), log, epochs=False)
    found = course(taken, STEPS, question.question, known)
    rows = [row for own in found.rows.values() for row in own]
    assert len(rows) == len(table.matrices)
    for row, expected in zip(rows, table.matrices, strict=True):
        assert row == expected | {"content": row["content"]}
    assert found.columns == table.columns
    for summary, expected in zip(found.summary, table.summary, strict=True):
        assert {"source": expected["source"], **summary} == expected


def test_a_snapshot_that_is_still_to_be_measured_leaves_a_gap(tmp_path: Path) -> None:
    """The ratio of norms is over neighbours: not over two intervals because one is unknown yet."""
    run = run_of(tmp_path / "run", Recipe())
    series = Lookout(run).look().series
    assert series is not None
    taken = {
        one.step: take(series, one, asked(), nothing)
        for one in series.snapshots
        if one.step is not None and one.step != 40
    }
    found = course(taken, STEPS, asked().question, Known(None, {}, epochs=False))
    ratios = {step: own[0]["norm_ratio"] for step, own in found.rows.items()}
    assert ratios[80] is None
    assert ratios[120] is not None
    assert "no spectrum at step 40" in found.rows[80][0]["notes"]["norm_ratio"]


def test_the_rows_of_a_snapshot_are_left_as_they_were(tmp_path: Path) -> None:
    """They are put together again with each snapshot that comes."""
    run = run_of(tmp_path / "run", Recipe())
    series = Lookout(run).look().series
    assert series is not None
    one = take(series, series.snapshots[1], asked(), nothing)
    before = repr(one.rows)
    course({1: one}, STEPS, asked().question, Known(read_run_record(run), {}, epochs=False))
    assert repr(one.rows) == before
