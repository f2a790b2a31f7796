"""`rankscope inspect --plan`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from rankscope.cli.app import app
from rankscope.files import LocalFile
from rankscope.storagerate import PIECE, PIECES, READERS

RUNNER = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.safetensors")


def write_model(path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = {f"w{i}": rng.standard_normal((80, 60), dtype=np.float32) for i in range(4)}
    save_file(tensors, path)
    os.utime(path, (1e9, 1e9))
    return path


def inspect(*arguments: object) -> dict[str, Any]:
    ended = RUNNER.invoke(app, ["inspect", *map(str, arguments), "--json"])
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan in a file, whose rates others are made with: measuring takes seconds."""
    target = tmp_path_factory.mktemp("rates") / "plan.json"
    model = write_model(target.with_name("model.safetensors"))
    ended = RUNNER.invoke(app, ["inspect", str(model), "--plan", "--no-store", "-o", str(target)])
    assert ended.exit_code == 0, ended.output
    return target


def test_a_plan_is_told(model: Path, rates: Path) -> None:
    ended = RUNNER.invoke(
        app,
        ["inspect", str(model), "--plan", "--no-store", "--rates", str(rates), "--workers", "3"],
    )
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert any("plan, by the rates of" in line for line in lines)
    assert lines[-1].startswith("3 workers: ")
    assert "up to" in lines[-1]
    assert any("of the files were read" in line for line in lines)


def test_the_document_holds_the_plan_and_its_rates(model: Path, rates: Path) -> None:
    found = inspect(model, "--plan", "--no-store", "--rates", rates, "--workers", 8)
    told = found["plan"]
    assert [one["workers"] for one in told["predictions"]] == [1, 2, 4, 8]
    assert told["rates"] == json.loads(rates.read_text())["plan"]["rates"]
    assert told["matrices"] == 4
    assert told["bytes"] == 4 * 80 * 60 * 4
    assert told["store_bytes"] == 0
    for one in told["predictions"]:
        assert one["least"] <= one["seconds"] <= one["most"]


def test_without_it_nothing_is_said_of_time(model: Path) -> None:
    assert "plan" not in inspect(model)


def test_what_the_store_knows_is_left_out(model: Path, rates: Path, tmp_path: Path) -> None:
    store = tmp_path / "spectra.sqlite3"
    options = ("--plan", "--rates", rates, "--store", store)
    assert inspect(model, *options)["plan"]["known"] == 0
    ended = RUNNER.invoke(
        app, ["analyze", str(model), "--store", str(store), "--include", "w[0-2]"]
    )
    assert ended.exit_code == 0, ended.output
    told = inspect(model, *options)["plan"]
    assert (told["known"], told["matrices"]) == (3, 1)
    assert told["store_bytes"] > 8 * 60
    os.utime(model, (1e9 + 9, 1e9 + 9))  # it may have changed
    assert inspect(model, *options)["plan"]["known"] == 0


def test_no_more_is_read_than_is_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of a gigabyte: its header, by what it is recognised, and the sample."""
    path = tmp_path / "large.safetensors"
    header = {"w": {"dtype": "BF16", "shape": [2**25, 16], "data_offsets": [0, 2**30]}}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2**30)
    read: list[int] = []
    original = LocalFile.read

    def counted(self: LocalFile, offset: int, count: int, *rest: Any) -> bytes | bytearray:
        if self.path == path:
            read.append(count)
        return original(self, offset, count, *rest)

    monkeypatch.setattr(LocalFile, "read", counted)
    told = inspect(path, "--plan", "--no-store")["plan"]
    sampled = told["rates"]["storage"]["sampled"]
    assert sampled == (PIECES + READERS) * PIECE
    assert sampled <= sum(read) <= sampled + 2**14


@pytest.mark.parametrize("options", [["--no-store"], ["--rates", "x.json"], ["--store", "x"]])
def test_options_of_a_plan_want_one(model: Path, options: list[str]) -> None:
    ended = RUNNER.invoke(app, ["inspect", str(model), *options])
    assert ended.exit_code == 2
    assert "--plan" in ended.output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "rankscope/rates/1"}'])
def test_rates_that_are_none_are_refused(model: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.json"
    path.write_text(text)
    ended = RUNNER.invoke(app, ["inspect", str(model), "--plan", "--rates", str(path)])
    assert ended.exit_code == 3
    assert "rates.json" in ended.output


def test_a_machine_that_others_use_is_told(model: Path, rates: Path, tmp_path: Path) -> None:
    document = json.loads(rates.read_text())
    for share, told in ((0.5, True), (0.99, False)):
        document["plan"]["rates"]["share"] = share
        path = tmp_path / "other.json"
        path.write_text(json.dumps(document))
        options = ["inspect", str(model), "--plan", "--no-store", "--rates", str(path)]
        ended = RUNNER.invoke(app, options)
        assert ("gave 50% of its cores' time" in ended.stdout) is told
