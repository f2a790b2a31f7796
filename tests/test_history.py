"""What a run's snapshots say together: verdicts, means, logs, and the document they make."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankscope import analyze
from rankscope.api import Analysis
from rankscope.errors import InputRejected
from rankscope.history import MANY_VIOLATIONS
from rankscope.how import How
from rankscope.snapshots import LogRecord, RunRecord, SnapshotWriter
from rankscope.table import Table
from rankscope.views.analysis import report
from tests.rundirs import Array, Recipe, ask, column, diagonal, shown, write_run


def trained(
    recipe: Recipe, steps: int, width: int = 24, *, momentum: float = 0.0
) -> dict[int, dict[str, Array]]:
    """Two linear layers trained by SGD on a random regression, in plain NumPy and float64."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(width, 20)) / 5, rng.normal(size=(16, width)) / 5
    inputs, targets = rng.normal(size=(64, 20)), rng.normal(size=(64, 16)) * 3
    buffers = [np.zeros_like(first), np.zeros_like(second)]
    saved = {0: {"first": first, "second": second}}
    for step in range(1, steps + 1):
        chosen = rng.choice(64, size=recipe.batch, replace=False)
        x, y = inputs[chosen], targets[chosen]
        hidden = x @ first.T
        error = (hidden @ second.T - y) / recipe.batch
        gradients = [(error @ second).T @ x, error.T @ hidden]
        for i, weight in enumerate((first, second)):
            buffers[i] = momentum * buffers[i] + gradients[i] + recipe.weight_decay * weight
        first, second = first - recipe.lr * buffers[0], second - recipe.lr * buffers[1]
        saved[step] = {"first": first, "second": second}
    return saved


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
def test_a_run_of_sgd_keeps_its_bound(tmp_path: Path, norm: Any, momentum: float) -> None:
    recipe = Recipe(batch=1, lr=0.02, weight_decay=20.0, momentum=momentum)
    run = write_run(tmp_path / "run", trained(recipe, 60, momentum=momentum), recipe)
    table = ask(run, eps=[0.1, 0.02], norm=norm)
    kept = table.runs[0]["bound_kept"]
    assert kept["violated"] == 0
    assert kept["violations"] == []
    # The comparison says something: some bounds are below the number of singular values.
    rows = [row for row in table.matrices if row["bound_measured@0.1"] is not None]
    assert any(row["bound_measured@0.1"] < min(row["shape"]) for row in rows)
    bounded = [
        row[f"bound_measured@{eps}"] is not None
        for row in table.matrices
        for eps in ("0.1", "0.02")
    ]
    assert kept["checked"] == sum(bounded)
    assert f"kept by all {kept['checked']} ranks" in shown(table)


def test_a_run_that_was_not_trained_so_is_found_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    saved = {step: {"a": rng.normal(size=(12, 12)), "b": np.eye(1)} for step in range(30)}
    forged = Recipe(batch=1, lr=0.5, weight_decay=1.9)  # each step would leave 5 %
    table = ask(write_run(tmp_path / "run", saved, forged), eps=0.1)
    kept = table.runs[0]["bound_kept"]

    def distance_rank(matrix: Array) -> int:
        tails = [
            math.sqrt(sum(s * s for s in np.linalg.svd(matrix)[1][r:]))
            for r in range(len(matrix) + 1)
        ]
        return next(r for r, tail in enumerate(tails) if tail <= 0.1 * np.linalg.norm(matrix))

    wanted = []
    for step in range(1, 30):
        norms = {earlier: float(np.linalg.norm(saved[earlier]["a"])) for earlier in range(step + 1)}
        for earlier in reversed(range(step)):
            if 0.05 ** (step - earlier) * norms[earlier] <= 0.1 * norms[step]:
                if distance_rank(saved[step]["a"]) > step - earlier:
                    wanted.append((step, distance_rank(saved[step]["a"]), step - earlier))
                break
    assert len(wanted) > MANY_VIOLATIONS
    assert kept["violated"] == len(wanted)
    assert kept["checked"] == 2 * 29
    found = [(one["step"], one["rank"], one["bound"]) for one in kept["violations"]]
    assert found == wanted[:MANY_VIOLATIONS]
    assert {one["name"] for one in kept["violations"]} == {"a"}
    text = shown(table)
    assert f"exceeded by {len(wanted)} of 58 ranks" in text
    assert "in a at step 1" in text


