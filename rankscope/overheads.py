"""What measuring takes beside arithmetic on entries: of a command, a task, a matrix, a row."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from rankscope.asking import Asked, asked_of, table_of
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.question import Question
from rankscope.worker import Task, list_checkpoint, measure_task

ENOUGH_SECONDS = 0.01  # a shorter call is repeated: another process may have had the core
TINY, MANY = 8, 65  # order and number of the matrices whose overhead is measured
ROW_PAIRS = 5  # of the table with and without its rows, of which the median difference counts


def seconds_of(call: Callable[[], object]) -> float:
    """The median of as many calls as make `ENOUGH_SECONDS`, or the only one of a long one."""
    times: list[float] = []
    while sum(times) < ENOUGH_SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def overheads() -> tuple[float, float, float]:
    """Seconds of a task, of a matrix in it, and of a row of the table, beside all arithmetic."""
    columns = Question().columns()
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for count in (1, MANY):
            path = _tiny(Path(folder) / f"{count}.safetensors", count)
            listed = list_checkpoint(path)
            if not isinstance(listed, tuple):
                raise AssertionError("a file that was just written is sound")
            task = Task(path, select(listed[0], Selection())[0], "auto", columns)
            seconds[count] = seconds_of(partial(measure_task, task))
        matrix = max(0.0, (seconds[MANY] - seconds[1]) / (MANY - 1))
        asked = asked_of(how=How(workers=1, store=False))
        rows = [_row_seconds(path, task, asked) for _ in range(ROW_PAIRS)]
    row = max(0.0, statistics.median(rows)) / MANY
    return max(0.0, seconds[1] - matrix), matrix, row


def _row_seconds(path: Path, task: Task, asked: Asked) -> float:
    """What a table takes longer than its matrices; both at once, for the machine changes."""
    start = time.perf_counter()
    measure_task(task)
    middle = time.perf_counter()
    table_of(path, asked=asked)
    return time.perf_counter() - middle - (middle - start)


def command_seconds() -> float:
    """From the start of a process to its end, of `analyze` on next to nothing."""
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        path = _tiny(Path(folder) / "1.safetensors", 1)
        command = [sys.executable, "-m", "rankscope", "analyze", str(path), "--no-store"]
        start = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return time.perf_counter() - start


def _tiny(path: Path, count: int) -> Path:
    """A file of so many tiny matrices."""
    from safetensors.numpy import save_file

    save_file({f"w{i}": np.eye(TINY, dtype=np.float32) for i in range(count)}, path)
    return path
