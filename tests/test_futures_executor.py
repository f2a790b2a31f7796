"""`FuturesExecutor` on pools that somebody else made."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from rankscope.executors import Executor, FuturesExecutor
from rankscope.executors.futures import AHEAD, PoolBroken
from tests.contracts.executor import (
    ExecutorContract,
    dies_first_time,
    dies_on_negative,
    leaves_a_mark,
    runs,
    square,
    tells_pid,
)


def loky_pool(workers: int) -> concurrent.futures.Executor:
    import loky

    pool: concurrent.futures.Executor = loky.ProcessPoolExecutor(workers)
    return pool


def spawning(workers: int) -> concurrent.futures.Executor:
    return ProcessPoolExecutor(workers, get_context("spawn"))


class PoolContract(ExecutorContract):
    """The pools of a test end with it."""

    pool: Callable[[int], concurrent.futures.Executor]

    @pytest.fixture(autouse=True)
    def _ending(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield

    def make(self, workers: int) -> Executor:
        return FuturesExecutor(self.stack.enter_context(type(self).pool(workers)))

    def test_no_process_stays(self) -> None:
        """They stay as long as the pool does, which goes on as if nothing had been."""
        executor = self.make(2)
        pids = {one.result for one in executor.run(tells_pid, range(6))}
        assert pids == {one.result for one in executor.run(tells_pid, range(6))} or len(pids) < 3
        self.stack.close()
        assert not [pid for pid in pids if pid not in (None, os.getpid()) and runs(pid)]


class TestThreads(PoolContract):
    pool = ThreadPoolExecutor


class TestProcesses(PoolContract):
    pool = staticmethod(spawning)


class TestLoky(PoolContract):
    pool = staticmethod(loky_pool)


@pytest.mark.parametrize("make", [spawning, loky_pool])
def test_a_killer_is_lost_alone_and_the_rest_is_done(
    make: Callable[[int], concurrent.futures.Executor],
) -> None:
    """A broken pool is broken for good: processes of our own go on."""
    items = [0, 1, 2, -3, *range(4, 30)]
    with make(2) as pool:
        done = list(FuturesExecutor(pool).run(dies_on_negative, items))
        assert sorted(one.item for one in done) == sorted(items)
        assert [one.item for one in done if one.lost] == [-3]
        assert all(one.result == one.item for one in done if one.item != -3)
        # Nor is another run refused.
        again = list(FuturesExecutor(pool).run(square, range(4)))
        assert sorted(one.result or 0 for one in again) == [0, 1, 4, 9]


def test_an_item_whose_process_died_once_is_done(tmp_path: Path) -> None:
    markers = [tmp_path / f"{i}{'.fatal' if i == 4 else ''}" for i in range(9)]
    with spawning(2) as pool:
        done = list(FuturesExecutor(pool).run(dies_first_time, markers))
    assert sorted(one.item for one in done) == sorted(markers)
    assert all(one.result == one.item.name for one in done)


class Untold(concurrent.futures.Executor):
    """Works at once, and does not tell how many workers it has; breaks at a submission."""

    def __init__(self, breaks: int = 0) -> None:
        self.left = breaks

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.left -= 1
        future: Future[Any] = Future()
        if self.left == 0:
            future.set_exception(BrokenExecutor("the nodes are gone"))
        else:
            future.set_result(function(*args, **kwargs))
        return future


def test_a_pool_of_other_machines_that_breaks_ends_the_work() -> None:
    seen: list[int] = []
    with pytest.raises(PoolBroken, match=r"\(the nodes are gone\); what was finished") as caught:
        seen += [one.item for one in FuturesExecutor(Untold(5), 2).run(square, range(9))]
    assert caught.value.exit_code == 4


def test_a_pool_that_was_shut_down() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(PoolBroken, match="cannot schedule new futures after shutdown"):
        list(FuturesExecutor(pool).run(square, [1]))


def naps(x: int) -> int:
    time.sleep(0.01)
    return x


@pytest.mark.parametrize("in_flight", [16, 100])  # some are still to be submitted, or none
@pytest.mark.parametrize("make", [ThreadPoolExecutor, spawning])
def test_a_pool_that_is_shut_down_with_what_waits_in_it(
    make: Callable[[int], concurrent.futures.Executor], in_flight: int
) -> None:
    """What its owner cancels this way is not done for `wait`, which would wait for ever."""
    pool = make(2)
    ended: list[str] = []

    def draws() -> None:
        try:
            for count, _ in enumerate(FuturesExecutor(pool, in_flight).run(naps, range(100))):
                if count == 2:
                    pool.shutdown(wait=False, cancel_futures=True)
        except PoolBroken as error:
            ended.append(str(error))

    # A daemon: a hang must end this test, not the whole run.
    thread = threading.Thread(target=draws, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    (told,) = ended
    assert "takes no more work" in told
    pool.shutdown()


@pytest.mark.parametrize(("asked", "most"), [(None, AHEAD * 3), (5, 5)])
def test_few_items_are_in_flight(asked: int | None, most: int, tmp_path: Path) -> None:
    drawn: list[Path] = []

    def items() -> Iterator[Path]:
        for i in range(60):
            drawn.append(tmp_path / str(i))
            yield drawn[-1]

    with ThreadPoolExecutor(3) as pool:
        done = iter(FuturesExecutor(pool, asked).run(leaves_a_mark, items()))
        for count, _ in enumerate(done):
            assert len(drawn) <= most + count + 3  # several may have landed together
            if count == 20:
                break


def blas_threads(_: int) -> set[int]:
    from threadpoolctl import threadpool_info

    import rankscope.solvers  # noqa: F401 - loads NumPy's BLAS

    # Not of OpenMP, which PyTorch brings and which counts for each thread by itself.
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["num_threads"] for library in found}


@pytest.mark.parametrize("make", [ThreadPoolExecutor, spawning])
def test_each_item_has_one_blas_thread(
    make: Callable[[int], concurrent.futures.Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    before = blas_threads(0)
    with make(1) as pool:
        (plain,) = pool.map(blas_threads, [0])
        (done,) = FuturesExecutor(pool).run(blas_threads, [0])
    assert done.result == {1}
    assert blas_threads(0) == before
    assert make is ThreadPoolExecutor or plain != {1}


def test_waiting_items_are_called_back(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = FuturesExecutor(pool, 30).run(leaves_a_mark, [tmp_path / str(i) for i in range(30)])
        next(iter(done))
        del done
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) < 5
