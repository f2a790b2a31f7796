"""Whole measurements on a real cluster: the same table, whoever dies."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.cluster import ClusterLost, DaskExecutor, Where, connected
from rankscope.executors import Done, Executor, InlineExecutor, ProcessExecutor, ThreadExecutor
from rankscope.executors.base import Item, Result
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.measure import measure
from rankscope.question import Question
from rankscope.records import Spectrum
from rankscope.series import discover
from tests.cli.processes import started, until
from tests.cluster import clusters
from tests.cluster.functions import kills_on_killer, slow
from tests.matrix import Array, low_rank

if TYPE_CHECKING:
    from distributed import Client

OLD = (1e9, 1e9)  # old enough for the store to remember
COLUMNS = Question().columns()

Engine = Executor | concurrent.futures.Executor


def save(path: Path, tensors: dict[str, Array]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, OLD)
    return path


def run_of(folder: Path, steps: int = 3) -> Path:
    """Snapshots of matrices of all sorts, some large enough to be a task each."""
    rng = np.random.default_rng(3)
    for step in range(steps):
        tensors = {f"w{i}": rng.standard_normal((300, 240 + 10 * i)) for i in range(4)}
        tensors |= {
            "low": low_rank(64, 50, 3 + step, seed=step).astype(np.float32),
            "experts": rng.standard_normal((3, 20, 12)),
            "nan": np.full((4, 4), np.nan),
            "bias": np.ones(7),
        }
        save(folder / f"step-{step}.safetensors", tensors)
    return folder


def rows(*paths: Path, engine: Engine, **how: Any) -> list[dict[str, Any]]:
    """The table, to the last bit."""
    found = rankscope.analyze(*paths, how=How(**{"store": False, **how}, executor=engine))
    return [dict(row) for row in found.matrices]


def sigmas(path: Path, engine: Engine) -> dict[tuple[int | None, str], bytes]:
    how = How(store=False, executor=engine)
    _, measured = measure([discover(path)], Selection(), COLUMNS, how)
    return {
        (one.entry.snapshot.step, one.spec.name): one.measurement.sigma.tobytes()
        for one in measured
        if isinstance(one.measurement, Spectrum)
    }


def test_the_same_bits_on_every_executor(client: Client, tmp_path: Path) -> None:
    """Each with one BLAS thread; another number of them may sum in another order."""
    run = run_of(tmp_path / "run")
    expected = sigmas(run, InlineExecutor(1))
    assert len(expected) == 3 * 8
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, get_context("spawn")) as processes,
    ):
        others: list[Engine] = [
            ThreadExecutor(2),
            ProcessExecutor(2),
            threads,
            processes,
            DaskExecutor(client),
            client.get_executor(pure=False),
        ]
        for other in others:
            assert sigmas(run, other) == expected, other


def test_paths_are_found_from_another_directory(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "run", 2)
    monkeypatch.chdir(tmp_path)
    found = rows(Path("run"), engine=DaskExecutor(client))
    expected = rows(Path("run"), engine=InlineExecutor(1))
    assert repr(found) == repr(expected)  # nan is not equal to itself
    assert {row["status"] for row in found} == {"ok", "nonfinite"}


def test_differences_are_measured_there_too(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "run", 2)
    monkeypatch.chdir(tmp_path / "run")
    paths = Path("step-0.safetensors"), Path("step-1.safetensors")

    def compared(engine: Engine, store: bool | Path = False) -> str:
        found = rankscope.diff(*paths, delta=True, how=How(store=store, executor=engine))
        return repr(found.matrices)

    expected = compared(InlineExecutor(1))
    assert "worker_lost" not in expected
    assert compared(DaskExecutor(client), tmp_path / "store") == expected
    refusing = Refusing()
    assert compared(refusing, tmp_path / "store") == expected  # all is in the store


@dataclass
class Refusing:
    """An executor that is asked for nothing."""

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        assert list(items) == []
        return iter(())


@dataclass
class Watched:
    """An executor that calls something as results come, and tells what it was asked for."""

    executor: Executor
    after: int = 0
    call: Callable[[], object] = lambda: None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Done[Item, Result]]:
        tasks: list[Any] = list(items)
        self.asked += [(task.path.name, spec.name) for task in tasks for spec in task.specs]
        for count, done in enumerate(self.executor.run(function, tasks), 1):
            yield done
            if count == self.after:
                self.call()


def test_a_worker_killed_in_the_middle_changes_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", 6)
    expected = rows(run, engine=InlineExecutor(1))
    monkeypatch.setattr("rankscope.engines.measure_task", slow)
    client.wait_for_workers(2)
    pid = next(iter(client.run(os.getpid).values()))
    watched = Watched(DaskExecutor(client), 3, lambda: os.kill(pid, signal.SIGKILL))
    assert repr(rows(run, engine=watched)) == repr(expected)
    assert len(watched.asked) == len(expected)
    assert pid not in client.run(os.getpid).values()


def test_a_matrix_whose_worker_always_dies_is_isolated(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also out of a group: its neighbours in the task are measured, and right."""
    rng = np.random.default_rng(4)
    tensors = {name: rng.standard_normal((40, 30)) for name in ("a", "b", "killer", "c", "d")}
    tensors["large"] = rng.standard_normal((400, 400))
    path = save(tmp_path / "w.safetensors", tensors)
    expected = {row["name"]: row for row in rows(path, engine=InlineExecutor(1))}
    monkeypatch.setattr("rankscope.engines.measure_task", kills_on_killer)
    found = rankscope.analyze(path, how=How(store=False, executor=DaskExecutor(client)))
    assert found.incomplete
    by_name = {row["name"]: dict(row) for row in found.matrices}
    killer, was = by_name.pop("killer"), expected.pop("killer")
    assert (killer["status"], was["status"]) == ("worker_lost", "ok")
    assert repr(by_name) == repr(expected)


