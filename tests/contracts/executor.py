"""What every executor must do. Subclass `ExecutorContract` in tests/test_executors.py.

A subclass says how to make one with so many workers; the functions below are what it runs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from rankscope.executors import Executor


def square(x: int) -> int:
    return x * x


def fails_on_three(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def tells_pid(x: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def leaves_a_mark(path: Path) -> None:
    time.sleep(0.05)
    path.write_text("")


def dies_first_time(marker: Path) -> str:
    """The first process that sees the marker missing makes it, and dies."""
    if marker.suffix == ".fatal":
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return marker.name
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def dies_on_negative(x: int) -> int:
    if x < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001 * (x % 3))
    return x


class ExecutorContract:
    """Subclasses define `make`."""

    def make(self, workers: int) -> Executor:
        """An executor with so many workers, if it has such a thing."""
        raise NotImplementedError

    @pytest.mark.parametrize("workers", [1, 4])
    def test_every_item_once_with_its_own_result(self, workers: int) -> None:
        executor = self.make(workers)
        done = list(executor.run(square, range(23)))
        assert sorted(one.item for one in done) == list(range(23))
        assert all(one.result == one.item**2 and not one.lost for one in done)
        # An executor is a description: it runs again.
        assert sorted(one.result or 0 for one in executor.run(square, [5, 1])) == [1, 25]

    def test_equal_items_are_not_one(self) -> None:
        done = list(self.make(2).run(square, [2, 2, 2]))
        assert [one.result for one in done] == [4, 4, 4]

    def test_nothing_to_do(self) -> None:
        assert list(self.make(2).run(square, [])) == []

    def test_items_may_come_from_a_generator(self) -> None:
        def items() -> Iterator[int]:
            yield from range(7)

        found = {one.item: one.result for one in self.make(2).run(square, items())}
        assert found == {x: x * x for x in range(7)}

    def test_what_the_function_raises_is_raised(self) -> None:
        with pytest.raises(KeyError, match="three"):
            list(self.make(2).run(fails_on_three, range(8)))

    def test_closing_early_ends_the_work(self, tmp_path: Path) -> None:
        marks = [tmp_path / str(i) for i in range(60)]
        done = self.make(2).run(leaves_a_mark, marks)
        next(done)
        assert isinstance(done, Generator)
        done.close()
        made = len(list(tmp_path.iterdir()))
        assert made < len(marks)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) == made

    def test_no_process_stays(self) -> None:
        done = self.make(2).run(tells_pid, range(6))
        pids = {one.result for one in done}
        assert not [pid for pid in pids if pid not in (None, os.getpid()) and runs(pid)]
        early = self.make(2).run(tells_pid, range(50))
        pid = next(early).result
        assert isinstance(early, Generator)
        early.close()
        assert pid is not None
        assert pid == os.getpid() or not runs(pid)


def runs(pid: int) -> bool:
    """Whether a process is alive, and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def hangs_on_negative(value: int) -> int:
    """Sleep for longer than any test lasts instead of working."""
    if value < 0:
        time.sleep(600)
    return value
