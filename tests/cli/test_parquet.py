"""`-o FILE.parquet`: every command that has a table writes it, with what made it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import rankscope
from rankscope.errors import UsageError
from tests.cli.conftest import Run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.eye(3), "b": np.ones((2, 5))}, path)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("analyze",),
        ("inspect",),
        ("analyze", "--spectra"),
        ("analyze", "--eps", "0.1", "--eps", "0.2"),
    ],
)
def test_the_command_line_writes_them(
    run: Run, weights: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    target = tmp_path / "out.parquet"
    name, *options = command
    ended = run(name, weights, *options, "-o", target)
    assert (ended.code, ended.out, ended.err) == (0, "", f"wrote {target}\n")
    assert pl.read_parquet(target)["name"].sort().to_list() == ["a", "b"]
    told = json.loads(pq.read_schema(target).metadata[b"rankscope"])
    assert told["schema"].startswith("rankscope/")
    if name == "analyze":
        assert told["provenance"]["command"][1:] == [str(word) for word in sys.argv[1:]]
        assert told["provenance"]["rankscope"] == rankscope.__version__


def test_of_two_checkpoints_and_of_the_bound(run: Run, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    assert run("diff", weights, weights, "-o", target).code == 0
    assert pl.read_parquet(target)["rank_change"].to_list() == [0, 0]
    assert run("bound", "--B", 8, "--mu", 0.5, "-o", target).code == 0
    assert pl.read_parquet(target).schema["exact"] == pl.Int64


def test_a_check_has_no_such_format(run: Run, weights: Path, tmp_path: Path) -> None:
    ended = run("check", weights, "--rule", "rank >= 1", "-o", tmp_path / "out.parquet")
    assert ended.code == 2
    assert "'.parquet' names no format" in ended.err.replace("\n", " ")


@pytest.mark.parametrize("spectra", [False, True])
def test_without_pyarrow_nothing_is_begun(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spectra: bool
) -> None:
    def too_far(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for module in ("api", "asking"):
        monkeypatch.setattr(f"rankscope.{module}.measure", too_far)
    options = ["--spectra"] if spectra else []
    ended = run("analyze", weights, *options, "-o", tmp_path / "out.parquet")
    assert ended.code == 2
    assert "pip install 'rankscope[parquet]'" in ended.err
    assert not (tmp_path / "out.parquet").exists()
    found = rankscope.analyze({"w": np.eye(2)})
    with pytest.raises(UsageError, match="needs pyarrow, which is not installed"):
        found.save(tmp_path / "out.parquet")
    found.save(tmp_path / "out.csv")
