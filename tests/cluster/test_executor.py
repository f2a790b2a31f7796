"""`DaskExecutor` on a real cluster: the contract of executors, and deaths."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rankscope.cluster import ClusterLost, DaskExecutor, WorkerMismatch, executor
from rankscope.errors import InputRejected
from rankscope.executors import Done, Executor
from tests.cli.processes import until
from tests.cluster import clusters
from tests.cluster.functions import dies_with_a_mark, rejects
from tests.contracts.executor import (
    ExecutorContract,
    dies_first_time,
    dies_on_negative,
    leaves_a_mark,
    square,
)

if TYPE_CHECKING:
    from distributed import Client


class TestContract(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _of_this_file(self, client: Client) -> None:
        self.client = client

    def make(self, workers: int) -> Executor:
        return DaskExecutor(self.client)

    def test_closing_early_ends_the_work(self, tmp_path: Path) -> None:
        """What runs already ends by itself: nobody can interrupt a thread on another machine."""
        marks = [tmp_path / str(i) for i in range(200)]
        done = self.make(2).run(leaves_a_mark, marks)
        next(done)
        assert isinstance(done, Generator)
        done.close()
        assert until(lambda: tasks(self.client) == 0)
        time.sleep(0.3)
        made = len(list(tmp_path.iterdir()))
        assert made < 20
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) == made

    def test_no_process_stays(self) -> None:
        """The workers are the cluster's; no task of ours is left with it."""
        list(self.make(2).run(square, range(6)))
        assert until(lambda: tasks(self.client) == 0)


def tasks(client: Client) -> bool | int:
    """How many tasks the scheduler knows."""

    def count(dask_scheduler: Any) -> int:
        return len(dask_scheduler.tasks)

    return int(client.run_on_scheduler(count))


def test_an_item_whose_worker_died_is_done_elsewhere(client: Client, tmp_path: Path) -> None:
    markers = [tmp_path / f"{i}{'.fatal' if i == 4 else ''}" for i in range(9)]
    done = list(DaskExecutor(client).run(dies_first_time, markers))
    assert sorted(one.item for one in done) == sorted(markers)
    assert all(one.result == one.item.name and not one.lost for one in done)


def test_an_item_that_always_kills_is_lost_alone(client: Client, tmp_path: Path) -> None:
    """And takes no more workers with it than it may: what Dask allows, one more, and one alone."""
    folders = [tmp_path / (f"{i}" if i != 5 else "killer") for i in range(12)]
    for folder in folders:
        folder.mkdir()
    done = list(DaskExecutor(client).run(dies_with_a_mark, folders))
    assert sorted(one.item for one in done) == sorted(folders)
    assert {one.item.name for one in done if one.lost} == {"killer"}
    assert all(one.result == one.item.name for one in done if not one.lost)
    assert len(list((tmp_path / "killer").iterdir())) == clusters.ALLOWED_FAILURES + 2


def test_a_result_that_has_come_outlives_its_worker(client: Client) -> None:
    """Drawn only when the worker that had it, and what Dask says of it, are gone."""
    client.wait_for_workers(2)
    done = iter(DaskExecutor(client).run(square, range(8)))
    found = [next(done)]
    time.sleep(0.5)  # the others land, too
    there = set(client.nthreads())
    for pid in client.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not there & set(client.nthreads()))
    found += done
    assert sorted(one.result or 0 for one in found) == [x * x for x in range(8)]


def test_killers_only(client: Client) -> None:
    done = list(DaskExecutor(client).run(dies_on_negative, [-1, -2]))
    assert {one.item: one.lost for one in done} == {-1: True, -2: True}


def test_an_error_of_ours_arrives_whole(client: Client) -> None:
    with pytest.raises(InputRejected) as caught:
        list(DaskExecutor(client).run(rejects, ["a", "b"]))
    assert (caught.value.path in "ab", caught.value.tensor) == (True, "w")


def test_few_items_are_in_flight(client: Client, tmp_path: Path) -> None:
    drawn: list[int] = []

    def items() -> Iterator[Path]:
        for i in range(100):
            drawn.append(i)
            yield tmp_path / str(i)

    done = DaskExecutor(client).run(leaves_a_mark, items())
    next(done)
    threads = len(client.nthreads())
    assert len(drawn) <= (executor.AHEAD + 1) * threads
    assert isinstance(done, Generator)
    done.close()


def test_a_worker_of_another_version_refuses(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task carries the versions, since workers join at any time."""
    monkeypatch.setattr("rankscope.cluster.work.__version__", "99")
    with pytest.raises(WorkerMismatch, match=r"it has rankscope .*, but here is rankscope 99"):
        list(DaskExecutor(client).run(square, range(3)))


def test_without_workers_the_cluster_counts_as_gone(folder: Path) -> None:
    from distributed import Client

    with (
        clusters.scheduler(folder / "empty") as scheduler,
        Client(scheduler.address, set_as_default=False) as client,
        pytest.raises(ClusterLost, match="there has been no worker for 1 s") as caught,
    ):
        list(DaskExecutor(client, patience=1).run(square, range(3)))
    assert caught.value.exit_code == 4


def test_ctrl_c_leaves_no_task(client: Client, tmp_path: Path) -> None:
    marks = [tmp_path / str(i) for i in range(400)]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        list(DaskExecutor(client).run(leaves_a_mark, marks))
    timer.join()
    # Also while the exception, which holds on to what was in flight, is still being handled.
    assert until(lambda: tasks(client) == 0)
    del caught
    # The cluster is as good as before.
    assert list(DaskExecutor(client).run(square, [3])) == [Done(3, 9)]
