"""`python -m trainers curves`: what is trained for P2's figures, where it lies, and resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from rankscope.errors import InputRejected, UsageError
from trainers import curves as driver
from trainers.__main__ import main
from trainers.completion import curves, samples
from trainers.completion.baselines import METHODS
from trainers.completion.cell import Cell
from trainers.completion.choices import SCHEMA, Choices, read_choices, write_choices
from trainers.completion.groups import GROUP, Result
from trainers.completion.history import RECORDS, read_history

# Each line of P2's figures, by its captions and appendix A: rank, observed, depth, lambda.
PRINTED = {
    "P2-F1": [(5, 2000, depth, 0.0) for depth in (2, 3, 4, 5)],
    "P2-F2": [(5, 2000, depth, 1e-4) for depth in (2, 3, 4, 5)],
    "P2-F3": [(5, 2000, 1, 0.0), (5, 2000, 1, 1e-2)],
    "P2-F6": [(10, seen, depth, 0.0) for seen in (3000, 3500) for depth in (2, 3, 4, 5)],
    "P2-F7": [(10, seen, depth, 1e-4) for seen in (3000, 3500) for depth in (2, 3, 4, 5)],
    "P2-F8": [(10, seen, 1, factor) for seen in (3000, 3500) for factor in (0.0, 1e-2)],
}

TINY = ("--scale", "0.1", "--jobs", "1")  # 10x10 of rank 1
SEEN = "observed-39"  # of 2000: 39/19 is nearest to 2000/975


def run(name: str, out: Path, *options: str) -> int:
    return main(["curves", name, "--out", str(out), *TINY, *options])


def records(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / RECORDS).read_text().splitlines()]


class TestExpansion:
    @pytest.mark.parametrize("name", PRINTED)
    def test_every_line_of_the_figure_is_trained_once_with_every_seed(self, name: str) -> None:
        expected = {
            (optimiser, rank, observed, depth, strength, seed)
            for optimiser in ("gd", "adam")
            for rank, observed, depth, strength in PRINTED[name]
            for seed in (0, 1, 2)
        }
        groups = curves.groups(curves.FIGURES[name], Choices())
        cells = [cell for group in groups.values() for cell in group.cells]
        found = {(c.optimiser, c.rank, c.observed, c.depth, c.strength, c.seed) for c in cells}
        assert found == expected
        assert len(cells) == len(expected)
        for cell in cells:
            assert cell.penalty == ("ratio" if cell.strength else "none")
            assert (cell.shape, cell.lr, cell.loss, cell.scaled) == ((100, 100), 1e-3, "sum", True)
            assert cell.start.name == ("std:0.001" if cell.depth == 1 else "scale:0.001")

    def test_where_they_lie(self) -> None:
        assert set(curves.groups(curves.FIGURES["P2-F8"], Choices())) == {
            f"observed-{observed}/{optimiser}-1{kind}"
            for observed in (3000, 3500)
            for optimiser in ("gd", "adam")
            for kind in ("", "-penalised")
        }
        first, *_ = curves.groups(curves.FIGURES["P2-F1"], Choices())
        assert first == "observed-2000/gd-5"

    def test_lines_go_on_to_the_limit(self) -> None:
        for name, limit in (("P2-F1", 20_000), ("P2-F2", 100_000), ("P2-F8", 20_000)):
            how = curves.settings(curves.FIGURES[name], Choices(), "cpu")
            assert {how.iterations, how.plain_iterations} == {limit}
            assert how.stop == "iterations"
        how = curves.settings(curves.FIGURES["P2-F2"], Choices(iterations=7), "cpu")
        assert (how.iterations, how.plain_iterations) == (7, 7)
        assert how.also == frozenset({1, 2, 3, 4, 5, 6, 7})

    @pytest.mark.parametrize("limit", [1, 5, 100, 12_345])
    def test_readings_are_even_on_a_logarithmic_axis(self, limit: int) -> None:
        steps = sorted(curves.readings(limit))
        assert (steps[0], steps[-1]) == (1, limit)
        for before, after in pairwise(steps):
            assert after == before + 1 or after <= 1.13 * before + 1

    def test_all_methods_on_every_problem_of_figures_4_and_5(self) -> None:
        for name, rank in (("P2-F4", 5), ("P2-F5", 10)):
            pieces = samples.pieces(samples.FIGURES[name], Choices(seeds=2))
            counts = samples.FIGURES[name].observed
            assert sorted(piece.key for piece in pieces) == sorted(
                (method, observed, seed)
                for method in ("adam-1-ratio", "gd-3", *METHODS)
                for observed in counts
                for seed in (0, 1)
            )
            assert {piece.cell.rank for piece in pieces} == {rank}
        trained = {piece.method: piece.cell for piece in pieces if piece.key[1:] == (3000, 1)}
        expected = Cell(rank=10, observed=3000, seed=1)
        ratio = replace(expected, optimiser="adam", penalty="ratio", strength=0.05)
        assert trained["adam-1-ratio"] == ratio
        assert trained["gd-3"] == replace(expected, depth=3, strength=0.0)


class TestChoices:
    @pytest.mark.parametrize(
        ("scale", "rank", "observed", "expected"),
        [
            (1, 5, 2000, ((100, 100), 5, 2000)),
            (0.4, 5, 2000, ((40, 40), 2, 320)),  # 320/156 is 2000/975
            (0.2, 5, 2000, ((20, 20), 1, 80)),  # 80/39 is 2000/975
            (0.3, 10, 3500, ((30, 30), 3, 315)),  # 315/171 is 3500/1900
            (0.1, 5, 5000, ((10, 10), 1, 97)),
            (0.1, 5, 9000, ((10, 10), 1, 99)),
        ],
    )
    def test_a_smaller_problem_is_about_as_hard(
        self, scale: float, rank: int, observed: int, expected: tuple[Any, ...]
    ) -> None:
        cell = Choices(scale=scale).applied(Cell(rank=rank, observed=observed))
        assert (cell.shape, cell.rank, cell.observed) == expected

    def test_they_are_read_as_written(self, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "P2-F1.json"
        for start in (None, Cell().start):
            choices = Choices(2, 0.5, None if start else 9, 0.01, start, "float64")
            write_choices(path, choices)
            assert read_choices(path) == choices
            path.unlink()

    @pytest.mark.parametrize(
        "text", ["{", "[]", "{}", '{"schema": "rankscope/recipe/1"}', f'{{"schema": "{SCHEMA}"}}']
    )
    def test_a_damaged_file_names_itself(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "P2-F1.json"
        path.write_text(text)
        with pytest.raises(InputRejected, match=r"P2-F1\.json: does not say how runs were made"):
            read_choices(path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("P2-F9",), "figure is 'P2-F9', expected one of P2-F1, "),
            (("P2-F1", "--seeds", "0"), "seeds is 0"),
            (("P2-F1", "--scale", "0.05"), "scale is 0.05, expected 0.1 to 1"),
            (("P2-F1", "--scale", "nan"), "scale is nan"),
            (("P2-F1", "--iterations", "0"), "iterations is 0"),
            (("P2-F1", "--jobs", "0"), "jobs is 0"),
            (("P2-F1", "--init", "small"), "init is 'small'"),
            (("P2-F1", "--lr", "0"), "lr is 0"),
            (("P2-F1", "--only", "sgd*"), "nothing has such a name, as observed-2000/gd-5 has"),
            (("P2-F4", "--only", "sgd*"), "nothing has such a name, as observed-1000/adam-1-ratio"),
        ],
    )
    def test_mistakes(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        options: tuple[str, ...],
        message: str,
    ) -> None:
        assert main(["curves", *options, "--out", str(tmp_path / "runs")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """P2-F3, small."""
    out = tmp_path_factory.mktemp("runs")
    assert run("P2-F3", out, "--iterations", "450", "--seeds", "3", "--lr", "0.01") == 0
    return out


class TestDynamics:
    def test_a_run_directory_for_each_cell(self, out: Path) -> None:
        found = {path.parent.relative_to(out).as_posix() for path in out.rglob(RECORDS)}
        assert found == {
            f"P2-F3/{SEEN}/{optimiser}-1{kind}/seed-{seed}"
            for optimiser in ("gd", "adam")
            for kind in ("/none", "-penalised/ratio")
            for seed in (0, 1, 2)
        }

    def test_it_is_read_when_the_axis_and_the_table_want_it(self, out: Path) -> None:
        lines = records(out / "P2-F3" / SEEN / "adam-1-penalised" / "ratio" / "seed-1")
        steps = {line["step"] for line in lines}
        assert steps == {0, 200, 400, 450} | curves.readings(450)
        assert all(line["sigma"].keys() == {"1", "2"} for line in lines)

    def test_as_complete_trains_it(self, out: Path, tmp_path: Path) -> None:
        options = "--optimizer adam --penalty ratio --lambda 0.01 --rank 1 --observed 39 --lr 0.01"
        more = "--shape 10x10 --seed 2 --iterations 450 --stop iterations --record-every 450"
        single = tmp_path / "single"
        assert main(["complete", "--out", str(single), *options.split(), *more.split()]) == 0
        one = records(single)[-1]
        other = records(out / "P2-F3" / SEEN / "adam-1-penalised" / "ratio" / "seed-2")[-1]
        for key in ("step", "error_all", "error_unobserved", "effective_rank", "train_loss"):
            assert other[key] == pytest.approx(one[key], rel=1e-4)

    def test_it_prints_how_they_ended_and_the_next_command(
        self, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in out.rglob(GROUP)}
        assert run("P2-F3", out, "--iterations", "300", "--lr", "0.01") == 0
        told = capsys.readouterr()
        assert "4 of 4 groups are finished already" in told.err
        assert {path: path.stat().st_mtime_ns for path in out.rglob(GROUP)} == before
        *lines, command = told.out.splitlines()
        assert command == f"python -m trainers figure P2-F3 {out}"
        shown = {line.split()[0]: line.split()[1:] for line in lines[1:]}
        for name in ("gd-1/none", "adam-1-penalised/ratio"):
            ends = [records(out / "P2-F3" / SEEN / name / f"seed-{seed}")[-1] for seed in range(3)]
            expected = [
                f"{median(end[key] for end in ends):.4g}" for key in ("error_all", "effective_rank")
            ]
            assert shown[f"{SEEN}/{name.partition('/')[0]}"] == expected

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ("--lr", "0.02"),
                "run with lr 0.01, now 0.02; choose another --out, or remove it and",
            ),
            (("--lr", "0.01", "--init", "std:0.1"), "run with init None, now std:0.1"),
            (("--lr", "0.01", "--scale", "0.2"), "run with scale 0.1, now 0.2"),
            (("--lr", "0.01", "--seeds", "2"), "run with seeds 3, now 2"),
        ],
    )
    def test_other_choices_are_refused(
        self,
        out: Path,
        capsys: pytest.CaptureFixture[str],
        options: tuple[str, ...],
        message: str,
    ) -> None:
        kept = (out / "P2-F3.json").read_text()
        assert run("P2-F3", out, "--iterations", "3", *options) == 2
        assert message in capsys.readouterr().err
        assert (out / "P2-F3.json").read_text() == kept

    def test_what_was_killed_or_reached_a_lower_limit_is_done_again(self, tmp_path: Path) -> None:
        rest = tmp_path / "P2-F1" / SEEN / "gd-2.partial" / "none" / "seed-0"
        rest.mkdir(parents=True)
        (rest / RECORDS).write_text('{"st')
        for limit in ("2", "4"):
            only = ("--only", "*/gd-2", "--seeds", "1", "--iterations", limit)
            assert run("P2-F1", tmp_path, *only) == 0
            kept = tmp_path / "P2-F1" / SEEN / "gd-2" / "none" / "seed-0"
            assert records(kept)[-1]["step"] == int(limit)
        assert [path.name for path in (tmp_path / "P2-F1" / SEEN).iterdir()] == ["gd-2"]

    def test_level_lines_go_on(self, tmp_path: Path) -> None:
        options = ("--only", "*/gd-1", "--iterations", "4200", "--seeds", "1", "--lr", "0.05")
        assert run("P2-F3", tmp_path, *options) == 0
        lines = records(tmp_path / "P2-F3" / SEEN / "gd-1" / "none" / "seed-0")
        at_2000 = next(line for line in lines if line["step"] == 2000)
        assert lines[-1]["error_all"] == pytest.approx(at_2000["error_all"])
        assert lines[-1]["step"] == 4200

    def test_its_own_start_and_another(self, tmp_path: Path) -> None:
        norms = []
        for out, init in ((tmp_path / "a", ()), (tmp_path / "b", ("--init", "identity:0.5"))):
            options = ("--only", "*/gd-5", "--iterations", "1", "--seeds", "1", *init)
            assert run("P2-F1", out, *options) == 0
            norms.append(records(out / "P2-F1" / SEEN / "gd-5" / "none" / "seed-0")[0])
        assert 1e-4 < norms[0]["frobenius_norm"] < 1e-2
        assert norms[1]["frobenius_norm"] == pytest.approx(0.5 * 10**0.5, rel=1e-6)


class TestHistory:
    def test_what_is_not_finished_is_left_out(self, tmp_path: Path) -> None:
        line = {"step": 3, "error_all": 0.5, "effective_rank": None, "sigma": {"1": 2.0, "6": None}}
        (tmp_path / RECORDS).write_text(json.dumps(line) + '\n{"step": 4, "err')
        (moment,) = read_history(tmp_path)
        assert (moment.step, moment.error_all, moment.sigma[1]) == (3, 0.5, 2.0)
        assert moment.effective_rank != moment.effective_rank
        assert moment.sigma[6] != moment.sigma[6]

    @pytest.mark.parametrize("text", ["{\n", "[]\n", '{"step": 1}\n', "7\n"])
    def test_damage_is_an_error(self, tmp_path: Path, text: str) -> None:
        (tmp_path / RECORDS).write_text(text)
        with pytest.raises(InputRejected, match=f"{RECORDS}: holds no records of a completion"):
            read_history(tmp_path)

    def test_no_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputRejected, match="cannot be read: No such file"):
            read_history(tmp_path)


FAST = "*/[gs]*-*-seed-*"  # gd-3 and SoftImpute as P2 ran it


def points(out: Path) -> list[dict[str, Any]]:
    text = (out / "P2-F4" / "points.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


class TestSamples:
    def compare(self, out: Path, *options: str) -> int:
        return run("P2-F4", out, "--iterations", "4", *options)

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of what is solved, in place of what it takes."""
        names: list[str] = []

        def noting(function: Callable[..., samples.Point]) -> Callable[..., samples.Point]:
            def noted(piece: samples.Piece, *how: Any) -> samples.Point:
                names.append(piece.name)
                return function(piece, *how)

            return noted

        monkeypatch.setattr(samples, "trained", noting(samples.trained))
        monkeypatch.setattr(samples, "completed", noting(samples.completed))
        return names

    def test_points_are_what_the_runs_and_the_baselines_say(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fast = ("--lr", "0.05", "--iterations", "60", "--seeds", "2", "--only", FAST)
        assert self.compare(tmp_path, *fast) == 0
        shown = [line.split() for line in capsys.readouterr().out.splitlines()]
        found = points(tmp_path)
        counts = [round(19 / 975 * count) for count in samples.FIGURES["P2-F4"].observed]
        assert [(point["method"], point["observed"], point["seed"]) for point in found] == [
            (method, count, seed)
            for method in ("gd-3", "softimpute-as-p2")
            for count in counts
            for seed in (0, 1)
        ]
        for point in found[: 2 * len(counts)]:
            place = f"observed-{point['observed']}/gd-3-seed-{point['seed']}/none"
            last = records(tmp_path / "P2-F4" / place / f"seed-{point['seed']}")[-1]
            for key in ("error_all", "error_unobserved", "effective_rank"):
                assert point[key] == last[key]
            assert point["converged"] is False
        base = tmp_path / "base"
        problem = ("--rank", "1", "--observed", "39", "--seed", "1")
        monkeypatch.setattr("trainers.baseline.SHAPE", (10, 10))
        method = ("--method", "softimpute-as-p2")
        assert main(["baseline", "--out", str(base), *method, *problem]) == 0
        logged = json.loads((base / "log.jsonl").read_text().splitlines()[-1])["test_loss"]
        (own,) = (
            p for p in found if p["method"] != "gd-3" and (p["observed"], p["seed"]) == (39, 1)
        )
        assert own["error_unobserved"] == logged
        mine = [p for p in found if (p["method"], p["observed"]) == ("gd-3", 97)]
        numbers = [median(p[key] for p in mine) for key in ("error_all", "effective_rank")]
        assert ["gd-3", "97", *(f"{number:.4g}" for number in numbers)] in shown

    def test_more_seeds_ask_only_for_those(self, tmp_path: Path, asked: list[str]) -> None:
        only = ("--only", f"{SEEN}/[gs]*-*-seed-*")
        for seeds, expected in (("1", {"0"}), ("1", set()), ("3", {"1", "2"})):
            asked.clear()
            assert self.compare(tmp_path, "--seeds", seeds, *only) == 0
            assert sorted(asked) == sorted(
                f"{SEEN}/{method}-seed-{seed}"
                for method in ("gd-3", "softimpute-as-p2")
                for seed in expected
            )
        assert len(points(tmp_path)) == 6

    def test_a_killed_session_loses_nothing(self, tmp_path: Path, asked: list[str]) -> None:
        only = ("--seeds", "1", "--only", f"{SEEN}/[gs]*-*-seed-*")
        assert self.compare(tmp_path, *only) == 0
        kept = points(tmp_path)
        (tmp_path / "P2-F4" / "points.jsonl").unlink()  # as if killed before it was noted
        asked.clear()
        assert self.compare(tmp_path, *only) == 0
        assert asked == [f"{SEEN}/softimpute-as-p2-seed-0"]
        assert points(tmp_path) == kept

    def test_a_higher_limit_replaces_the_point(self, tmp_path: Path) -> None:
        only = ("--seeds", "1", "--only", f"{SEEN}/gd-3*", "--lr", "0.02")
        assert self.compare(tmp_path, *only) == 0
        (before,) = points(tmp_path)
        assert self.compare(tmp_path, *only, "--iterations", "300") == 0
        (after,) = points(tmp_path)
        assert after["error_all"] != before["error_all"]

    def test_without_cvxpy_nothing_is_begun(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(driver, "find_spec", lambda _: None)
        assert self.compare(tmp_path, "--seeds", "1") == 2
        assert "pip install 'rankscope[baselines]'" in capsys.readouterr().err
        assert not list(tmp_path.rglob(RECORDS))

    def test_what_diverged_is_null(self, tmp_path: Path) -> None:
        piece = samples.pieces(samples.FIGURES["P2-F4"], Choices())[0]
        inf = float("inf")
        result = Result("adam", 1, "ratio", 0, inf, inf, inf, 400, "diverged")
        point = samples.point_of(piece, result)
        assert (point.error_all, point.error_unobserved, point.effective_rank) == (None, None, None)
        assert not point.converged
        assert samples.point_of(piece, replace(result, end="plateau")).converged
        samples.write_points(tmp_path / "points.jsonl", [point])
        assert samples.read_points(tmp_path / "points.jsonl") == [point]

    @pytest.mark.parametrize("text", ["{\n", '{"method": "gd-3"}\n', "7\n"])
    def test_damaged_points_name_themselves(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "points.jsonl"
        path.write_text(text)
        with pytest.raises(InputRejected, match=r"points\.jsonl: holds no points"):
            samples.read_points(path)


def test_names_are_p2s_figures() -> None:
    assert " ".join(driver.NAMES) == "P2-F1 P2-F2 P2-F3 P2-F4 P2-F5 P2-F6 P2-F7 P2-F8"
    with pytest.raises(UsageError, match="figure is 'P2-T1'"):
        driver.Args("P2-T1", Path("runs"))
