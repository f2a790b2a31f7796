"""The command line, called in this process as the console script calls it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rankscope.blas import THREAD_VARIABLES
from rankscope.cli.app import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `rankscope` with these arguments, its cache in the test's own directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in THREAD_VARIABLES:
        # As `main` sets it, but not for the tests that follow, whose BLAS it does not tell of.
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["rankscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else int(bool(code)), captured.out, captured.err)

    return call
