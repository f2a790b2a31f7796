"""Many runs, several at a time, each a process of its own that can be killed and goes on later."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import trainers
from rankscope.errors import OutputFailed, RankScopeError
from trainers.imageargs import Args
from trainers.recipes.naming import command

# What a run writes to its terminal.
LOG = "run.log"

# Seconds between two looks at the processes: a run takes at least some seconds.
POLL = 0.1
# Seconds that a process has to end by itself when all are to end.
GRACE = 10.0

LAST_LINE = 4096  # bytes at the end of a log in which its last line is looked for


class RunsFailed(RankScopeError):
    """Some runs of a recipe failed; the others are done."""

    exit_code = 4


@dataclass(slots=True)
class Process:
    """A run that is going on.

    Attributes:
        args: its choices.
        handle: of the process.
        since: when it began, by the monotonic clock.
    """

    args: Args
    handle: subprocess.Popen[bytes]
    since: float


def run_all(runs: Sequence[Args], jobs: int) -> None:
    """Do runs, at most `jobs` at a time, and say of each that it ended.

    Ctrl-C and SIGTERM end all of them; each goes on where it was when it is run again.

    Raises:
        RunsFailed: some failed, the others being done.
        OutputFailed: a directory cannot be made.
    """
    waiting, active, failures = list(reversed(runs)), list[Process](), list[str]()
    with ending(active):
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(started(waiting.pop(), jobs))
            time.sleep(POLL)
            for process in [one for one in active if one.handle.poll() is not None]:
                active.remove(process)
                done = len(runs) - len(waiting) - len(active)
                failures += ended(process, f"{done}/{len(runs)}")
    if failures:
        for failure in failures:
            tell(f"failed: {failure}")
        raise RunsFailed(
            f"{len(failures)} of {len(runs)} runs failed; run the recipe again to go on"
        )


def started(args: Args, jobs: int) -> Process:
    """A process at work on a run; what it writes goes to its log."""
    words = [sys.executable, "-m", "trainers", "classify", *command(args)]
    log = args.out / LOG
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(['python', *words[1:]])}\n".encode())
            file.flush()
            handle = launched(words, file, jobs)
    except OSError as error:
        raise OutputFailed(log, error.strerror or str(error)) from error
    return Process(args, handle, time.monotonic())


def launched(words: list[str], log: IO[bytes], jobs: int) -> subprocess.Popen[bytes]:
    """A process that finds this package, and shares the processor with the others."""
    environment = dict(os.environ)
    home = str(Path(trainers.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(
        [home, *filter(None, [environment.get("PYTHONPATH")])]
    )
    # PyTorch takes every core for itself otherwise.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return subprocess.Popen(  # noqa: S603 - our own module, and options that it has parsed
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
    )


def ended(process: Process, count: str) -> list[str]:
    """Say how a run ended; what was wrong with it, if anything."""
    name, code = process.args.out, process.handle.returncode
    if code == 0:
        tell(f"{count}  {name}  done in {time.monotonic() - process.since:.0f} s")
        return []
    tell(f"{count}  {name}  failed")
    how = f"ended by signal {-code}" if code < 0 else last_line(name / LOG)
    return [f"{name}: {how} (all of it in {name / LOG})"]


def last_line(path: Path) -> str:
    """The last line of a log that is not blank."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_LINE))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "said nothing")


@contextmanager
def ending(active: list[Process]) -> Iterator[None]:
    """End every process that is left when this block is, also by an error or SIGTERM."""
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for process in active:
            process.handle.terminate()
        limit = time.monotonic() + GRACE
        for process in active:
            with suppress(subprocess.TimeoutExpired):
                process.handle.wait(max(0.0, limit - time.monotonic()))
            process.handle.kill()
            process.handle.wait()
        signal.signal(signal.SIGTERM, former)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM as if it were Ctrl-C."""
    raise KeyboardInterrupt


def tell(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