@pytest.mark.parametrize("batch", [2, 5, 6])
@pytest.mark.parametrize("metrics", [["rank"], ["rank", "approximation_rank"]])
def test_the_bound_is_compared_with_the_rank_that_it_bounds(
    tmp_path: Path, metrics: list[str], batch: int
) -> None:
    # The tail of six values of 0.09 is 0.22 of the norm: rank 1 at eps 0.1, approximation rank 6.
    tail = diagonal([1.0] + [0.09] * 6)
    recipe = Recipe(batch=batch, lr=0.5, weight_decay=1.9)
    table = ask(
        write_run(tmp_path / "run", {0: {"a": tail}, 1: {"a": tail}}, recipe),
        eps=0.1,
        metrics=metrics,
    )
    assert column(table, "a", "rank") == [1, 1]
    violation = {"name": "a", "step": 1, "eps": 0.1, "rank": 6, "bound": batch}
    assert table.runs[0]["bound_kept"]["violations"] == ([violation] if batch < 6 else [])


@pytest.mark.parametrize("bad", [[2, 3], [3], [0, 1, 2, 3]])
def test_a_matrix_of_nan_has_not_converged(tmp_path: Path, bad: list[int]) -> None:
    broken = np.full((4, 4), np.nan)
    snapshots = {
        step: {"calm": np.eye(4), "broken": broken if step in bad else np.eye(4)}
        for step in range(4)
    }
    table = ask(write_run(tmp_path / "run", snapshots, Recipe()))
    found = table.runs[0]["assumption"]
    assert found["converged"] is False
    assert found["not_converged"] == ["broken"]
    assert "in every matrix" not in shown(table)


def test_a_matrix_that_was_nan_once_has_converged_since(tmp_path: Path) -> None:
    snapshots = {step: {"a": np.eye(4), "b": np.eye(4)} for step in range(5)}
    snapshots[1]["b"] = np.full((4, 4), np.nan)
    found = ask(write_run(tmp_path / "run", snapshots, Recipe())).runs[0]["assumption"]
    assert found["converged"] is True
    assert found["since_step"] == 3  # there is no ratio at step 2, whose predecessor has no norm


def test_the_assumption_names_the_layers_that_have_not_converged(tmp_path: Path) -> None:
    late = [3.0, 2.0, 1.5, 1.5, 1.5, 1.5]
    never = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    saved = {
        10 * i: {"late": np.eye(3) * late[i], "soon": np.eye(2), "never": np.eye(2) * never[i]}
        for i in range(6)
    }
    table = ask(write_run(tmp_path / "run", saved))
    verdict = table.runs[0]["assumption"]
    assert verdict == {
        "tolerance": 0.01,
        "converged": False,
        "since_step": None,
        "mu": None,
        "not_converged": ["never"],
        "steps_apart": [10, 10],
    }
    assert "not within 0.01 of 1 at the end in never" in shown(table)
    for arrays in saved.values():
        del arrays["never"]
    table = ask(write_run(tmp_path / "other", saved))
    assert table.runs[0]["assumption"]["since_step"] == 30
    assert table.runs[0]["assumption"]["mu"] == 0.1
    assert "in every matrix since step 30 (mu 0.1 there)" in shown(table)


