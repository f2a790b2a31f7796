"""`python -m trainers flow`: run directories, tables, what is refused; and the figures of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.errors import InputRejected, UsageError
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from trainers.__main__ import main
from trainers.figures.p3 import FIGURES
from trainers.flow import completionpath, measured, regression
from trainers.flow.completionargs import Args as CompletionArgs
from trainers.flow.leastsquares import closed_form
from trainers.flow.measured import Rate
from trainers.flow.measuredargs import Args as DynamicsArgs
from trainers.flow.regression import Args as RegressionArgs
from trainers.flow.runs import chosen, spread
from trainers.flow.tables import read_table

COMPLETION = ["--target", "0.02", "--lr", "0.01", "--points", "60", "--snapshots", "7"]


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "completion"
    command = [sys.executable, "-m", "trainers", "flow", "completion", "--out", str(out)]
    done = subprocess.run(
        [*command, *COMPLETION], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    head, *_, end = done.stdout.splitlines()
    assert head.split()[:4] == ["method", "step", "loss", "|W_11|"]
    assert end == f"rankscope analyze {out}"
    assert "flow: the three bounds hold at" in done.stdout
    return out


@pytest.fixture(scope="module")
def regressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "regression"
    assert main(["flow", "regression", "--out", str(out), "--steps", "3000", "--points", "40"]) == 0
    return out


class TestCompletion:
    def test_analyze_reads_both_products(self, completed: Path) -> None:
        rows = rankscope.analyze(completed).matrices
        assert {row["name"] for row in rows} == {"flow.weight", "descent.weight"}
        points = read_table(completed / "path.csv", completionpath.Point)
        read = {(f"{one.method}.weight", one.step): one for one in points}
        for row in rows:
            one = read[row["name"], row["step"]]
            assert row["effective_rank"] == pytest.approx(one.effective_rank, rel=1e-9)
            assert row["nuclear_norm"] == pytest.approx(one.nuclear, rel=1e-9)
        assert 6 <= len({row["step"] for row in rows}) <= 7

    def test_the_table_says_what_the_matrices_do(self, completed: Path) -> None:
        points = read_table(completed / "path.csv", completionpath.Point)
        for file in (completed / "snapshots").iterdir():
            step = int(file.stem.removeprefix("step-"))
            for name, weight in safetensors.numpy.load_file(file).items():
                one = next(p for p in points if (f"{p.method}.weight", p.step) == (name, step))
                assert one.w11 == weight[0, 0]
                assert one.frobenius == pytest.approx(np.linalg.norm(weight))
                assert one.spectral == pytest.approx(np.linalg.norm(weight, 2))
                sigma = np.linalg.svd(weight, compute_uv=False)
                assert one.distance == pytest.approx(sigma[1], rel=1e-6)
                errors = weight - [[weight[0, 0], 1], [1, 0]]
                assert one.loss == pytest.approx(0.5 * np.square(errors).sum())
                assert one.time == step * 0.01

    def test_both_methods_go_to_the_target_and_keep_the_bounds(self, completed: Path) -> None:
        points = read_table(completed / "path.csv", completionpath.Point)
        paths = {name: [p for p in points if p.method == name] for name in ("flow", "descent")}
        assert paths["flow"][-1].loss == pytest.approx(0.02)
        assert paths["descent"][-1].loss == pytest.approx(0.02, rel=0.01)
        assert all(one.holds and one.determinant == 1 for one in points)
        assert max(one.imbalance for one in paths["flow"]) < 1e-10
        for ours, theirs in zip(paths["flow"], paths["descent"], strict=False):
            assert ours.step == theirs.step
            assert ours.nuclear == pytest.approx(theirs.nuclear, rel=0.05)
        assert [line["step"] for line in read_log(completed)] == [p.step for p in paths["flow"]]

    def test_the_bounds_do_not_hold_without_the_hypothesis(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "negative"
        options = [
            "--det",
            "negative",
            "--start",
            "random",
            "--steps",
            "0",
            "--target",
            "1e-4",
            "--points",
            "20",
        ]
        assert main(["flow", "completion", "--out", str(out), *options]) == 0
        points = read_table(out / "path.csv", completionpath.Point)
        assert {one.method for one in points} == {"flow"}
        assert not points[-1].holds
        assert "determinant negative on or before step 0" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "wrong",
        [
            {"norm_bound": 1e3},
            {"effective_rank_bound": 1.0},
            {"distance_bound": 0.0},
        ],
    )
    def test_each_of_the_bounds_counts(self, completed: Path, wrong: dict[str, Any]) -> None:
        one = read_table(completed / "path.csv", completionpath.Point)[0]
        assert one.holds
        assert not replace(one, **wrong).holds

    def test_descent_that_is_there_sooner_stops(self, tmp_path: Path) -> None:
        """With the wrong sign of the determinant, which it takes at depth 2."""
        out = tmp_path / "crossed"
        start = ["--depth", "2", "--start", "random", "--lr", "0.03"]
        assert main(["flow", "completion", "--out", str(out), *start, "--target", "6e-3"]) == 0
        points = read_table(out / "path.csv", completionpath.Point)
        paths = {name: [p for p in points if p.method == name] for name in ("flow", "descent")}
        assert [one.loss <= 6e-3 for one in paths["descent"][-2:]] == [False, True]
        assert paths["descent"][-1].step < paths["flow"][-1].step / 2
        assert (paths["descent"][-1].determinant, paths["flow"][-1].determinant) == (-1, 0)
        assert not all(one.holds for one in paths["descent"])

    def test_a_relative_with_ones(self, tmp_path: Path) -> None:
        out = tmp_path / "relative"
        shape = ["--rows", "4", "--columns", "3", "--ones", "1"]
        options = ["--steps", "0", "--target", "0.1", "--points", "10"]
        assert main(["flow", "completion", "--out", str(out), *shape, *options]) == 0
        points = read_table(out / "path.csv", completionpath.Point)
        assert all(one.effective_rank_bound is None and one.holds for one in points)
        end = points[-1]
        assert end.distance <= end.distance_bound
        assert end.nuclear > 3

    def test_a_step_too_long_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--lr", "2", "--scale", "3", "--target", "1e-2", "--points", "9"]
        out = tmp_path / "run"
        assert main(["flow", "completion", "--out", str(out), *options]) == 4
        printed = capsys.readouterr()
        *_, last = printed.err.splitlines()
        assert last.startswith("error: gradient descent diverged by step ")
        assert last.endswith("; lower --lr, which is 2")
        assert printed.err.count("diverged") == 1
        assert "flow: the three bounds hold at" in printed.out
        assert "descent: the three bounds" not in printed.out
        assert "; its bounds are not judged" in printed.out
        assert rankscope.analyze(out).matrices

    def test_a_path_whose_loss_explodes_has_diverged(self, tmp_path: Path) -> None:
        """Also where the flow is at its end before descent is beyond float64."""
        out = tmp_path / "run"
        options = ["--lr", "10", "--target", "1e-2", "--points", "30"]
        assert main(["flow", "completion", "--out", str(out), *options]) == 4
        points = read_table(out / "path.csv", completionpath.Point)
        assert [one.step for one in points if one.method == "descent"] == [0, 1, 2]

    def test_the_report_shows_the_last_row_of_each_path(
        self, completed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        points = read_table(completed / "path.csv", completionpath.Point)
        # Here the shown losses are passed on the way: the last is far below all of them.
        points += [replace(points[-1], step=10**6, loss=1e-9)]
        lines = completionpath.report(points, None).splitlines()
        for method in ("flow", "descent"):
            end = [one for one in points if one.method == method][-1]
            shown = [line.split() for line in lines if line.split()[0] == method]
            assert shown[-1][1:3] == [str(end.step), f"{end.loss:.4g}"]

    @pytest.mark.parametrize("what", ["completion", "regression"])
    def test_analyze_neither_claims_nor_asks_for_a_bound(
        self, completed: Path, regressed: Path, what: str
    ) -> None:
        found = rankscope.analyze(completed if what == "completion" else regressed)
        assert "no bound for optimiser gradient flow" in str(found)
        assert "taken as SGD" not in str(found)


class TestRegression:
    def test_three_ways_agree(self, regressed: Path) -> None:
        points = read_table(regressed / "path.csv", regression.Point)
        assert max(one.solver_error for one in points) < 1e-7
        assert 1e-5 < max(one.descent_error for one in points) < 2e-2
        ends = [one for one in points if one.step == 3000]
        assert [one.start for one in ends] == list(range(6))
        assert min(ends, key=lambda one: one.norm).start == 0
        for one in points:
            first = next(p for p in points if p.start == one.start)
            assert one.across == pytest.approx(first.across, abs=1e-12)

    def test_analyze_reads_the_coefficients(self, regressed: Path) -> None:
        rows = rankscope.analyze(regressed).matrices
        assert {row["name"] for row in rows} == {"coefficients"}
        problem = regression.problem_of(RegressionArgs(Path("run")))
        for row in rows:
            norm = np.linalg.norm(closed_form(problem, 0.01 * row["step"]))
            assert row["frobenius_norm"] == pytest.approx(norm)


class TestDynamics:
    @pytest.mark.parametrize(
        ("options", "most"),
        [
            (["--depth", "1"], 1e-2),
            (["--depth", "3", "--lambda", "20"], 1e-2),
            (["--optimizer", "adam", "--beta1", "0"], 2e-2),
            (["--optimizer", "adam", "--beta1", "0", "--depth", "2", "--lambda", "0.1"], 2e-2),
        ],
    )
    def test_prediction_and_training_agree(
        self, tmp_path: Path, options: list[str], most: float
    ) -> None:
        out = tmp_path / "run"
        common = ["--steps", "200", "--points", "10", "--lr", "2e-5", "--scale", "1"]
        assert main(["flow", "dynamics", "--out", str(out), *common, *options]) == 0
        rates = read_table(out / measured.RATES_FILE, Rate)
        assert len(rates) == 10 * 6
        for step in {one.step for one in rates}:
            here = [one for one in rates if one.step == step]
            fastest = max(abs(one.measured) for one in here)
            assert max(abs(one.measured - one.predicted) for one in here) < most * fastest
        rows = rankscope.analyze(out).matrices
        assert {row["name"] for row in rows} == {"product.weight"}

    def test_the_error_falls_with_the_step(self, tmp_path: Path) -> None:
        errors = []
        for lr in ("4e-5", "2e-5", "1e-5"):
            out = tmp_path / lr
            options = ["--steps", "10", "--points", "2", "--lr", lr]
            assert main(["flow", "dynamics", "--out", str(out), *options]) == 0
            rates = [r for r in read_table(out / measured.RATES_FILE, Rate) if r.step == 0]
            errors.append(max(abs(one.measured - one.predicted) for one in rates))
        assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
        assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)

    def test_divergence_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--lr", "9", "--steps", "50"]
        out = tmp_path / "run"
        assert main(["flow", "dynamics", "--out", str(out), *options]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: training diverged by update ")
        assert line.endswith("; lower --lr, which is 9")
        rates = read_table(out / measured.RATES_FILE, Rate)
        assert rates
        assert all(np.isfinite([one.measured, one.predicted]).all() for one in rates)
        assert [line["step"] for line in read_log(out)] == sorted({one.step for one in rates})

    @pytest.mark.parametrize(
        "options", [["--depth", "1", "--lr", "1e200"], ["--lambda", "1", "--lr", "1e80"]]
    )
    def test_divergence_at_once_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
    ) -> None:
        out = tmp_path / "run"
        assert main(["flow", "dynamics", "--out", str(out), *options]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: training diverged by update ")

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ([], "gd on factors"),
            (["--depth", "1"], "sgd"),
            (["--depth", "1", "--lambda", "1"], "gd with a penalty"),
            (["--optimizer", "adam"], "adam"),
        ],
    )
    def test_the_theorem_is_about_descent_on_the_matrix(
        self, tmp_path: Path, options: list[str], name: str
    ) -> None:
        out = tmp_path / "run"
        few = ["--steps", "3", "--points", "2"]
        assert main(["flow", "dynamics", "--out", str(out), *few, *options]) == 0
        record = read_run_record(out)
        assert record is not None
        assert record.optimiser is not None
        assert record.optimiser.name == name


class TestRefused:
    @pytest.mark.parametrize("what", ["regression", "completion", "dynamics"])
    def test_a_directory_in_use(
        self, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        assert main(["flow", what, "--out", str(tmp_path)]) == 2
        assert "choose another --out" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            (CompletionArgs, {"depth": 1}),
            (CompletionArgs, {"ones": 1}),
            (CompletionArgs, {"scale": 0.0}),
            (CompletionArgs, {"target": float("nan")}),
            (CompletionArgs, {"tolerance": 1e-20}),
            (CompletionArgs, {"start": "zero"}),
            (CompletionArgs, {"det": "none"}),
            (RegressionArgs, {"rank": 7}),
            (RegressionArgs, {"condition": 0.5}),
            (RegressionArgs, {"lr": 1.0}),
            (RegressionArgs, {"tolerance": 0.1}),
            (RegressionArgs, {"points": 1}),
            (DynamicsArgs, {"observed": 49}),
            (DynamicsArgs, {"optimizer": "sgd"}),
            (DynamicsArgs, {"beta1": 1.0, "optimizer": "adam"}),
            (DynamicsArgs, {"beta1": 0.0}),
            (CompletionArgs, {"seed": 1}),
            (CompletionArgs, {"seed": -1, "start": "random"}),
            (DynamicsArgs, {"lr": -1.0}),
            (DynamicsArgs, {"strength": -1.0}),
            (DynamicsArgs, {"rank": 0}),
        ],
    )
    def test_a_choice_out_of_range(
        self,
        kind: type[CompletionArgs | RegressionArgs | DynamicsArgs],
        wrong: dict[str, Any],
    ) -> None:
        with pytest.raises(UsageError, match="expected"):
            kind(Path("run"), **wrong)


class TestFigures:
    @pytest.mark.parametrize("name", ["P3-F1", "P3-F2", "P3-F3"])
    def test_are_drawn(self, name: str, completed: Path, regressed: Path, tmp_path: Path) -> None:
        figure = FIGURES[name](regressed if name == "P3-F1" else completed)
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.lines for axes in figure.axes)
        assert all(axes.get_ylabel() or index % 2 for index, axes in enumerate(figure.axes))

    def test_f3_shows_the_table(self, completed: Path) -> None:
        points = read_table(completed / "path.csv", completionpath.Point)
        flow = [one for one in points if one.method == "flow" and one.step]
        rank, distance, sign, imbalance = FIGURES["P3-F3"](completed).axes
        assert rank.lines[0].get_ydata() == pytest.approx([p.effective_rank - 1 for p in flow])
        assert distance.lines[0].get_ydata() == pytest.approx([p.distance for p in flow])
        assert distance.lines[2].get_ydata() == pytest.approx([p.distance_bound for p in flow])
        assert np.unique(sign.lines[0].get_ydata()).tolist() == [1]
        assert len(imbalance.lines) == 2

    @pytest.mark.parametrize("name", ["P3-F1", "P3-F2", "P3-F3"])
    def test_of_no_run_or_another_are_refused(
        self, name: str, completed: Path, regressed: Path, tmp_path: Path
    ) -> None:
        what = "regression" if name == "P3-F1" else "completion"
        maker = rf"; `python -m trainers flow {what} --out .*` writes one$"
        with pytest.raises(InputRejected, match=rf"path\.csv: No such file.*{maker}"):
            FIGURES[name](tmp_path)
        mine, other = (completed, regressed)[:: -1 if name == "P3-F1" else 1]
        with pytest.raises(InputRejected, match=rf": has no column [a-z]+; expected .*{maker}"):
            FIGURES[name](other)
        (tmp_path / "path.csv").write_text((mine / "path.csv").read_text().split("\n")[0] + "\n")
        with pytest.raises(InputRejected, match=rf"holds no rows{maker}"):
            FIGURES[name](tmp_path)

    def test_every_entry_of_the_legend_of_f2_is_in_the_figure(self, completed: Path) -> None:
        figure = FIGURES["P3-F2"](completed)
        drawn = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
        (legend,) = figure.legends
        entries = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
        assert set(entries) <= drawn
        assert len(entries) == 5


def test_steps_are_spread_closer_at_the_start() -> None:
    assert spread(1000, 5) == [0, 1, 10, 100, 1000]
    assert spread(1, 200) == [0, 1]
    assert chosen(list(range(0, 101, 10)), 3) == {0, 50, 100}
