"""`python -m trainers`: what it says when it is interrupted or something is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainers import complete, table
from trainers.__main__ import main


class TestInterrupted:
    @pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to one process")
    def test_a_run_that_cannot_go_on(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        words = [sys.executable, "-m", "trainers", "complete", "--out", str(out)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        log, limit = out / "log.jsonl", time.monotonic() + 60
        while not (log.exists() and log.stat().st_size):
            assert time.monotonic() < limit
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
        assert told == f"interrupted; remove {out} to start again\n"
        assert main(["complete", "--out", str(out)]) == 2  # as the line says

    @pytest.mark.parametrize(
        ("words", "driver", "there", "told"),
        [
            (["complete"], complete, False, "interrupted"),
            (["complete"], complete, True, "interrupted"),
            (["table", "P2-T1"], table, True, "interrupted; the same command goes on"),
        ],
        ids=["nothing written", "not the run's", "goes on"],
    )
    def test_what_to_do_next(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        driver: object,
        there: bool,
        told: str,
    ) -> None:
        """Of a directory that held something before, nobody is told to remove it."""

        def stopped(_args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(driver, "run", stopped)
        out = tmp_path / "run"
        if there:
            out.mkdir()
            (out / "mine").touch()
        assert main([*words, "--out", str(out)]) == 130
        assert capsys.readouterr().err == f"{told}\n"


@pytest.mark.parametrize(
    "name", ["trainers.completion.running", "rankscope.snapshots", "trainers", "rankscope"]
)
def test_a_part_of_the_project_is_not_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(_args: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(complete, "run", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["complete", "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("name", "extra"), [("torch", "train"), ("cvxpy", "baselines"), ("trainersx", "train")]
)
def test_what_is_not_installed_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    extra: str,
) -> None:
    def missing(_args: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(complete, "run", missing)
    assert main(["complete", "--out", str(tmp_path / "run")]) == 2
    expected = f"error: No module named '{name}': pip install 'rankscope[{extra}]'\n"
    assert capsys.readouterr().err == expected
