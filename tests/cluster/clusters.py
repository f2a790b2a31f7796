"""Real clusters of real processes on 127.0.0.1: a scheduler's, and nannies with their workers'."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.processes import ROOT, session, until

# Of the schedulers here: a killer is tried on three workers in all, not on five.
ALLOWED_FAILURES = 1

# Workers import the tests' functions, and say what they have to say in a file.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(ALLOWED_FAILURES),
}


@dataclass(frozen=True)
class Scheduler:
    address: str
    file: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(log: Path, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of Dask in a session of its own; whatever is left of it is killed in the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=log.parent,
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT, **environment},
        )
    try:
        yield process
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@contextmanager
def scheduler(folder: Path, *arguments: object, **environment: str) -> Iterator[Scheduler]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    command = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
    more = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file)
    with started(folder / "scheduler.log", *command, *more, *arguments, **environment) as process:
        until(file.exists)
        yield Scheduler(until(lambda: written(file))["address"], file, process)


def written(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except ValueError:
        return {}


@contextmanager
def workers(
    scheduler: Scheduler, folder: Path, *arguments: object, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    command = ("distributed.cli.dask_worker", scheduler.address, "--host", "127.0.0.1")
    more = ("--local-directory", folder, "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
    with started(folder / "workers.log", *command, *more, *arguments, **environment) as process:
        yield process