# What a worker runs before its work: there, a matrix of this name is deadly.
DEADLY = """
import rankscope.worker
from tests.cluster.functions import kills_on_killer
rankscope.worker.measure_task = kills_on_killer
"""


def command(*arguments: object) -> tuple[str, ...]:
    return "-m", "rankscope", "analyze", *map(str, arguments), "--json"


def test_the_command_isolates_it_too(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tensors = {name: rng.standard_normal((20, 30)) for name in ("a", "killer", "b")}
    path = save(tmp_path / "w.safetensors", tensors)
    place = folder / "deadly"
    with (
        clusters.scheduler(place) as scheduler,
        clusters.workers(scheduler, place, "--nworkers", "2", "--preload", DEADLY),
        started(*command(path, "--no-store", "--scheduler-file", scheduler.file)) as child,
    ):
        out, err = child.communicate(timeout=60)
    assert child.returncode == 4
    found = {row["name"]: row["status"] for row in json.loads(out)["matrices"]}
    assert found == {"a": "ok", "b": "ok", "killer": "worker_lost"}
    lines = [line for line in err.splitlines() if not line.startswith("waiting for workers")]
    assert [line.partition(":")[0] for line in lines] == ["worker lost", "incomplete"]
    assert "killer" in lines[0]


def test_the_command_says_one_line_when_the_scheduler_dies(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    size = (900, 800)
    tensors = {f"w{i}": rng.standard_normal(size, dtype=np.float32) for i in range(24)}
    path = save(tmp_path / "w.safetensors", tensors)
    place = folder / "dying"
    with (
        clusters.scheduler(place) as scheduler,
        clusters.workers(scheduler, place, "--nworkers", "2", "--nthreads", "1"),
        connected(Where(scheduler=scheduler.address), lambda _: None) as watching,
        started(
            *command(path, "--store", tmp_path / "s", "--scheduler", scheduler.address)
        ) as child,
    ):
        until(lambda: child.poll() is not None or tasks(watching.client))
        scheduler.kill()
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (4, "")
    assert err == (
        f"error: the scheduler is gone (scheduler at {scheduler.address}); run the command again: "
        "what is in the store is not measured twice\n"
    )


def tasks(client: Client) -> int:
    """How many tasks the scheduler knows."""

    def count(dask_scheduler: Any) -> int:
        return len(dask_scheduler.tasks)

    return int(client.run_on_scheduler(count))


def test_the_command_with_a_cluster_of_its_own(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 2)
    told: list[object] = []
    for options in (("--cluster", "local", "--workers", 2), ()):
        with started(*command(run, "--no-store", *options)) as child:
            out, err = child.communicate(timeout=60)
        told.append((child.returncode, json.loads(out)["matrices"], err))
    assert told[0] == told[1]


def kept(store: Path) -> int:
    """Of how many matrices it has what the table is made of."""
    with sqlite3.connect(store) as db:
        (count,) = db.execute("SELECT count(*) FROM keys").fetchone()
    db.close()
    return int(count)


def test_the_scheduler_killed_and_the_rest_done_with_a_new_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the store does not hold is asked for again; the table is that of one process."""
    run, store = run_of(tmp_path / "run", 6), tmp_path / "spectra"
    other = How(store=tmp_path / "other", executor=InlineExecutor(1))
    everything = rankscope.analyze(run, how=other)
    total = len(everything.matrices)

    def on_a_cluster(name: str, *, dies: bool) -> Watched:
        place = folder / name
        with (
            clusters.scheduler(place) as scheduler,
            clusters.workers(scheduler, place, "--nworkers", "2", "--nthreads", "1"),
            connected(Where(scheduler=scheduler.address), lambda _: None) as executor,
        ):
            watched = Watched(executor, 4, scheduler.kill if dies else lambda: None)
            found = rankscope.analyze(run, how=How(store=store, executor=watched))
            assert repr(found.matrices) == repr(everything.matrices)
        return watched

    with monkeypatch.context() as patch:
        patch.setattr("rankscope.engines.measure_task", slow)
        with pytest.raises(
            ClusterLost, match=r"the scheduler is gone .*run the command again"
        ) as e:
            on_a_cluster("first", dies=True)
    assert e.value.exit_code == 4
    finished = kept(store)
    assert 4 <= finished < total
    second = on_a_cluster("second", dies=False)
    assert len(second.asked) == total - finished
    assert kept(store) == total