class TestMeans:
    @pytest.fixture
    def marked(self, tmp_path: Path) -> Path:
        saved = {
            step: {"trunk.0": diagonal([1, 1]), "trunk.1": diagonal([1] * 4), "head": np.eye(9)}
            for step in (0, 1)
        }
        return write_run(tmp_path / "run", saved, Recipe(unmarked=("head",)))

    def test_are_over_the_matrices_that_the_run_marks(self, marked: Path) -> None:
        table = ask(marked)
        assert [row["rank"] for row in table.summary] == [3.0, 3.0]
        assert [(row["averaged"], row["matrices"]) for row in table.summary] == [(2, 3)] * 2
        assert [row["averaged"] for row in table.matrices[:3]] == [
            row["name"] != "head" for row in table.matrices[:3]
        ]
        assert "average over 2 of 3 matrices" in shown(table)

    def test_are_over_all_on_request(self, marked: Path) -> None:
        table = ask(marked, average="all")
        assert [row["rank"] for row in table.summary] == [5.0, 5.0]
        assert [(row["averaged"], row["matrices"]) for row in table.summary] == [(3, 3)] * 2
        assert all(row["averaged"] is None for row in table.matrices)
        assert "average over 3 matrices" in shown(table)
        # Bounds still use what the run records of its layers.
        assert table.runs[0]["no_bound"] == ""

    def test_are_over_all_of_a_run_without_marks(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path / "run", RunRecord()) as writer:
            for step in (0, 1):
                writer.save(step, {"a": np.eye(3), "b": np.eye(5)})
        table = ask(tmp_path / "run")
        assert [row["rank"] for row in table.summary] == [4.0, 4.0]
        assert [row["averaged"] for row in table.summary] == [2, 2]

    def test_count_what_has_no_spectrum(self, tmp_path: Path) -> None:
        saved = {
            0: {"a": np.eye(2), "b": np.full((3, 3), np.inf), "head": np.full((2, 2), np.nan)},
            1: {"a": np.eye(2), "b": np.eye(3), "head": np.eye(2)},
        }
        table = ask(write_run(tmp_path / "run", saved, Recipe(unmarked=("head",))))
        assert [row["rank"] for row in table.summary] == [2.0, 2.5]
        assert [row["unmeasured"] for row in table.summary] == [2, 0]
        assert [row["averaged"] for row in table.summary] == [2, 2]

    def test_over_layers_of_a_kind_show_what_is_not_marked(self, tmp_path: Path) -> None:
        names = [f"layer.{i}.weight" for i in range(60)]
        saved = {step: {name: np.eye(3) for name in [*names, "head"]} for step in (0, 1)}
        table = ask(write_run(tmp_path / "run", saved, Recipe(unmarked=("head",))))
        shown = [grid for grid in report(table).grids(False) if "means over layers" in grid.title]
        ranks = {row[0]: row[4] for row in shown[0].rows}
        assert ranks == {"layer.*.weight": "3.000", "head": "3.000"}

    def test_a_mean_that_is_not_one_of_the_two_is_refused(self, marked: Path) -> None:
        with pytest.raises(Exception, match="expected marked or all"):
            ask(marked, average="none")


