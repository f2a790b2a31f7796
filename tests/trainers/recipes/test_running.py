"""Many processes: how many at a time, what is said of each, and that none is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from rankscope.errors import InputRejected, OutputFailed
from trainers.imageargs import Args
from trainers.imagestate import STATE, finished
from trainers.recipes import running
from trainers.recipes.running import RunsFailed, last_line, run_all

Launched = Callable[[list[str], IO[bytes], int], "subprocess.Popen[bytes]"]


def scripts(text: str) -> Launched:
    """In place of a run, Python with a text; the run's directory is in `out`."""

    def launched(words: list[str], log: IO[bytes], jobs: int) -> subprocess.Popen[bytes]:
        (out,) = (word.removeprefix("--out=") for word in words if word.startswith("--out="))
        head = f"import os, pathlib, sys, time\nout = pathlib.Path({out!r})\n"
        return subprocess.Popen([sys.executable, "-c", head + text], stdout=log, stderr=log)

    return launched


def runs(folder: Path, count: int) -> list[Args]:
    return [Args(folder / f"run{index}") for index in range(count)]


def test_so_many_at_a_time_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = "(out / 'begun').touch(); time.sleep(0.3); (out / 'ended').touch()"
    monkeypatch.setattr(running, "launched", scripts(marks))
    run_all(runs(tmp_path, 5), 2)
    times = {
        name: sorted((tmp_path / f"run{i}" / name).stat().st_mtime_ns for i in range(5))
        for name in ("begun", "ended")
    }
    # The third begins after the first has ended, and so on: never more than two.
    assert all(
        begun >= done for begun, done in zip(times["begun"][2:], times["ended"], strict=False)
    )
    assert times["begun"][1] < times["ended"][0]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert sorted(line.split()[1] for line in lines) == [str(run.out) for run in runs(tmp_path, 5)]
    assert all("done in" in line for line in lines)


def test_a_failing_run_is_told_at_the_end_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
if out.name == 'run0':
    print('error: no luck\\n\\n')
    sys.exit(3)
if out.name == 'run2':
    os.kill(os.getpid(), 9)
print('fine')
"""
    monkeypatch.setattr(running, "launched", scripts(text))
    with pytest.raises(RunsFailed, match="2 of 4 runs failed; run the recipe again") as failure:
        run_all(runs(tmp_path, 4), 1)
    assert failure.value.exit_code == 4
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines[:4]] == ["failed", "done", "failed", "done"]
    first, third = tmp_path / "run0", tmp_path / "run2"
    assert lines[4:] == [
        f"failed: {first}: error: no luck (all of it in {first / 'run.log'})",
        f"failed: {third}: ended by signal 9 (all of it in {third / 'run.log'})",
    ]


def test_a_log_begins_with_the_command_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "launched", scripts("print('out'); print('err', file=sys.stderr)"))
    (run,) = runs(tmp_path, 1)
    for count in (1, 2):
        run_all([run], 1)
        lines = (run.out / "run.log").read_text().splitlines()
        assert len(lines) == 3 * count
        assert sorted(lines[-2:]) == ["err", "out"]
        assert lines[-3].startswith(f"$ python -m trainers classify --out={run.out} --arch=")


def test_what_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (run,) = runs(tmp_path, 1)
    run.out.write_text("a file")
    with pytest.raises(OutputFailed, match="run0"):
        run_all([run], 1)


def on_sigterm(number: int, frame: object) -> None:
    raise AssertionError("it is for run_all to handle")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.signal(signal.SIGTERM, on_sigterm)
    # The second hears of both, and then interrupts this process.
    text = f"""
(out / 'pid').write_text(str(os.getpid()))
if out.name == 'run1':
    while not (out.parent / 'run0' / 'pid').exists():
        time.sleep(0.01)
    os.kill({os.getpid()}, {int(number)})
time.sleep(60)
(out / 'survived').touch()
"""
    monkeypatch.setattr(running, "launched", scripts(text))
    with pytest.raises(KeyboardInterrupt):
        run_all(runs(tmp_path, 3), 2)
    for index in (0, 1):
        process = int((tmp_path / f"run{index}" / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not (tmp_path / "run2").exists()
    assert signal.signal(signal.SIGTERM, before) is on_sigterm


def test_a_process_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GRACE", 0.2)
    text = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(out / 'pid').write_text(str(os.getpid()))
os.kill({os.getpid()}, {int(signal.SIGINT)})
time.sleep(60)
"""
    monkeypatch.setattr(running, "launched", scripts(text))
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(runs(tmp_path, 1), 1)
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "run0" / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "said nothing"),
        ("\n \n", "said nothing"),
        ("one\ntwo\n\n", "two"),
        ("x" * 10_000 + "\nlast", "last"),
    ],
)
def test_the_last_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert last_line(path) == expected


class TestFinished:
    def test_by_the_epoch_of_the_state(self, tmp_path: Path) -> None:
        import torch

        args = Args(tmp_path, epochs=3)
        assert not finished(args)
        for epoch, expected in ((0, False), (2, False), (3, True)):
            torch.save({"epoch": epoch, "model": {"w": torch.zeros(3)}}, tmp_path / STATE)
            assert finished(args) == expected

    @pytest.mark.parametrize("content", [b"", b"junk" * 100])
    def test_a_damaged_state_is_told(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / STATE).write_bytes(content)
        with pytest.raises(InputRejected, match="is no state of a run; remove"):
            finished(Args(tmp_path))


@pytest.mark.parametrize(
    ("chosen", "expected"), [(None, max(1, (os.cpu_count() or 1) // 2)), ("7", 7)]
)
def test_a_process_finds_this_package_and_shares_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    text = "import os; print(os.environ['PYTHONPATH'], os.environ['OMP_NUM_THREADS'])"
    with (tmp_path / "log").open("wb") as log:
        assert running.launched([sys.executable, "-c", text], log, 2).wait(60) == 0
    path, threads = (tmp_path / "log").read_text().split()
    assert path.split(os.pathsep) == [str(Path(__file__).parents[3]), "elsewhere"]
    assert int(threads) == expected
