"""Processes that a test starts, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
LIMIT = 60.0  # seconds that nothing here should need

Found = TypeVar("Found")

Process = subprocess.Popen[str]


@contextmanager
def started(*arguments: object, **more: Any) -> Iterator[Process]:
    """Python in a session of its own; whatever is left of it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        **more,
    )
    try:
        yield process
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def session(leader: int) -> list[int]:
    """The processes of a session that are alive."""
    return [pid for pid, fields in _processes() if int(fields[3]) == leader]


def below(parent: int) -> list[int]:
    """The processes that descend from one, and are alive."""
    children: dict[int, list[int]] = {}
    for pid, fields in _processes():
        children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    waiting = [parent]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def workers(pids: list[int]) -> list[int]:
    """loky's workers among them."""
    found: list[int] = []
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"popen_loky" in words:
            found.append(pid)
    return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                yield int(entry.name), fields


def until(condition: Callable[[], Found], seconds: float = LIMIT) -> Found:
    """Wait until something is true; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("did not happen in time")
        time.sleep(0.02)
    return found
