"""What the tests have workers do."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import InputRejected
from rankscope.worker import Outcome, Task, measure_task


def dies_with_a_mark(folder: Path) -> str:
    """Where it says so, leave a file for each try, and die."""
    if folder.name == "killer":
        (folder / uuid.uuid4().hex).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return folder.name


def kills_on_killer(task: Task) -> list[Outcome]:
    """Measure, but for a matrix of this name."""
    if any(spec.name == "killer" for spec in task.specs):
        os.kill(os.getpid(), signal.SIGKILL)
    return measure_task(task)


def slow(task: Task) -> list[Outcome]:
    time.sleep(0.1)
    return measure_task(task)


def shouts(number: int) -> int:
    """What a library in C may do."""
    os.write(2, b"not for the user\n")
    return number


def rejects(name: str) -> None:
    raise InputRejected(name, "no such thing", tensor="w")


def threads_of_blas(_: int) -> set[int]:
    from threadpoolctl import threadpool_info

    import rankscope.solvers  # noqa: F401 - loads NumPy's BLAS

    return {library["num_threads"] for library in threadpool_info()}


@dataclass(frozen=True)
class Weight:
    """An item that needs memory, and perhaps a GPU."""

    number: int
    memory: int
    device: str = "cpu"


def span(_: Weight) -> tuple[int, float, float]:
    """The process, and from when to when it was there."""
    start = time.time()
    time.sleep(0.15)
    return os.getpid(), start, time.time()
