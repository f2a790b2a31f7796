"""How long a command takes and how much memory its whole process tree holds at most."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.2  # reading PSS walks page tables; more often slows what is measured


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes:
        seconds: wall clock, start to end of the process.
        peak_pss: bytes, the largest sum of proportional set sizes over the tree; 0 if not asked.
    """

    seconds: float
    peak_pss: int


def run(command: Sequence[str], env: Mapping[str, str], *, memory: bool = False) -> Run:
    """Run a command to its end; it must succeed."""
    whole = {**os.environ, **env}
    # Everybody runs from byte code, as when installed.
    whole.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=whole, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peaks: list[int] = [0]
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, stop))
    if memory:
        watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - start
    stop.set()
    if memory:
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command}: exit {process.returncode}: {errors.decode()}")
    return Run(seconds, max(peaks))


def _watch(root: int, peaks: list[int], stop: threading.Event) -> None:
    while not stop.wait(SAMPLE_SECONDS):
        peaks.append(sum(_pss(pid) for pid in tree(root)))


def tree(root: int) -> list[int]:
    """A process and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
