"""`python -m trainers movielens` on small files: its run directory, its errors, its settings."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import rankscope
from rankscope.errors import UsageError
from rankscope.how import How
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.training import Given, training_of
from tests.trainers.movielens import planted
from trainers.__main__ import main
from trainers.movielens import driver, training
from trainers.movielens.args import Args, add_arguments, from_options
from trainers.movielens.driver import Result, conclusion, warn_of_long
from trainers.movielens.files import Ratings, Split, load
from trainers.movielens.reported import TABLE2, reported

COUNT = 600
SMALL = ("--B", "128", "--epochs", "4", "--snapshots", "2", "--lr", "0.02", "--dimension", "6")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ratings")
    whole = planted.ratings(40, 50, COUNT)
    planted.write(folder / "u.data", whole)
    planted.write(folder / "u1.base", whole.take(np.arange(480)))
    planted.write(folder / "u1.test", whole.take(np.arange(480, COUNT)))
    return folder


@pytest.fixture(scope="module")
def run_dir(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "embedding"
    chosen = ("--penalty-users", "0.5", "--seed", "3")
    assert main(["movielens", "--data", str(data), "--out", str(out), *SMALL, *chosen]) == 0
    return out


def snapshots(run: Path) -> list[Path]:
    return sorted((run / "snapshots").iterdir())


def naive_rmse(state: dict[str, Any], ratings: Ratings) -> float:
    total = 0.0
    for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True):
        if "matrix" in state:
            predicted = float(state["matrix"][user, item])
        else:
            predicted = float(state["users"][user].astype(float) @ state["items"][item])
        predicted += float(state["bias.users"][user]) + float(state["bias.items"][item])
        total += (predicted - value) ** 2
    return math.sqrt(total / len(ratings))


def options(*arguments: str) -> Args:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_options(parser.parse_args(["--data", "here", "--out", "there", *arguments]))


class TestRun:
    def test_the_log_has_the_error_of_every_epoch(self, run_dir: Path, data: Path) -> None:
        log = read_log(run_dir)
        assert [(line["step"], line["epoch"]) for line in log] == [(5 * e, e) for e in range(5)]
        assert [path.name for path in snapshots(run_dir)] == [
            f"step-{step:08d}.safetensors" for step in (0, 10, 20)
        ]
        split = load(data, "90/10", seed=0)
        for path, line in zip(snapshots(run_dir), (log[0], log[2], log[4]), strict=True):
            state = load_file(path)
            assert line["train_loss"] == pytest.approx(naive_rmse(state, split.train), rel=1e-6)
            assert line["test_loss"] == pytest.approx(naive_rmse(state, split.test), rel=1e-6)
        assert log[-1]["test_loss"] < log[0]["test_loss"]

    def test_the_record(self, run_dir: Path) -> None:
        record = read_run_record(run_dir)
        assert record is not None
        assert record.model == "embedding, dimension 6, ratio penalty 0.5 on users, mean loss"
        assert record.data == (
            "MovieLens-100K's 90/10: 540 training and 60 test ratings, split by seed 0; "
            "losses are root-mean-square errors"
        )
        assert [(m.name, m.kind, m.shape) for m in record.matrices] == [
            ("users", "embedding", (943, 6)),
            ("items", "embedding", (1682, 6)),
        ]
        assert (record.seed, record.optimiser and record.optimiser.name) == (3, "adam")
        assert record.hyperparameters is not None
        assert (record.hyperparameters.batch_size, record.hyperparameters.lr) == (128, 0.02)

    def test_is_analysed_like_any_other(self, run_dir: Path) -> None:
        found = rankscope.analyze(run_dir, metrics=["nuclear_ratio"], how=How(store=False))
        rows = {(row["name"], row["step"]): row for row in found.matrices}
        assert set(rows) == {(name, step) for name in ("users", "items") for step in (0, 10, 20)}
        for path, step in zip(snapshots(run_dir), (0, 10, 20), strict=True):
            sigma = np.linalg.svd(load_file(path)["users"].astype(float), compute_uv=False)
            expected = sigma.sum() / np.sqrt((sigma**2).sum())
            assert rows["users", step]["nuclear_ratio"] == pytest.approx(expected, rel=1e-6)
        assert rows["users", 20]["nuclear_ratio"] < rows["items", 20]["nuclear_ratio"]

    def test_the_same_command_writes_the_same_bits(
        self, run_dir: Path, data: Path, tmp_path: Path
    ) -> None:
        chosen = ("--penalty-users", "0.5", "--seed", "3")
        for name, split_seed in (("again", "0"), ("other", "1")):
            command = ["movielens", "--data", str(data), "--out", str(tmp_path / name), *SMALL]
            assert main([*command, *chosen, "--split-seed", split_seed]) == 0
        for ours, theirs in zip(snapshots(tmp_path / "again"), snapshots(run_dir), strict=True):
            assert ours.read_bytes() == theirs.read_bytes()
        assert (tmp_path / "again/log.jsonl").read_bytes() == (run_dir / "log.jsonl").read_bytes()
        first, other = (snapshots(run)[0] for run in (run_dir, tmp_path / "other"))
        assert first.read_bytes() == other.read_bytes()
        assert (tmp_path / "other/log.jsonl").read_bytes() != (run_dir / "log.jsonl").read_bytes()

    def test_depth_1_by_full_descent_on_a_file_split(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "run"
        args = Args(
            out,
            data,
            split="u1",
            model="depth-1",
            optimiser="gd",
            lr=0.1,
            batch_size=0,
            epochs=2,
            snapshots=1,
            penalty_every=2,
            loss="sum",
            clip=True,
        )
        result = driver.run(args)
        record = read_run_record(out)
        assert record is not None
        assert record.model == (
            "depth-1, bias user-item, ratio penalty 1.5 on matrix, sum loss, penalty's gradient "
            "every 2 updates, errors of predictions clipped to 1 to 5"
        )
        assert record.data is not None
        assert "u1: 480 training and 120 test ratings;" in record.data
        assert record.optimiser is not None
        assert record.optimiser.name == "gd with a penalty"
        assert record.hyperparameters is not None
        assert record.hyperparameters.batch_size == 480
        assert [m.shape for m in record.matrices] == [(943, 1682)]
        assert [line["step"] for line in read_log(out)] == [0, 1, 2]
        assert read_log(out)[-1]["test_loss"] == result.test_rmse
        # At first all predictions are about 0, which is clipped to 1.
        stars = load(data, "u1").test.values
        by_ones = math.sqrt(((stars - 1) ** 2).mean())
        assert read_log(out)[0]["test_loss"] == pytest.approx(by_ones, rel=1e-12)
        printed = capsys.readouterr()
        assert printed.out.startswith(f"RMSE over 120 test ratings {result.test_rmse:.3f} after")
        assert printed.out.endswith(f"\nrankscope analyze {out}\n")
        assert "P2" not in printed.out
        assert f"warning: {data}: there are 600 ratings" in printed.err

    def test_ends_when_the_training_error_keeps_rising(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Training and test errors in turn, from the initialisation on.
        errors = iter([3, 9, 2, 8, 2.5, 1, 2.4, 8, 2.6, 8, 2.7, 7])
        monkeypatch.setattr(training, "rmse", lambda *_, **__: next(errors))
        args = Args(tmp_path / "run", data, dimension=2, epochs=20, patience=2, snapshots=1)
        assert driver.run(args) == Result(5, 7, 1, 2)
        assert [path.stem for path in snapshots(tmp_path / "run")] == [
            "step-00000000",
            f"step-{5 * 3:08d}",
        ]

    @pytest.mark.parametrize(
        ("penalties", "name"), [((), "gd with a penalty"), (("--penalty-users", "0"), "sgd")]
    )
    def test_the_theorem_is_about_descent_without_penalty(
        self, data: Path, tmp_path: Path, penalties: tuple[str, ...], name: str
    ) -> None:
        out = tmp_path / "run"
        command = ["movielens", "--data", str(data), "--out", str(out), *SMALL, "--epochs", "1"]
        assert main([*command, "--optimizer", "gd", *penalties]) == 0
        record = read_run_record(out)
        assert record is not None
        assert record.optimiser is not None
        assert record.optimiser.name == name
        training = training_of(record, read_log(out), Given())
        assert training is not None
        assert (training.dynamics is not None) == (name == "sgd")

    @pytest.mark.parametrize("lr", ["1e9", "1e25"])
    def test_divergence_ends_with_4_and_keeps_the_run(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lr: str
    ) -> None:
        out = tmp_path / "run"
        command = ["movielens", "--data", str(data), "--out", str(out), *SMALL, "--B", "0"]
        assert main([*command, "--epochs", "9", "--optimizer", "gd", "--lr", lr]) == 4
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: training diverged, ")
        assert line.endswith(f"; lower --lr, which is {float(lr):g}")
        log = read_log(out)
        assert 1 <= len(log) < 10
        assert all(math.isfinite(entry["train_loss"]) for entry in log)
        assert len(snapshots(out)) >= 1

    def test_a_last_epoch_that_diverges_is_told_too(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["movielens", "--data", str(data), "--out", str(tmp_path / "run"), *SMALL]
        assert main([*command, "--B", "0", "--epochs", "1", "--lr", "1e30"]) == 4
        assert "diverged, a prediction is no number, " in capsys.readouterr().err

    def test_an_existing_run_is_refused(
        self, run_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["movielens", "--data", str(data), "--out", str(run_dir)]) == 2
        assert "exists already; remove it, or choose another --out" in capsys.readouterr().err

    def test_missing_data_end_with_3(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["movielens", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
        assert main([*command, "--split", "ub"]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {tmp_path}: has no ub.base: ")
        assert not (tmp_path / "run").exists()


class TestArgs:
    def test_what_p2_has_is_the_default(self) -> None:
        embedding, depth1 = options(), options("--model", "depth-1")
        assert (embedding.learning_rate, embedding.penalties) == (1e-3, {"users": 0.01, "items": 0})
        assert (depth1.learning_rate, depth1.penalties) == (5e-4, {"matrix": 1.5})
        for args in (embedding, depth1):
            assert (args.batch_size, args.columns, args.epochs) == (256, 64, 100)
            assert (args.penalty_every, args.clip, args.patience) == (1, False, 0)

    def test_every_option_is_taken(self) -> None:
        second = ("--penalty-users", "1e-4", "--penalty-items", "0.1", "--B", "128")
        assert options(*second).penalties == {"users": 1e-4, "items": 0.1}
        assert options("--penalty-users", "0").penalties == {"users": 0, "items": 0}
        chosen = options(
            *("--split", "ub", "--model", "depth-1", "--optimizer", "gd"),
            *("--lr", "0.5", "--B", "0", "--penalty", "0.25", "--penalty-every", "7", "--bias"),
            *("global", "--loss", "sum", "--clip", "--epochs", "9", "--patience", "3"),
            *("--snapshots", "4", "--seed", "5", "--device", "cuda"),
        )
        assert chosen == Args(
            out=Path("there"),
            data=Path("here"),
            split="ub",
            model="depth-1",
            optimiser="gd",
            lr=0.5,
            batch_size=0,
            penalty=0.25,
            penalty_every=7,
            bias="global",
            loss="sum",
            clip=True,
            epochs=9,
            patience=3,
            snapshots=4,
            seed=5,
            device="cuda",
        )
        assert chosen.penalties == {"matrix": 0.25}
        drawn = options("--split", "80/20", "--split-seed", "2", "--dimension", "3")
        assert drawn == Args(Path("there"), Path("here"), split="80/20", split_seed=2, dimension=3)
        assert drawn.columns == 3

    @pytest.mark.parametrize(
        ("chosen", "message"),
        [
            ({"split": "70/30"}, "split is '70/30', expected 90/10, 80/20, ua, ub, u1, u2, u3"),
            ({"model": "depth-2"}, "model is 'depth-2', expected depth-1 or embedding"),
            ({"optimiser": "sgd"}, "optimiser is 'sgd', expected adam or gd"),
            ({"loss": "half"}, "loss is 'half', expected mean or sum"),
            ({"epochs": 0}, "epochs is 0, expected at least 1"),
            ({"penalty_every": 0}, "penalty_every is 0, expected at least 1"),
            ({"batch_size": -1}, r"--B \(batch_size\) is -1, expected at least 0"),
            ({"lr": math.nan}, "lr is nan, expected a number from 0"),
            ({"penalty_users": -1.0}, "penalty_users is -1.0, expected a number from 0"),
            ({"penalty": 0.1}, "the embedding takes penalty_users and penalty_items"),
            ({"bias": "global"}, "the embedding has a bias of each user and item"),
            ({"model": "depth-1", "penalty_items": 0.0}, "depth-1 has no tables of users"),
            ({"model": "depth-1", "dimension": 3}, "dimension is 3, and depth-1 has no tables"),
            ({"split": "ua", "split_seed": 1}, "split_seed is 1, and ua is not random"),
        ],
    )
    def test_mistakes_are_one_line(self, chosen: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            Args(Path("there"), Path("here"), **chosen)
        assert "\n" not in str(caught.value)


class TestReported:
    def test_the_cells_with_adam_and_penalty(self) -> None:
        found = [
            reported(model, "adam", split, penalised=True)
            for model in ("depth-1", "embedding")
            for split in ("90/10", "80/20")
        ]
        assert found == [0.915, 0.921, 0.906, 0.919]
        assert len(TABLE2) == 8
        assert reported("depth-1", "adam", "u1", penalised=True) is None

    def test_stands_beside_ours_for_movielens_itself_only(self) -> None:
        part = planted.ratings(9, 9, 40)
        whole = Split(part.take(np.zeros(90_000, int)), part.take(np.zeros(10_000, int)), "90/10")
        args, result = Args(Path("there"), Path("here")), Result(100, 0.95, 0.91, 40)
        ours = "RMSE over 10000 test ratings 0.950 after epoch 100; lowest 0.910 after epoch 40"
        paper = "\nP2, Table 2: 0.906; difference +0.044"
        assert conclusion(args, result, whole) == ours + paper
        unpenalised = dataclasses.replace(args, penalty_users=0.0)
        assert "P2, Table 2: 1.282" in conclusion(unpenalised, result, whole)
        assert conclusion(dataclasses.replace(args, split="ua"), result, whole) == ours
        less = dataclasses.replace(whole, test=part)
        assert "P2" not in conclusion(args, result, less)


def test_a_long_penalty_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    args = Args(Path("there"), Path("here"))
    # 352 batches of 256, 100 epochs, half a second each: 4.9 hours; a fiftieth is 6 minutes.
    warn_of_long(args, 0.5, 90_000)
    warn_of_long(dataclasses.replace(args, penalty_every=50), 0.5, 90_000)
    warn_of_long(dataclasses.replace(args, batch_size=0), 0.5, 90_000)
    assert capsys.readouterr().err == (
        "the penalty's gradient takes 0.5 s, all of them up to 4.9 hours; "
        "--penalty-every N takes one for N of the 35200 updates, approximately\n"
    )
