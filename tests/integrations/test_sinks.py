"""TensorBoard and Weights & Biases, read back through their own readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rankscope.api import Analysis
from rankscope.errors import InputRejected, UsageError
from rankscope.how import How
from rankscope.integrations import MatrixReading, SnapshotReading, export
from rankscope.integrations.readings import edges
from rankscope.integrations.recording import Saving
from rankscope.integrations.tensorboard import TensorBoardSink
from rankscope.integrations.wandb import WandbSink
from rankscope.snapshots import SnapshotWriter
from tests.integrations.kept import Kept
from tests.integrations.runs import asked
from tests.matrix import low_rank

HOW = How(store=False, workers=1)

STEPS = (0, 10, 30)


def weights(step: int) -> dict[str, NDArray[np.float32]]:
    """Of rank 3 before noise, so that a histogram has two hills; and one of zeros."""
    noise = np.random.default_rng(step).standard_normal((20, 12)) * 1e-5
    spread = low_rank(20, 12, 3, seed=step) + noise
    return {"a.weight": spread.astype(np.float32), "zero": np.zeros((4, 3), np.float32)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with SnapshotWriter(tmp_path / "run") as writer:
        for step in STEPS:
            writer.save(step, weights(step))
    return tmp_path / "run"


def heights(step: int) -> list[int]:
    """The counts of `edges()`, from NumPy's singular values."""
    matrix = weights(step)["a.weight"].astype(np.float64)
    shares = np.linalg.svd(matrix, compute_uv=False) / np.linalg.norm(matrix)
    counts, _ = np.histogram(np.log10(np.maximum(shares, 1e-8)), edges())
    found: list[int] = counts.tolist()
    return found


def expected(table: Analysis) -> dict[str, dict[int, float]]:
    """Every number of an analysis, by the tag that it is shown under, and by step."""
    found: dict[str, dict[int, float]] = {}
    rows = [(f"/{row['name']}", "", row) for row in table.matrices]
    rows += [("", "mean/", row) for row in table.summary]
    for after, before, row in rows:
        for key in table.columns:
            if type(row[key]) in (int, float):
                found.setdefault(before + key + after, {})[row["step"]] = row[key]
    return found


class TestTensorBoard:
    @staticmethod
    def read(folder: Path) -> Any:
        found = EventAccumulator(str(folder), {"scalars": 0, "histograms": 0, "tensors": 0})
        found.Reload()
        return found

    def test_scalars_are_the_numbers_of_the_analysis(self, run: Path, tmp_path: Path) -> None:
        assert export(run, TensorBoardSink(tmp_path / "tb"), how=HOW) == 3
        shown = self.read(tmp_path / "tb")
        wanted = expected(asked(run))
        assert {"rank/a.weight", "norm_ratio/a.weight", "mean/rank"} <= wanted.keys()
        assert set(shown.Tags()["scalars"]) == wanted.keys()
        for tag, values in wanted.items():
            events = {event.step: event.value for event in shown.Scalars(tag)}
            assert events == pytest.approx(values, rel=1e-6), tag  # float32

    def test_histograms_are_those_of_numpys_singular_values(
        self, run: Path, tmp_path: Path
    ) -> None:
        export(run, TensorBoardSink(tmp_path / "tb"), how=HOW)
        shown = self.read(tmp_path / "tb")
        assert shown.Tags()["histograms"] == ["spectrum/a.weight"]  # zeros have no norm
        events = shown.Histograms("spectrum/a.weight")
        assert [event.step for event in events] == list(STEPS)
        for event in events:
            found = event.histogram_value
            assert found.bucket_limit == list(edges()[1:])
            assert found.bucket == heights(event.step)
            assert (found.num, found.min, found.max) == (12, -8, 0)
            middles = [np.mean(pair) for pair in zip(edges(), edges()[1:], strict=False)]
            assert found.sum == pytest.approx(np.dot(middles, heights(event.step)))

    def test_told_again_it_is_shown_once(self, run: Path, tmp_path: Path) -> None:
        for _ in range(2):
            export(run, TensorBoardSink(tmp_path / "tb"), how=HOW)
        events = self.read(tmp_path / "tb").Scalars("rank/a.weight")
        assert [event.step for event in events] == list(STEPS)

    def test_chosen_metrics_only(self, run: Path, tmp_path: Path) -> None:
        sink = TensorBoardSink(tmp_path / "tb", metrics=["rank", "energy_rank(0.5)"])
        export(run, sink, how=HOW)
        tags = self.read(tmp_path / "tb").Tags()["scalars"]
        assert {tag.partition("/")[0] for tag in tags} == {
            *("rank", "energy_rank(p=0.5)", "norm_ratio", "mean"),
        }


