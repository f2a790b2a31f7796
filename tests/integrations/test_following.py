"""What measures beside a training: everything is told, and nothing of it reaches the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankscope.blas import THREAD_VARIABLES
from rankscope.errors import UsageError
from rankscope.integrations import Follower, SnapshotReading
from rankscope.integrations.pytorch import Recorder
from rankscope.snapshots import SnapshotWriter
from tests.integrations.kept import Kept
from tests.integrations.runs import (
    asked,
    decompositions,
    network,
    samples,
    sgd,
    state_of,
    steps_in,
    trained,
    update,
)

ROOT = Path(__file__).parents[2]

SECONDS = 30  # far more than a start of Python and an analysis take


def recorded(run_dir: Path, *sinks: Any, steps: int = 12, **options: Any) -> Any:
    """The small training with sinks; its model."""
    model = network()
    optimizer = sgd(model)
    with Recorder(model, run_dir, every=4, optimizer=optimizer, sinks=sinks, **options):
        for step in range(1, steps + 1):
            update(model, optimizer, step)
    return model


def children() -> set[int]:
    """The processes that this one has started and that live."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(number) for task in tasks for number in task.read_text().split()}


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


class Broken(Kept):
    """A sink that fails when it is told, or when it is closed."""

    def __init__(self, where: str) -> None:
        super().__init__("rank")
        self.where = where

    def write(self, reading: SnapshotReading) -> None:
        super().write(reading)
        if self.where == "write":
            raise ZeroDivisionError("no\x1broom")

    def close(self) -> None:
        super().close()
        if self.where == "close":
            raise ZeroDivisionError("no\x1broom")


def test_a_sink_is_told_of_every_snapshot_by_the_end(tmp_path: Path) -> None:
    sink = Kept()
    recorded(tmp_path, sink, batch_size=8, example=samples(4)[0])
    assert (sink.steps, sink.closed) == ([0, 4, 8, 12], 1)
    rows = {(row["step"], row["name"]): row for row in asked(tmp_path).matrices}
    told = {
        (one.step, matrix.name): matrix.values for one in sink.readings for matrix in one.matrices
    }
    assert told.keys() == rows.keys()
    for key, row in rows.items():
        assert told[key] == {name: row[name] for name in told[key]}
        assert {"rank", "effective_rank", "stable_rank"} <= told[key].keys()
    assert all("norm_ratio" in told[step, "0.weight"] for step in (4, 8, 12))
    assert any("bound_exact" in told[step, "0.weight"] for step in (4, 8, 12))


def test_no_decomposition_in_the_process_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Kept("rank")
    with decompositions(monkeypatch, lambda: False) as seen:
        recorded(tmp_path, sink, example=samples(4)[0])
    assert not seen
    assert len(sink.readings) == 4
    assert sum(sink.readings[-1].matrices[0].counts) == 12


def test_the_training_is_bit_for_bit_that_without_it(tmp_path: Path) -> None:
    model = recorded(tmp_path, Kept("rank"))
    expected = trained(12)[12]
    assert all(bool((state_of(model)[name] == expected[name]).all()) for name in expected)


def test_it_measures_at_the_lowest_priority_on_one_thread_and_no_gpu(tmp_path: Path) -> None:
    before = children()
    with Follower(tmp_path, Kept("rank")):
        (pid,) = children() - before
        until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {f"{name}=1".encode() for name in THREAD_VARIABLES} <= set(environment)
        assert b"CUDA_VISIBLE_DEVICES=" in environment
    assert children() <= before


def test_snapshots_are_told_while_training_goes_on(tmp_path: Path) -> None:
    sink = Kept("rank")
    with SnapshotWriter(tmp_path) as writer, Follower(tmp_path, sink):
        for step in (0, 10):
            writer.save(step, {"w": np.eye(3) * (step + 1)})
            until(lambda: step in sink.steps)  # noqa: B023 - called at once
    assert sink.steps == [0, 10]


def test_what_the_sink_knows_is_not_told_again(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        for step in range(3):
            writer.save(step, {"w": np.eye(3)})
    sink = Kept("rank", latest=1)
    Follower(tmp_path, sink).close()
    assert sink.steps == [2]


def test_a_run_without_a_snapshot(tmp_path: Path) -> None:
    sink = Kept("rank")
    Follower(tmp_path / "none", sink).close()
    assert (sink.steps, sink.closed) == ([], 1)


class TestTrouble:
    def test_a_sink_that_fails_harms_nobody(self, tmp_path: Path) -> None:
        """`write` in the thread, `close` in the training's."""
        well = Kept("rank")
        message = r"Broken was not told of every snapshot: ZeroDivisionError: no\\x1broom"
        for where in ("write", "close"):
            run_dir = tmp_path / where
            with pytest.warns(RuntimeWarning, match=message):
                recorded(run_dir, Broken(where), well)
            assert steps_in(run_dir) == [0, 4, 8, 12]
        assert well.steps == [0, 4, 8, 12, 0, 4, 8, 12]

    def test_a_killed_process_is_told_of(self, tmp_path: Path) -> None:
        before = children()
        follower = Follower(tmp_path, Kept("rank"))
        (pid,) = children() - before
        os.kill(pid, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="the process that measures ended with code -9"):
            follower.close()

    def test_the_last_words_of_one_that_failed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rankscope.integrations.following.BESIDE", "rankscope.nothing")
        follower = Follower(tmp_path, Kept("rank"))
        with pytest.warns(RuntimeWarning, match="every snapshot: .*No module named"):
            follower.close()

    @pytest.mark.parametrize("good", [[], [5]])
    def test_a_snapshot_that_cannot_be_read(self, tmp_path: Path, good: list[int]) -> None:
        with SnapshotWriter(tmp_path) as writer:
            for step in (0, *good):
                writer.save(step, {"w": np.eye(3)})
        (tmp_path / "snapshots/step-00000000.safetensors").write_bytes(b"damaged")
        sink = Kept("rank")
        with pytest.warns(RuntimeWarning, match="every snapshot: .*step-00000000.safetensors"):
            Follower(tmp_path, sink).close()
        assert sink.steps == good

    def test_an_unknown_metric_is_refused_at_once(self, tmp_path: Path) -> None:
        before = children()  # of earlier tests, kept for the next analysis
        with pytest.raises(UsageError, match="'rnak' is not known; did you mean rank"):
            Recorder(network(), tmp_path, every=1, sinks=[Kept("rnak")])
        assert children() <= before
        Recorder(network(), tmp_path, every=1).close()  # not locked

    def test_the_users_error_waits_for_no_spectrum(self, tmp_path: Path) -> None:
        before = children()
        sink = Kept("rank")

        def loop() -> None:
            with Recorder({"w": np.eye(3)}, tmp_path, every=1, sinks=[sink]):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            loop()
        assert sink.closed == 1
        assert children() <= before
        assert steps_in(tmp_path) == [0]

    def test_an_interruption_ends_the_wait(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = children()
        sink = Kept("rank")
        follower = Follower(tmp_path, sink)

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "join", interrupted)
            with pytest.raises(KeyboardInterrupt):
                follower.close()
        assert sink.closed == 1
        assert children() <= before
        follower.close()

    def test_it_ends_with_a_training_that_is_killed(self, tmp_path: Path) -> None:
        code = """
import os, signal, sys
from tests.integrations.kept import Kept
from rankscope.integrations import Follower
follower = Follower(sys.argv[1], Kept("rank"))
print(follower._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        until(lambda: not alive(int(done.stdout)))
