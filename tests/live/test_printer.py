"""A line for each snapshot, for a log."""

from __future__ import annotations

import io
import os
import re
import select
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rankscope.live.printer import Printer
from rankscope.snapshots import LogRecord, SnapshotWriter
from tests.live.watching import OLD, Watched, put, weights


class Printed:
    """A watch whose pictures are printed."""

    def __init__(self, run: Path) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.watched = Watched(run, newest_first=False)
        self.printer = Printer(self.out, self.err)

    def until(self) -> None:
        """Print what there is."""
        self.watched.until()
        for picture in self.watched.view.pictures:
            self.printer.show(picture)
        self.watched.view.pictures.clear()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    @property
    def told(self) -> list[str]:
        return self.err.getvalue().splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_each_snapshot_is_a_line_in_the_order_of_steps(run: Path) -> None:
    with SnapshotWriter(run) as writer:
        for step in (0, 10, 20):
            record = LogRecord(epoch=step / 10, train_loss=0.5, test_accuracy=0.25)
            writer.save(step, weights(step), record)
    printed = Printed(run)
    printed.until()
    assert printed.lines[0].startswith("step 0: rank 14.00, eff. rank ")
    assert ", norm ratio -, " in printed.lines[0]
    last = "epoch 2.000, train loss 0.5000, test acc. 0.2500 (mean of 2 matrices)"
    assert printed.lines[2].startswith("step 20: rank 13.00, eff. rank ")
    assert re.search(r", norm ratio \d\.\d+, ", printed.lines[2])
    assert printed.lines[2].endswith(last)
    assert len(printed.lines) == 3
    assert printed.told == []
    put(run, 30)
    printed.until()
    printed.until()
    assert [line.split(":")[0] for line in printed.lines[3:]] == ["step 30"]


def test_one_that_is_written_anew_is_printed_anew(run: Path) -> None:
    put(run, 0, 10)
    printed = Printed(run)
    printed.until()
    put(run, 10, scale=2.0)
    printed.until()
    assert [line.split(":")[0] for line in printed.lines] == ["step 0", "step 10", "step 10"]


def test_what_is_lacking_goes_to_stderr_once(run: Path) -> None:
    printed = Printed(run)
    for _ in range(3):
        printed.until()
    assert printed.told == [f"waiting for the first snapshot: there is no {run} yet"]
    put(run, 0, 10, 20, at=OLD)
    path = run / "snapshots" / "step-00000010.safetensors"
    os.truncate(path, 50)
    os.utime(path, (OLD, OLD))
    for _ in range(3):
        printed.until()
    assert [line.split(":")[0] for line in printed.lines] == ["step 0", "step 20"]
    assert len(printed.told) == 2
    assert printed.told[1].startswith("step 10: step-00000010.safetensors: ")


def test_what_was_not_measured_is_counted(run: Path) -> None:
    put(run, 0)
    bad = {**weights(10), "a.weight": np.full((30, 24), np.nan, np.float32)}
    safetensors.numpy.save_file(bad, run / "snapshots" / "step-00000010.safetensors")
    printed = Printed(run)
    printed.until()
    assert printed.lines[0].endswith("(mean of 2 matrices)")
    assert printed.lines[1].endswith("(mean of 2 matrices, 1 lacking)")


def test_a_name_does_not_act(run: Path) -> None:
    """A file's name is anybody's; it stands in what is told of it."""
    put(run, 0, at=OLD)
    path = run / "snapshots" / "\x1b[31m::error::step-00000010.safetensors"
    path.write_bytes(b"half")
    os.utime(path, (OLD, OLD))
    printed = Printed(run)
    printed.until()
    (told,) = printed.told
    assert "\x1b" not in told
    assert "::error" not in told


@pytest.mark.skipif(not hasattr(select, "poll"), reason="Windows cannot tell")
def test_a_reader_that_has_gone_is_noticed() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        printer = Printer(out, io.StringIO())
        printer.check()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            printer.check()


def test_a_file_is_always_read(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as out:
        Printer(out, io.StringIO()).check()