@pytest.mark.parametrize("metrics", [["rnak"], ["rank", "schatten_norm(-1)"], "rnak"])
def test_a_metric_that_is_not_known_is_found_when_the_sink_is_made(
    metrics: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"rnak|schatten"):
        TensorBoardSink(tmp_path / "tb", metrics=metrics)
    assert not (tmp_path / "tb").exists()
    # A sink of one's own: before anything is trained or written.
    with pytest.raises(UsageError, match=r"rnak|schatten"):
        Saving(1, sinks=[Kept(*([metrics] if isinstance(metrics, str) else metrics))])


class TestWandb:
    @pytest.fixture
    def mine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """A user's run, offline."""
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        settings = wandb.Settings(console="off", x_disable_stats=True)
        (tmp_path / "w").mkdir()
        with wandb.init(project="tests", dir=tmp_path / "w", settings=settings) as found:
            yield found

    @staticmethod
    def read(mine: Any, tmp_path: Path) -> list[Mapping[str, Any]]:
        """Every record of the run's file, through the reader that W&B ships."""
        mine.finish()
        (file,) = (tmp_path / "w").rglob("*.wandb")
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    @classmethod
    def rows(cls, mine: Any, tmp_path: Path) -> list[dict[str, Any]]:
        records = cls.read(mine, tmp_path)
        return [one["history"]["item"] for one in records if one["type"] == "history"]

    def test_rows_are_the_numbers_of_the_analysis(
        self, run: Path, mine: Any, tmp_path: Path
    ) -> None:
        assert export(run, WandbSink(mine), how=HOW) == 3
        rows = self.rows(mine, tmp_path)
        assert [row["rankscope/step"] for row in rows] == list(STEPS)
        for tag, values in expected(asked(run)).items():
            shown = {row["rankscope/step"]: row.get(f"rankscope/{tag}") for row in rows}
            assert {step: shown[step] for step in values} == values
        for row in rows:
            histogram = "rankscope/spectrum/a.weight"  # whose entries the reader lays flat
            assert row[f"{histogram}._type"] == "histogram"
            assert row[f"{histogram}.bins"] == pytest.approx(edges())
            assert row[f"{histogram}.values"] == heights(row["rankscope/step"])
            assert not any(key.startswith("rankscope/spectrum/zero") for key in row)

    def test_a_metric_that_is_not_known_is_found_when_it_is_made(self, mine: Any) -> None:
        with pytest.raises(UsageError, match="'rnak' is not known"):
            WandbSink(mine, metrics=["rank", "rnak"])

    def test_they_have_an_axis_of_their_own(self, run: Path, mine: Any, tmp_path: Path) -> None:
        export(run, WandbSink(mine), how=HOW)
        metrics = [one["metric"] for one in self.read(mine, tmp_path) if one["type"] == "metric"]
        (glob,) = (one for one in metrics if one.get("glob_name") == "rankscope/*")
        assert glob["step_metric"] == "rankscope/step"

    @pytest.mark.parametrize("explicit", [True, False])
    def test_the_loops_own_rows_are_as_without_it(
        self, run: Path, mine: Any, tmp_path: Path, explicit: bool
    ) -> None:
        """Spectra come late: that of step 10 when the loop is at 40."""
        sink = WandbSink(mine)
        told = {40: reading(10, 3.0), 50: reading(20, 2.0), 60: reading(30, 1.0)}
        for step in range(10, 101, 10):
            options = {"step": step} if explicit else {}
            mine.log({"loss": 1 / step}, **options)
            if step in told:
                sink.write(told[step])
            if explicit:
                mine.log({"accuracy": step / 100}, **options)  # again in the same row
        rows = self.rows(mine, tmp_path)
        losses = [row["loss"] for row in rows if "loss" in row]
        assert losses == [1 / step for step in range(10, 101, 10)]
        own = [row["_step"] for row in rows if "loss" in row]
        assert own == list(range(10, 101, 10) if explicit else range(10))
        if explicit:
            assert [row["accuracy"] for row in rows] == [n / 10 for n in range(1, 11)]
        ranks = {
            row["rankscope/step"]: row["rankscope/rank/w"]
            for row in rows
            if "rankscope/step" in row
        }
        assert ranks == {10: 3.0, 20: 2.0, 30: 1.0}

    def test_steps_rise_where_the_loop_logs_nothing(
        self, run: Path, mine: Any, tmp_path: Path
    ) -> None:
        export(run, WandbSink(mine), how=HOW)
        steps = [row["_step"] for row in self.rows(mine, tmp_path)]
        assert steps == sorted(set(steps))

    def test_a_resumed_run_is_told_what_is_new(self, run: Path) -> None:
        mine = Resumed()
        assert export(run, WandbSink(mine), how=HOW) == 1
        assert mine.told == [30]


