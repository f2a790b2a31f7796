"""Two single-thread workers of Dask against two processes of our own; what a tiny task costs."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import models
from benchmarks.processes import run

if TYPE_CHECKING:
    from rankscope.cluster import DaskExecutor

RANKSCOPE = [sys.executable, "-m", "rankscope"]

ROUNDS = 3
TINY_TASKS = 10_000
SNAPSHOTS = 400  # of five small matrices each


def bench_cluster(folder: Path) -> None:
    """The model of 242 M parameters, tiny tasks, and a run of tiny matrices, on a real cluster."""
    from rankscope.cluster import Where, connected
    from tests.cluster import clusters

    with ExitStack() as stack:
        scheduler = stack.enter_context(clusters.scheduler(folder / "cluster"))
        arguments = ("--nworkers", "2", "--nthreads", "1")
        # As docs/cluster.md advises.
        environment = {
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
            "MALLOC_TRIM_THRESHOLD_": str(2**32),
            "MALLOC_MMAP_THRESHOLD_": str(2**30),
        }
        stack.enter_context(
            clusters.workers(scheduler, folder / "cluster", *arguments, **environment)
        )
        with connected(Where(scheduler=scheduler.address), print) as executor:
            executor.client.wait_for_workers(2)
            _tiny_tasks(executor)
            _tiny_matrices(folder, executor)
        _large(folder, scheduler.address)


def _large(folder: Path, address: str) -> None:
    """Whole commands, in turns. A cluster that is there is not started again."""
    path = folder / "llama-cluster.safetensors"
    models.llama(path)
    analyze = [*RANKSCOPE, "analyze", str(path), "--no-store"]
    commands = {
        "two processes": [*analyze, "--workers", "2"],
        "two Dask workers": [*analyze, "--scheduler", address],
        "`--cluster local`, started for it": [*analyze, "--cluster", "local", "--workers", "2"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds[name].append(run(command, {}).seconds)
    print("\n### 242 M parameters\n\n| | seconds | speed to ours |\n|---|---:|---:|")
    first = statistics.median(seconds["two processes"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| {name} | {median:.2f} | {first / median:.2f} |")


def _tiny_tasks(executor: DaskExecutor) -> None:
    list(executor.run(abs, range(100)))  # what is done once
    taken = _seconds(lambda: sum(1 for _ in executor.run(abs, range(TINY_TASKS))))
    print(f"\n{TINY_TASKS} tiny items: {1e3 * taken / TINY_TASKS:.2f} ms each")


def _tiny_matrices(folder: Path, executor: DaskExecutor) -> None:
    """What the cluster adds to each matrix of a run, whose files are opened there, too."""
    from rankscope import How, analyze
    from rankscope.executors import Executor, InlineExecutor

    series = folder / "tiny"
    models.small_run(series, SNAPSHOTS)
    engines: tuple[Executor, ...] = (InlineExecutor(1), executor)
    seconds: tuple[list[float], ...] = ([], [])
    for _ in range(ROUNDS):
        for engine, taken in zip(engines, seconds, strict=True):
            taken.append(_seconds(partial(analyze, series, how=How(store=False, executor=engine))))
    count = 5 * SNAPSHOTS
    here, there = map(statistics.median, seconds)
    print(
        f"\n{count} matrices of up to 128 x 128 in {SNAPSHOTS} files: {1e3 * here / count:.2f} ms "
        f"each in one process, {1e3 * there / count:.2f} ms on two workers"
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
