"""The log as it grows, is cut, replaced and damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rankscope import files
from rankscope.live import logtail
from rankscope.live.logtail import LogTail
from rankscope.runlog import parse_log, read_log
from rankscope.snapshots import LogRecord, SnapshotWriter


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def line(step: int, loss: float = 1.0) -> str:
    return f'{{"step": {step}, "train_loss": {loss}}}\n'


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_is_read_as_it_grows_and_each_line_once(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = LogTail(log)
    tail.read()
    read: list[bytes] = []

    def counted(path: Path, data: bytes, first: int) -> list[dict[str, float]]:
        read.append(data)
        return parse_log(path, data, first)

    monkeypatch.setattr(logtail, "parse_log", counted)
    for step in range(20):
        add(log, line(step))
        assert tail.read()
        assert not tail.read()
        assert list(tail.records) == list(range(step + 1))
    assert read == [line(step).encode() for step in range(20)]
    assert tail.remark == ""


def test_the_same_as_read_at_once(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        tail = LogTail(tmp_path / "log.jsonl")
        for step in (0, 5, 10, 5, 7):
            writer.log(step, LogRecord(epoch=step, train_loss=1 / (1 + step)))
            tail.read()
    assert tail.records == {one["step"]: one for one in read_log(tmp_path)}


def test_half_a_line_is_left_until_it_is_whole(log: Path) -> None:
    tail = LogTail(log)
    whole = line(0) + line(1)
    for end in range(1, len(whole) + 1):
        log.write_text(whole[:end])
        tail.read()
        assert list(tail.records) == [0, 1][: whole[:end].count("\n")]
        assert tail.remark == ""


def test_a_resumed_writer_cuts_a_torn_line(tmp_path: Path, log: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        writer.log(1, LogRecord(train_loss=1.0))
    add(log, '{"step": 2, "tra')  # killed
    tail = LogTail(log)
    tail.read()
    with SnapshotWriter(tmp_path) as writer:
        writer.log(1, LogRecord(train_loss=0.5))
        tail.read()
    assert tail.records == {1: {"step": 1, "train_loss": 0.5}}


def test_another_log_of_the_same_name(log: Path) -> None:
    tail = LogTail(log)
    log.write_text(line(0) + line(1) + line(2))
    tail.read()
    os.replace(_other(log, line(7)), log)
    tail.read()
    assert list(tail.records) == [7]
    # Longer than what had been read, and written into the same file.
    log.write_text(line(10) + line(11) + line(12))
    tail.read()
    assert list(tail.records) == [10, 11, 12]
    log.unlink()
    assert tail.read()
    assert tail.records == {}
    assert not tail.read()
    log.write_text(line(3))
    tail.read()
    assert list(tail.records) == [3]


def _other(log: Path, text: str) -> Path:
    other = log.with_name("other")
    other.write_text(text)
    return other


@pytest.mark.parametrize(
    "bad", ["nonsense", '{"step": "x"}', "[]", '{"step": 1, "train_loss": "low"}', "[" * 100_000]
)
def test_a_damaged_line_is_left_out_and_named(log: Path, bad: str) -> None:
    tail = LogTail(log)
    log.write_text(line(0) + bad + "\n" + line(2))
    tail.read()
    assert list(tail.records) == [0, 2]
    assert "line 2" in tail.remark
    assert tail.remark.endswith("the line is left out")
    add(log, line(3))
    tail.read()
    assert list(tail.records) == [0, 2, 3]


def test_a_long_log_is_read_in_portions(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtail, "PORTION", 100)
    log.write_text("".join(map(line, range(50))) + "x" * 350 + "\n" + line(50))
    tail = LogTail(log)
    times = 0
    while tail.read():
        times += 1
        assert times < 100
    assert list(tail.records) == list(range(51))
    assert times > 10
    assert "left out" in tail.remark


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file(log: Path, make: Callable[[Path], None]) -> None:
    make(log)
    tail = LogTail(log)
    tail.read()
    assert tail.records == {}
    assert "not a regular file" in tail.remark or "cannot be opened" in tail.remark
    assert not tail.read()


def test_a_log_that_cannot_be_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_text(line(0))

    def refused(fd: int, count: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "_pread", refused)
    tail = LogTail(log)
    tail.read()
    assert "Input/output error" in tail.remark
    monkeypatch.undo()
    add(log, line(1))
    tail.read()
    assert list(tail.records) == [0, 1]
    assert tail.remark == ""