class Resumed:
    """What W&B hands out online, where a run that was resumed has a summary."""

    def __init__(self) -> None:
        self.resumed = True
        self.summary = {"rankscope/step": 10}
        self.step = 7
        self.told: list[int] = []

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, data: dict[str, Any], commit: bool) -> None:
        if data:
            self.told.append(data["rankscope/step"])


def reading(step: int, rank: float) -> SnapshotReading:
    return SnapshotReading(step, (MatrixReading("w", {"rank": rank}),), {})


class TestExport:
    def test_of_what_is_not_known_yet(self, run: Path) -> None:
        sink = Kept("rank", latest=10)
        assert export(run, sink, how=HOW) == 1
        assert (sink.steps, sink.closed) == ([30], 1)
        # What needs the snapshots before has seen them.
        (zero,) = (row for row in asked(run).matrices if row["step"] == 30 and row["rank"] == 0)
        assert zero["name"] == "zero"
        matrix = sink.readings[0].matrices[0]
        assert matrix.values["norm_ratio"] == next(
            row["norm_ratio"]
            for row in asked(run).matrices
            if (row["name"], row["step"]) == ("a.weight", 30)
        )

    def test_of_other_peoples_numbered_files(self, tmp_path: Path) -> None:
        for step in (5, 15):
            np.savez(tmp_path / f"model-step{step}.npz", w=weights(step)["a.weight"])
        sink = Kept("rank")
        assert export(tmp_path, sink, how=HOW) == 2
        assert [one.matrices[0].values["rank"] for one in sink.readings] == [3, 3]

    def test_one_bad_snapshot_hides_no_other(self, run: Path) -> None:
        (run / "snapshots/step-00000010.safetensors").write_bytes(b"damaged")
        sink = Kept("rank")
        with pytest.warns(RuntimeWarning, match="step-00000010.safetensors: .*: no sink is told"):
            assert export(run, sink, how=HOW) == 2
        assert sink.steps == [0, 30]

    def test_names_are_shown_inert(self, tmp_path: Path) -> None:
        name = "\x1b[31mred\u202e<b>"
        with SnapshotWriter(tmp_path / "run") as writer:
            writer.save(0, {name: weights(0)["a.weight"]})
        export(tmp_path / "run", TensorBoardSink(tmp_path / "tb", metrics=["rank"]), how=HOW)
        assert (
            r"rank/\x1b[31mred\u202e<b>" in TestTensorBoard.read(tmp_path / "tb").Tags()["scalars"]
        )

    def test_a_model_without_a_step_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "model.npz", w=np.eye(3))
        sink = Kept()
        with pytest.raises(UsageError, match="no snapshot has a step in its name"):
            export(tmp_path / "model.npz", sink, how=HOW)
        assert sink.closed

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputRejected, match="no such file"):
            export(tmp_path / "none", Kept(), how=HOW)

    def test_tensors_beyond_a_histogram(self, tmp_path: Path) -> None:
        """What lies below the lowest bin is in it, and rank 1 may round above its norm."""
        with SnapshotWriter(tmp_path / "run") as writer:
            writer.save(0, {"w": torch.diag(torch.tensor([1.0, 1e-20])), "one": torch.ones(7, 3)})
        sink = Kept("rank")
        export(tmp_path / "run", sink, how=HOW)
        counts = {one.name: one.counts for one in sink.readings[0].matrices}
        assert (counts["w"][0], counts["w"][-1], sum(counts["w"])) == (1, 1, 2)
        assert (counts["one"][-1], sum(counts["one"])) == (1, 3)