class TestLogs:
    def test_a_run_with_an_empty_log(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", {0: {"a": np.eye(2)}, 1: {"a": np.eye(2)}})
        assert (run / "log.jsonl").read_bytes() == b""
        assert "train_loss" not in ask(run).summary[0]

    def test_of_lines_that_repeat_a_step_the_last_holds(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        with SnapshotWriter(run, Recipe().record({0: {"a": np.eye(2)}})) as writer:
            writer.log(1, LogRecord(test_accuracy=0.1, lr=0.1))
            writer.save(0, {"a": np.eye(2)}, LogRecord(test_accuracy=0.2))
            writer.save(1, {"a": np.eye(2)}, LogRecord(test_accuracy=0.9, lr=0.1))
        assert [row["test_accuracy"] for row in ask(run).summary] == [0.2, 0.9]
        assert ask(run).runs[0]["test_accuracy"] == 0.9

    def test_a_log_overwrites_nothing_that_was_measured(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", {0: {"a": np.eye(2)}, 1: {"a": np.eye(2)}})
        forged = {"rank": 77, "matrices": 9, "source": "x", "bound_kept": "yes", "seed": 5}
        forged |= {"assumption": "holds", "no_bound": "none", "model": "other", "B": 1000}
        lines = [json.dumps({"step": step, **forged}) for step in (0, 1)]
        (run / "log.jsonl").write_text("\n".join(lines) + "\n")
        table = ask(run)
        assert [row["rank"] for row in table.summary] == [2.0, 2.0]
        wanted = {"rank": 2.0, "B": 2, "seed": 0, "model": "net", "no_bound": "", "step": 1}
        assert {key: table.runs[0][key] for key in wanted} == wanted
        assert table.runs[0]["bound_kept"] != "yes"
        assert table.runs[0]["assumption"]["converged"] is True
        str(table)

    def test_a_run_that_is_still_growing(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        arrays = {"a": np.eye(4)}
        with SnapshotWriter(run, Recipe().record({0: arrays})) as writer:
            counts = []
            for step in range(4):
                writer.save(step, arrays, LogRecord(test_accuracy=step / 10))
                writer._collect(0)  # it is written by another thread
                with (run / "log.jsonl").open("ab") as log:
                    log.write(b'{"step": 99, "test_acc')  # half a line, as it looks meanwhile
                (run / "snapshots" / ".step-00000009.safetensors.77-0123abcd.tmp").touch()
                table = analyze(run, metrics=["rank"], how=How(workers=1))
                counts.append(len(table.summary))
                assert table.runs[0]["step"] == step
                assert not table.incomplete
                with (run / "log.jsonl").open("r+b") as log:
                    data = log.read()
                    log.truncate(data.rfind(b"\n") + 1)
        assert counts == [1, 2, 3, 4]
        assert column(table, "a", "norm_ratio") == [None, 1.0, 1.0, 1.0]


class TestDocument:
    @pytest.fixture
    def whole(self, tmp_path: Path) -> Analysis:
        rng = np.random.default_rng(0)
        for batch in (2, 4, 8):
            saved = {
                step: {"a": diagonal([*sorted(rng.random(3), reverse=True)]), "b": np.zeros((2, 2))}
                for step in (0, 30)
            }
            write_run(tmp_path / "sweep" / f"B{batch}", saved, Recipe(batch=batch))
        return ask(tmp_path / "sweep", eps=[0.3, 1e-3], metrics=["rank", "condition_number"])

    def test_is_strict_json_and_comes_back_whole(self, whole: Analysis) -> None:
        text = json.dumps(whole.to_document(), allow_nan=False)
        again = Table.from_document(json.loads(text))
        assert again.columns == whole.columns
        assert again.to_document() == whole.to_document()
        assert again == Table(*(getattr(whole, name) for name in Table.__slots__))
        assert whole.runs
        assert whole.trends
        shown, before = report(again), report(whole)
        assert list(shown.grids(True)) == list(before.grids(True))
        assert list(shown.remarks(True)) == list(before.remarks(True))
        head, rows = shown.rows()
        assert "bound_measured@0.3" in head
        assert len(list(rows)) == len(whole.matrices)

    def test_one_of_version_01_still_loads(self, whole: Analysis) -> None:
        document = json.loads(json.dumps(whole.to_document()))
        for part in ("runs", "trends", "crossings"):
            del document[part]
        document["provenance"]["columns"] = ["rank@0.3"]
        for row in document["matrices"]:
            del row["averaged"]
        for row in document["summary"]:
            del row["averaged"]
        old = Table.from_document(document)
        assert (old.runs, old.trends, old.crossings) == ((), (), ())
        for everything in (True, False):
            assert list(report(old).grids(everything))
            list(report(old).remarks(everything))

    @pytest.mark.parametrize(
        ("part", "key"),
        [("runs", "assumption"), ("runs", "B"), ("trends", "sentence"), ("crossings", "range")],
    )
    def test_a_part_that_is_not_whole_is_refused(
        self, whole: Analysis, part: str, key: str
    ) -> None:
        document = json.loads(json.dumps(whole.to_document()))
        document["crossings"] = [{"name": "a"}]
        for row in document[part]:
            row.pop(key, None)
        with pytest.raises(InputRejected, match="is not a whole analysis"):
            Table.from_document(document)

    def test_is_a_data_frame(self, whole: Analysis) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(whole.to_document()["matrices"])
        assert len(frame) == len(whole.matrices)
        assert {"norm_ratio", "bound_exact@0.3", "vacuous@0.001"} <= set(frame.columns)


def test_seeds_and_settings_of_a_run_stand_in_its_row(tmp_path: Path) -> None:
    recipe = Recipe(batch=4, world_size=2, accumulation=3, momentum=0.5, nesterov=True, seed=7)
    run = write_run(tmp_path / "run", {0: {"a": np.eye(2)}}, replace(recipe, weight_decay=0.25))
    row = ask(run).runs[0]
    wanted = {
        "model": "net",
        "data": "digits",
        "seed": 7,
        "optimiser": "sgd",
        "momentum": 0.5,
        "nesterov": True,
        "B": 24,
        "mu": 0.1,
        "lambda": 0.125,
        "weight_decay": 0.25,
    }
    assert {key: row[key] for key in wanted} == wanted
    assert row["assumption"] is None  # one snapshot has no ratio
