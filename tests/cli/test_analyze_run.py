"""`rankscope analyze` on runs and sweeps: options that state how they were trained, and spectra."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from rankscope.snapshots import LogRecord, SnapshotWriter
from tests.cli.conftest import Run
from tests.rundirs import Recipe, diagonal, write_run


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    saved = {
        step: {"a": diagonal([1.0] * 6) * size, "head": np.eye(2)}
        for step, size in ((0, 3.0), (20, 1.5), (40, 1.5))
    }
    logs = {step: LogRecord(test_accuracy=0.9, lr=0.1) for step in (20, 40)}
    return write_run(tmp_path / "run", saved, Recipe(unmarked=("head",)), logs)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    folder = tmp_path / "foreign"
    folder.mkdir()
    for step in (0, 30, 60):
        save_file({"a": np.eye(100)}, folder / f"step-{step}.safetensors")
    return folder


def document(run: Run, *arguments: object) -> dict[str, Any]:
    ended = run("analyze", *arguments, "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


STATED = ("--B", 2, "--mu", 0.1, "--weight-decay", 0.5, "--m", 1)


def test_both_conventions_give_the_same(run: Run, foreign: Path) -> None:
    pytorch = document(run, foreign, *STATED)
    theorem = document(run, foreign, "--B", 2, "--mu", 0.1, "--lambda", 0.25, "--m", 1)
    assert pytorch["matrices"] == theorem["matrices"]
    last = pytorch["matrices"][-1]
    # 0.95^n <= 5e-4 for n from 149 on, which is more than 60.
    assert last["bound_exact"] is None
    last = document(run, foreign, *STATED, "--eps", 0.5)["matrices"][-1]
    assert last["bound_exact"] == 2 * 28  # 0.95^27 = 0.2503, 0.95^28 = 0.238
    assert last["bound_measured"] == 2 * 30  # of 0, 30 and 60
    assert last["vacuous"] is False
    wider = document(run, foreign, *STATED[:-1], 2, "--eps", 0.5)["matrices"][-1]
    assert (wider["bound_exact"], wider["vacuous"]) == (2 * 2 * 28, True)


def test_momentum_can_be_stated(run: Run, foreign: Path) -> None:
    heavy = document(run, foreign, *STATED, "--eps", 0.5, "--momentum", 0.5)
    nesterov = document(run, foreign, *STATED, "--eps", 0.5, "--momentum", 0.5, "--nesterov")
    plain = document(run, foreign, *STATED, "--eps", 0.5)
    bounds = [one["matrices"][-1]["bound_exact"] for one in (plain, heavy, nesterov)]
    assert bounds[1] < bounds[0]  # steps of twice the size forget sooner
    assert bounds[2] != bounds[1]
    assert [one["runs"][0]["nesterov"] for one in (plain, heavy, nesterov)] == [False, False, True]
    assert heavy["matrices"][-1]["bound_closed"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lambda", 0.1, "--weight-decay", 0.2), "exclude each other"),
        (("--B", 0), "--B"),
        (("--mu", -1), "--mu"),
        (("--m", 0), "--m"),
        (("--average", "most"), "--average"),
        (("--spectra",), "-o FILE.csv, .h5 or .parquet"),
        (("--spectra", "--json", "-o", "x.csv"), "no --json"),
    ],
)
def test_options_that_make_no_sense(
    run: Run, digits: Path, arguments: tuple[object, ...], said: str
) -> None:
    ended = run("analyze", digits, *arguments)
    assert ended.code == 2
    assert said in re.sub(r"[│\s]+", " ", ended.err)
    assert ended.out == ""


def test_what_a_person_sees_of_a_run(run: Run, digits: Path) -> None:
    out = run("analyze", digits, "--eps", 0.5).out
    assert f"{digits}: average over 1 of 2 matrices" in out
    assert "within 0.01 of 1 in every matrix since step 40" in out
    assert "bound on the rank: 56 at least, which is vacuous here" in out
    assert re.search(r"kept by all \d+ ranks compared", out)
    # The three that belong together stand together.
    grid = out.splitlines()
    assert re.search(r"rank +exact +ratio", grid[2])


def test_average_over_all(run: Run, digits: Path) -> None:
    marked, every = document(run, digits), document(run, digits, "--average", "all")
    assert [row["rank"] for row in marked["summary"]] == [6.0] * 3
    assert [row["rank"] for row in every["summary"]] == [4.0] * 3
    assert [row["averaged"] for row in marked["summary"]] == [1] * 3


def test_adam_has_no_bound_and_is_told_why(run: Run, tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "adam", {0: {"a": np.eye(2)}, 1: {"a": np.eye(2)}}, Recipe(optimiser="adam")
    )
    found = document(run, path)
    assert {row["bound_exact"] for row in found["matrices"]} == {None}
    assert all("adam" in row["notes"]["bound_exact"].lower() for row in found["matrices"])
    assert "adam" in run("analyze", path).out.lower()


def test_csv_has_the_new_columns(run: Run, digits: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    assert run("analyze", digits, "-o", target, "--eps", 0.5, "-m", "rank").code == 0
    found = list(csv.DictReader(io.StringIO(target.read_text())))
    last = next(row for row in reversed(found) if row["name"] == "a")
    wanted = {"rank": "0", "norm_ratio": "1.0", "bound_exact": "56", "vacuous": "True"}
    assert {key: last[key] for key in wanted} == wanted
    assert last["bound_measured"] == "40"
    assert found[0]["norm_ratio"] == ""
    assert "norm_ratio: the first snapshot" in found[0]["notes"]


class TestSweep:
    @pytest.fixture
    def sweep(self, tmp_path: Path) -> Path:
        folder = tmp_path / "sweep"
        for batch in (2, 4, 8, 16):
            saved = {step: {"a": diagonal([1.0] * batch + [0.0])} for step in (0, 90)}
            logs = {90: LogRecord(test_accuracy=0.5)}
            write_run(folder / f"B{batch}", saved, Recipe(batch=batch), logs)
        return folder

    def test_is_a_row_a_run_and_a_sentence(self, run: Run, sweep: Path) -> None:
        out = run("analyze", sweep).out
        assert "4 runs: model net, data digits, optimiser sgd, mu 0.1" in out
        assert "rises with B as Prediction 4.1 says" in out
        assert [line.split()[:4] for line in out.splitlines() if re.match(r"B\d", line)] == [
            [f"B{batch}", str(batch), "0.5000", f"{batch:.3f}" if batch < 10 else "16.00"]
            for batch in (2, 4, 8, 16)
        ]

    def test_is_whole_in_json(self, run: Run, sweep: Path) -> None:
        found = document(run, sweep)
        assert [row["B"] for row in found["runs"]] == [2, 4, 8, 16]
        assert found["trends"][0]["verdict"] == "as predicted"
        assert len(found["matrices"]) == 8

    @pytest.mark.parametrize("suffix", [".md", ".html", ".csv", ".json"])
    def test_goes_to_any_file(self, run: Run, sweep: Path, tmp_path: Path, suffix: str) -> None:
        target = tmp_path / f"out{suffix}"
        assert run("analyze", sweep, "-o", target).code == 0
        text = target.read_text()
        assert all(f"B{batch}" in text for batch in (2, 4, 8, 16))
        if suffix != ".csv":
            assert "Prediction 4.1" in text.replace("\\", "")

    def test_of_runs_without_a_snapshot_says_so(self, run: Run, tmp_path: Path) -> None:
        for name in "ab":
            write_run(tmp_path / "begun" / name, {})
        ended = run("analyze", tmp_path / "begun")
        assert "without a snapshot" in re.sub(r"\s+", " ", ended.out + ended.err)


class TestSpectra:
    @pytest.mark.parametrize("suffix", [".csv", ".h5"])
    def test_go_to_a_file(self, run: Run, digits: Path, tmp_path: Path, suffix: str) -> None:
        target = tmp_path / f"out{suffix}"
        ended = run("analyze", digits, "--spectra", "-o", target)
        assert (ended.code, ended.out) == (0, "")
        assert ended.err.rstrip().endswith(f"wrote {target}")
        if suffix == ".h5":
            with h5py.File(target) as file:
                assert file["0/a/sigma"][:, 0].tolist() == pytest.approx([3.0, 1.5, 1.5])
        else:
            sigma = [float(line.split(",")[4]) for line in target.read_text().splitlines()[1:]]
            assert sigma[:6] == pytest.approx([3.0] * 6)

    @pytest.mark.parametrize("suffix", [".csv", ".h5", ".parquet"])
    def test_that_are_lacking_are_said_and_exit_with_4(
        self, run: Run, tmp_path: Path, suffix: str
    ) -> None:
        name = "bad\x1b[31m\n"
        saved = {0: {name: np.full((2, 2), np.nan), "good": np.eye(2)}}
        target = tmp_path / f"out{suffix}"
        path = write_run(tmp_path / "run", saved)
        ended = run("analyze", path, "--spectra", "-o", target)
        assert ended.code == 4
        assert "bad\\x1b[31m\\n at step 0" in ended.err
        assert "\x1b[31m" not in ended.err
        assert target.exists()

    def test_have_no_other_suffix(self, run: Run, digits: Path, tmp_path: Path) -> None:
        ended = run("analyze", digits, "--spectra", "-o", tmp_path / "out.json")
        assert ended.code == 2
        assert "expected one of .csv, .h5" in re.sub(r"\s+", " ", ended.err)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_cannot_go_where_nothing_may_be_written(
        self, run: Run, digits: Path, tmp_path: Path
    ) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        assert run("analyze", digits, "--spectra", "-o", closed / "out.csv").code == 2

    @pytest.mark.parametrize("where", ["none/out.csv", "run"])
    def test_cannot_go_where_there_is_no_file(
        self, run: Run, digits: Path, tmp_path: Path, where: str
    ) -> None:
        target = tmp_path / (where if "." in where else f"{where}.csv")
        if "." not in where:
            target.mkdir()
        ended = run("analyze", digits, "--spectra", "-o", target)
        assert ended.code == 2
        assert f"error: {target}: " in ended.err.replace("\n", "")

    def test_do_not_replace_the_weights(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "weights.h5"
        with h5py.File(path, "w") as file:
            file["layer/kernel"] = np.eye(3)
        before = path.read_bytes()
        ended = run("analyze", path, "--spectra", "-o", path)
        assert ended.code == 2
        assert path.read_bytes() == before


def test_checkpoints_with_adams_state_have_no_bound(run: Run, tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4)
    optimiser = torch.optim.Adam(model.parameters())
    for step in (1, 2):
        model(torch.randn(2, 4)).sum().backward()
        optimiser.step()
        state = {"model": model.state_dict(), "optimizer": optimiser.state_dict()}
        torch.save(state, tmp_path / f"step-{step}.pt")
    stated = ("--B", 2, "--mu", 0.1, "--weight-decay", 0.1, "--m", 1)
    ended = run("analyze", tmp_path, *stated)
    assert ended.code == 0
    assert "the state of Adam or its kin" in ended.out
    ended = run("certify", tmp_path, *stated)
    assert ended.code == 3
    assert "the state of Adam or its kin" in ended.err


def test_of_many_snapshots_the_logged_ones_are_shown(run: Run, tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path / "run") as writer:
        for step in range(60):
            record = LogRecord(test_accuracy=0.5) if step % 10 == 8 else None
            writer.save(step, {"w": np.eye(2)}, record)
    out = run("analyze", tmp_path / "run").out
    assert "7 of 60 snapshots; --all shows every one" in out
    assert [line.split()[0] for line in out.splitlines() if " 0.5000 " in line] == [
        *("8", "18", "28", "38", "48", "58")
    ]
    assert re.search(r"^ +59 +- ", out, re.MULTILINE)  # and the last


def test_epochs_are_not_updates(run: Run, tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_file({"w": np.eye(4)}, tmp_path / f"epoch_{epoch}.safetensors")
    stated = ("--B", 2, "--mu", 0.1, "--weight-decay", 0.1, "--m", 1)
    ended = run("analyze", tmp_path, *stated)
    assert ended.code == 0
    assert "no bound: the snapshots are numbered by epochs" in ended.out
    ended = run("certify", tmp_path, *stated)
    assert ended.code == 3
    assert "numbered by epochs and the bound counts updates" in ended.err
