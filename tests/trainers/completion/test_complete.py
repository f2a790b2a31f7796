"""`python -m trainers complete`: the run directories it writes, read as any other."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import rankscope
from rankscope.how import How
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.training import Given, training_of
from trainers.__main__ import main
from trainers.completion import running
from trainers.completion.cell import Cell
from trainers.completion.history import RECORDS
from trainers.completion.options import Args, add_arguments
from trainers.completion.running import Outcome

NO_STORE = How(store=False)
SMALL = ("--shape", "12x10", "--rank", "2", "--observed", "60", "--lr", "0.02")
QUICK = (*SMALL, "--iterations", "200", "--record-every", "50", "--stop", "iterations")


def complete(out: Path, *options: str) -> Path:
    assert main(["complete", "--out", str(out), *options]) == 0
    return out


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / RECORDS).read_text().splitlines()]


def snapshots(run: Path) -> dict[int, dict[str, Any]]:
    files = sorted((run / "snapshots").iterdir())
    return {int(file.stem.removeprefix("step-")): load_file(file) for file in files}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = ("--depth", "3", "--optimizer", "adam", "--penalty", "ratio", "--init", "std:0.2")
    out = tmp_path_factory.mktemp("completion") / "run"
    return complete(out, *QUICK, *chosen, "--width", "11", "--factors", "--dtype", "float64")


def test_rankscope_reads_it_and_agrees_with_its_records(run: Path) -> None:
    found = rankscope.analyze(run, metrics=["effective_rank", "frobenius_norm"], how=NO_STORE)
    ours = {line["step"]: line for line in lines(run)}
    assert sorted(ours) == [0, 50, 58, 68, 79, 93, 100, 108, 126, 147, 150, 171, 200]
    rows = [row for row in found.matrices if row["name"] == "product"]
    assert len(rows) == 11
    for row in rows:
        line = ours[row["step"]]
        assert row["effective_rank"] == pytest.approx(line["effective_rank"])
        assert row["frobenius_norm"] == pytest.approx(line["frobenius_norm"])
        assert row["averaged"]
    for summed in found.summary:
        assert summed["train_loss"] == pytest.approx(ours[summed["step"]]["train_loss"])
        assert summed["test_loss"] == pytest.approx(ours[summed["step"]]["error_unobserved"])
    assert not any(row["averaged"] for row in found.matrices if row["name"] != "product")


def test_the_factors_multiply_to_the_product(run: Path) -> None:
    for tensors in snapshots(run).values():
        one, two, three = (tensors[f"layers.{number}"] for number in (1, 2, 3))
        assert (one.shape, two.shape, three.shape) == ((11, 10), (11, 11), (12, 11))
        np.testing.assert_allclose(three @ two @ one, tensors["product"], atol=1e-12)


def test_the_record_says_what_was_run(run: Path) -> None:
    record = read_run_record(run)
    assert record is not None
    assert record.model == "linear 10-11-11-12 from std:0.2, sum of squared errors + 0.05 ratio"
    assert record.data == "60 entries of a 12x10 matrix of rank 2, scaled to a mean square of 1"
    assert record.optimiser is not None
    assert record.optimiser.name == "adam"
    assert record.hyperparameters is not None
    assert (record.hyperparameters.lr, record.hyperparameters.batch_size) == (0.02, 60)
    assert record.matrices[0].name == "product"
    assert read_log(run)[-1]["lr"] == 0.02


def test_records_hold_the_chosen_singular_values(run: Path) -> None:
    product = snapshots(run)[200]["product"]
    sigma = np.linalg.svd(product)[1]
    assert lines(run)[-1]["sigma"] == pytest.approx({"1": sigma[0], "2": sigma[1], "3": sigma[2]})
    assert lines(run)[-1]["imbalance"] > 0


def test_seeds_train_as_one_batch_and_each_as_alone(tmp_path: Path) -> None:
    chosen = (
        *QUICK,
        "--penalty",
        "nuclear",
        "--dtype",
        "float64",
        "--depth",
        "2",
        "--init",
        "std:0.2",
    )
    together = complete(tmp_path / "both", *chosen, "--seeds", "2", "--seed", "4")
    assert sorted(path.name for path in together.iterdir()) == ["seed-4", "seed-5"]
    alone = complete(tmp_path / "one", *chosen, "--seed", "5")
    ours, theirs = (snapshots(path)[200]["product"] for path in (together / "seed-5", alone))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    found = rankscope.analyze(together, how=NO_STORE)
    assert len(found.runs) == 2


def test_the_same_command_writes_the_same_bits(tmp_path: Path) -> None:
    one, two = (complete(tmp_path / name, *QUICK, "--penalty", "ratio") for name in "ab")
    assert (one / RECORDS).read_bytes() == (two / RECORDS).read_bytes()
    for step, tensors in snapshots(one).items():
        assert np.array_equal(tensors["product"], snapshots(two)[step]["product"])


def test_snapshots_at_chosen_iterations_and_at_the_end(tmp_path: Path) -> None:
    out = complete(tmp_path / "run", *QUICK, "--snapshot-at", "7,120")
    assert sorted(snapshots(out)) == [7, 120, 200]


def test_it_ends_when_it_is_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = complete(tmp_path / "run", *SMALL, "--optimizer", "gd")
    assert lines(out)[-1]["step"] == 4000
    assert max(snapshots(out)) == 4000
    assert "seed 0: level after 4000 iterations" in capsys.readouterr().err


def test_the_trap_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = complete(tmp_path / "run", *QUICK, "--optimizer", "adam", "--stop-loss", "10")
    told = capsys.readouterr().err
    assert "warning: --stop-loss ends a run" in told
    assert "below the training loss to stop at after" in told
    assert lines(out)[-1]["train_loss"] < 10 <= lines(out)[-2]["train_loss"]


def test_the_defaults_are_the_papers() -> None:
    cell = Cell()
    assert (cell.shape, cell.rank, cell.observed) == ((100, 100), 5, 2000)
    assert (cell.lr, cell.strength, cell.loss) == (1e-3, 0.05, "sum")
    assert cell.start.name == "std:0.001"
    assert Args(Path("run")).iterations == 500_000


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["--shape", "12"], "shape is '12', expected numbers as in 100x100"),
        (["--rank", "11"], "rank is 11, expected 1 to 10"),
        (["--observed", "120"], "observed is 120, expected 1 to 119"),
        (["--depth", "6"], "depth is 6, expected 1 to 5"),
        (["--penalty", "l1"], "no penalty is called 'l1'"),
        (["--init", "he:1"], "init is 'he:1', expected one of std"),
        (["--init", "std:-1"], "positive size"),
        (["--init", "balanced:1", "--depth", "2", "--width", "3"], "balanced"),
        (["--lambda", "-1", "--penalty", "ratio"], "lambda is -1.0"),
        (["--lr", "0"], "lr is 0.0"),
        (["--sigma", "0,1"], "sigma has 0, expected 1 to 10"),
        (["--snapshot-at", "600000"], "snapshot_at has 600000"),
        (["--stop-loss", "0"], "stop_loss is 0.0"),
        (["--record-every", "501"], "record_every is 501, expected at most 500"),
        (["--seeds", "0"], "seeds is 0, expected at least 1"),
        (["--width", "0", "--depth", "2"], "width is 0"),
        (["--width", "9"], "width is 9, and depth 1 has no layers between"),
        (["--lambda", "0.5"], "lambda is 0.5, and there is no penalty: give --penalty"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: list[str], message: str
) -> None:
    out = tmp_path / "run"
    assert main(["complete", "--out", str(out), *SMALL, *chosen]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len([line for line in error.splitlines() if line.startswith("error")]) == 1
    assert not out.exists()


def test_a_directory_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(["complete", "--out", str(tmp_path), *QUICK]) == 2
    assert "exists already" in capsys.readouterr().err


def test_adam_runs_in_float32_by_default(tmp_path: Path) -> None:
    out = complete(tmp_path / "run", *QUICK, "--optimizer", "adam")
    assert snapshots(out)[200]["product"].dtype == np.float32
    tiny = torch.tensor([1e-39])
    assert (tiny * 1.0).item() > 0  # flushing ended with the run


class TestDiverged:
    @pytest.mark.parametrize("penalty", ["none", "ratio"])
    def test_ends_with_4_and_is_kept(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], penalty: str
    ) -> None:
        out = tmp_path / "run"
        chosen = ("--depth", "2", "--penalty", penalty, "--lr", "100")
        assert main(["complete", "--out", str(out), *QUICK, *chosen]) == 4
        printed = capsys.readouterr()
        assert printed.err == (
            f"error: seed 0 by iteration 50 diverged, kept in {out} up to there; lower --lr, which "
            "is 100\n"
        )
        assert printed.out == f"rankscope analyze {out}\n"
        assert [line["train_loss"] is None for line in lines(out)] == [False, True]
        rows = rankscope.analyze(out, how=NO_STORE).matrices
        assert [row["step"] for row in rows] == [0, 50]

    def test_seeds_that_do_not_are_told_of(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trained = running.train

        def one_diverges(*arguments: Any) -> list[Outcome]:
            first, *others = trained(*arguments)
            return [replace(first, end="diverged"), *others]

        monkeypatch.setattr(running, "train", one_diverges)
        assert main(["complete", "--out", str(tmp_path / "run"), *QUICK, "--seeds", "2"]) == 4
        told = capsys.readouterr().err.splitlines()
        assert [line.split(":")[0] for line in told] == ["seed 1", "error"]


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (["--depth", "1"], "sgd"),
        (["--depth", "1", "--optimizer", "momentum"], "sgd"),
        (["--depth", "1", "--penalty", "ratio"], "gd with a penalty"),
        (["--depth", "1", "--penalty", "ratio", "--lambda", "0"], "sgd"),
        (["--depth", "2"], "gd on factors"),
        (["--depth", "2", "--optimizer", "momentum", "--penalty", "ratio"], "gd on factors"),
        (["--depth", "1", "--optimizer", "adamw"], "adamw"),
    ],
)
def test_the_theorem_is_about_descent_on_the_matrix_itself(
    tmp_path: Path, chosen: list[str], name: str
) -> None:
    """So that `rankscope certify` refuses the others."""
    out = complete(tmp_path / "run", *QUICK, *chosen)
    record = read_run_record(out)
    assert record is not None
    assert record.optimiser is not None
    assert record.optimiser.name == name
    training = training_of(record, read_log(out), Given())
    assert training is not None
    assert (training.dynamics is not None) == (name == "sgd")


def test_the_help_says_what_every_choice_does() -> None:
    parser = argparse.ArgumentParser(prog="complete")
    add_arguments(parser)
    for action in parser._actions:
        assert action.help
        assert not action.help.startswith("(default")
        if action.choices and action.dest in ("stop", "loss"):
            assert all(f"{choice}: " in action.help for choice in action.choices)
    assert "cannot be gone on with" in " ".join(parser.format_help().split())
