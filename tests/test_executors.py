"""Each executor against the contract, and what only processes can do: die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from rankscope.blas import THREAD_VARIABLES
from rankscope.executors import (
    Done,
    Executor,
    InlineExecutor,
    ProcessExecutor,
    SideBySideExecutor,
    ThreadExecutor,
    available_cores,
    processes,
)
from rankscope.executors.processes import FEEDER
from tests.contracts.executor import (
    ExecutorContract,
    dies_first_time,
    dies_on_negative,
    hangs_on_negative,
    square,
)


class TestInline(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return InlineExecutor()


class TestThreads(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return ThreadExecutor(workers)


class TestProcesses(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return ProcessExecutor(workers)


class TestSideBySide(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return SideBySideExecutor(tuple(ProcessExecutor(1) for _ in range(workers)))


def test_side_by_side_a_dead_process_does_not_stop_the_others() -> None:
    items = [0, 1, 2, -3, 4, 5, -6, 7]
    done = list(
        SideBySideExecutor((ProcessExecutor(1), ProcessExecutor(1))).run(dies_on_negative, items)
    )
    assert sorted(one.item for one in done) == sorted(items)
    for one in done:
        assert one == Done(one.item, None, lost=True) if one.item < 0 else one.result == one.item


def test_a_pool_ends_while_another_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that feeds the other's workers is listed before it can be joined."""
    starting = threading.Thread(target=print, name=FEEDER)
    right = threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [*right(), starting])
    monkeypatch.setattr("rankscope.executors.processes._end", _end_beside(starting))
    assert [done.result for done in ProcessExecutor(1).run(square, [3])] == [9]


def test_side_by_side_each_draws_when_it_is_free() -> None:
    class Slow:
        def run(
            self, function: Callable[[Any], Any], items: Iterable[Any]
        ) -> Iterator[Done[Any, Any]]:
            for item in items:
                taken.append(item)
                free.wait(10)
                yield Done(item, function(item))

    taken: list[int] = []
    free = threading.Event()
    done = SideBySideExecutor((Slow(), InlineExecutor())).run(square, range(20))
    quick = [next(done) for _ in range(19)]
    free.set()
    assert [one.item for one in done] == taken
    assert len(quick) == 19


@pytest.mark.parametrize("workers", [1, 3])
def test_an_item_whose_process_died_is_tried_once_more(workers: int, tmp_path: Path) -> None:
    markers = [tmp_path / f"{i}{'.fatal' if i == 4 else ''}" for i in range(9)]
    done = list(ProcessExecutor(workers).run(dies_first_time, markers))
    assert sorted(one.item for one in done) == sorted(markers)
    assert all(one.result == one.item.name and not one.lost for one in done)


@pytest.mark.parametrize("items", [[1, 2], [-1, 2]], ids=["clean", "broken"])
def test_no_thread_of_a_pool_is_left(items: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that feeds workers frees a semaphore as it ends, which the end of a process may cut."""
    from loky.backend import queues

    feed = queues.Queue._feed

    def slow(*arguments: object) -> None:
        feed(*arguments)
        time.sleep(0.3)

    monkeypatch.setattr(queues.Queue, "_feed", staticmethod(slow))
    list(ProcessExecutor(1).run(dies_on_negative, items))
    assert not [thread.name for thread in threading.enumerate() if thread.name == FEEDER]


def test_an_item_that_hangs_is_lost_alone() -> None:
    done = list(ProcessExecutor(1, limit=1.0).run(hangs_on_negative, [1, -2, 3]))
    assert {one.item: one.lost for one in done} == {1: False, -2: True, 3: False}


@pytest.mark.parametrize(
    ("workers", "items"), [(1, [-1, 5]), (3, [0, 1, 2, -3, 4, 5, 6, 7]), (2, [1, 2, 3, -4])]
)
def test_an_item_that_always_kills_is_lost_alone(workers: int, items: list[int]) -> None:
    done = list(ProcessExecutor(workers).run(dies_on_negative, items))
    assert sorted(one.item for one in done) == sorted(items)
    for one in done:
        assert one == Done(one.item, None, lost=True) if one.item < 0 else one.result == one.item


def _end_beside(starting: threading.Thread) -> Callable[..., None]:
    """How a pool ends that knows nothing of this thread."""
    right = processes._end

    def end(pool: Any, others: Sequence[threading.Thread], *, kill: bool) -> None:
        right(pool, [one for one in others if one is not starting], kill=kill)

    return end


class BreakingPool:
    """A pool that works at once, until it breaks at a chosen submission, as loky's does."""

    def __init__(self, left: list[int]) -> None:
        self.left = left

    def submit(self, function: Callable[[int], int], item: int) -> Future[int]:
        self.left[0] -= 1
        if self.left[0] == 0:
            raise BrokenProcessPool("died meanwhile")
        future: Future[int] = Future()
        future.set_result(function(item))
        return future

    def shutdown(self, *, wait: bool, kill_workers: bool) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("at", range(1, 14))
def test_no_item_is_dropped_when_the_pool_breaks_between_submissions(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [at]
    monkeypatch.setattr(ProcessExecutor, "_pool", lambda *_: BreakingPool(left))
    done = list(ProcessExecutor(2).run(square, range(10)))
    assert sorted(one.item for one in done) == list(range(10))
    assert all(one.result == one.item**2 for one in done)


def test_few_items_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Specs are small, and there may be millions: they are drawn as they are needed."""
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for i in range(40):
            drawn.append(i)
            yield i

    monkeypatch.setattr(ProcessExecutor, "_pool", lambda *_: BreakingPool([-1]))
    done = ProcessExecutor(2).run(square, items())
    next(done)
    assert len(drawn) <= 6


def environment(_: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in THREAD_VARIABLES}


def blocks_interrupts(_: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_blas_threads_of_workers() -> None:
    (done,) = ProcessExecutor(1, threads=3).run(environment, [0])
    assert done.result == dict.fromkeys(THREAD_VARIABLES, "3")


def test_ctrl_c_is_the_parent_s_alone() -> None:
    """From a worker's first instruction on: it inherits that from the moment it is started."""
    (done,) = ProcessExecutor(1).run(blocks_interrupts, [0])
    assert done.result is True
    assert not blocks_interrupts(0)


def test_available_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


SCRIPT = """
import os
from rankscope.executors import ProcessExecutor
print("main runs")
main = os.getpid()
def own(x):
    return x + 1, os.getpid() != main
print(sorted(done.result for done in ProcessExecutor(2).run(own, range(4))))
"""


def test_from_a_script_without_a_guard_a_command_and_stdin(tmp_path: Path) -> None:
    """A pool that imports the main module again would run it again, and again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    children = [
        subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for arguments in ([str(script)], ["-c", SCRIPT], ["-"])
    ]
    for child in children:
        out, err = child.communicate(SCRIPT if child is children[2] else None, timeout=60)
        assert (child.returncode, err) == (0, "")
        assert out == "main runs\n[(1, True), (2, True), (3, True), (4, True)]\n"
