"""SIGKILL at every call that matters, and at any time: the old state or the new, never a half."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
import safetensors.numpy

from rankscope.runlog import LogRecord, read_log
from rankscope.runrecord import RunRecord, read_run_record
from rankscope.snapshotfiles import Format
from rankscope.snapshots import SnapshotWriter

STEPS = 2

# Runs in a child of the test, which forks once for every point to die at: before and after each
# call into the system, from any thread. What happens inside the library's own write is met by
# the second mode, which dies at a random time.
CHILD = """
import os, random, signal, sys, threading, time
import numpy as np
from rankscope.snapshots import LogRecord, RunRecord, SnapshotWriter

MODULES = {"posix", "_io", "io", "fcntl", "safetensors._safetensors_rust"}

class Killer:
    def __init__(self, after):
        self.left = after

    def __call__(self, frame, event, function):
        if event not in ("c_call", "c_return", "c_exception"):
            return
        owner = type(getattr(function, "__self__", None)).__module__
        if getattr(function, "__module__", None) in MODULES or owner in MODULES:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

def train(directory, form, steps, size):
    with SnapshotWriter(directory, RunRecord(model="m"), format=form) as writer:
        for step in range(steps):
            tensor = np.full((size, size), step, np.float32)
            writer.save(step, {"w": tensor}, LogRecord(epoch=step))

def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child

def every_point(root, form, steps):
    for point in range(100000):
        def work():
            killer = Killer(point)
            threading.setprofile(killer)
            sys.setprofile(killer)
            train(f"{root}/{point:05d}", form, steps, 40)
            sys.setprofile(None)
        if os.waitpid(fork(work), 0)[1] == 0:
            return

def any_time(root, form, kills):
    dice = random.Random(0)
    for kill in range(kills):
        child = fork(lambda: train(f"{root}/{kill:05d}", form, 100000, 700))
        time.sleep(dice.uniform(0.002, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

mode, root, form, count = sys.argv[1:]
train(f"{root}/warm-up", form, 1, 2)  # so that nothing is imported after a fork
{"every_point": every_point, "any_time": any_time}[mode](root, form, int(count))
"""


def run_child(mode: str, root: Path, form: Format, count: int) -> list[Path]:
    """The directories of all killed writers."""
    command = [sys.executable, "-c", CHILD, mode, str(root), form, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(root.glob("0*"))


def check(run_dir: Path) -> int:
    """Read everything under a final name with other libraries; the number of snapshots."""
    if (run_dir / "run.json").exists():
        assert json.loads((run_dir / "run.json").read_text())["model"] == "m"
        assert read_run_record(run_dir) is not None
    logged = [line["step"] for line in read_log(run_dir)]
    assert logged == list(range(len(logged)))
    saved = sorted((run_dir / "snapshots").glob("step-*"))
    for step, path in enumerate(saved):
        assert path.stem == f"step-{step:08d}", "a snapshot before it is missing"
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                tensor = file["w"][()]
        else:
            tensor = safetensors.numpy.load_file(path)["w"]
        assert tensor.shape[0] == tensor.shape[1]
        assert np.all(tensor == step)
    return len(saved)


def leftovers(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.rglob(".*") if path.suffix == ".tmp"]


def resume(run_dir: Path, saved: int) -> None:
    """Opening again removes what was left, and the run goes on where its snapshots end."""
    with SnapshotWriter(run_dir, RunRecord(model="m")) as writer:
        assert not leftovers(run_dir)
        writer.save(saved, {"w": np.ones((2, 2))}, LogRecord(epoch=saved))
    assert read_log(run_dir)[-1]["step"] == saved
    assert len(list((run_dir / "snapshots").iterdir())) == saved + 1


@pytest.mark.parametrize("form", get_args(Format))
def test_killed_before_and_after_every_call(tmp_path: Path, form: Format) -> None:
    *killed, finished = run_child("every_point", tmp_path, form, STEPS)
    assert check(finished) == STEPS
    assert len(killed) > 100
    saved = [check(run_dir) for run_dir in killed]
    assert set(saved) == set(range(STEPS + 1)), "some state was never met"
    assert sum(bool(leftovers(run_dir)) for run_dir in killed) > 10
    for run_dir, count in zip(killed, saved, strict=True):
        resume(run_dir, count)


@pytest.mark.parametrize("form", get_args(Format))
def test_killed_at_any_time(tmp_path: Path, form: Format) -> None:
    killed = run_child("any_time", tmp_path, form, 12)
    saved = [check(run_dir) for run_dir in killed]
    assert max(saved) > 2
    assert any(leftovers(run_dir) for run_dir in killed)
    for run_dir, count in zip(killed, saved, strict=True):
        resume(run_dir, count)
