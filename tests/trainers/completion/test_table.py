"""`python -m trainers table`: the printed numbers, the groups, resuming, and what is shown."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rankscope.errors import InputRejected, UsageError
from trainers.__main__ import main
from trainers.completion.groups import GROUP, Result, Settings, finished, grouped, run_group
from trainers.completion.penalties import parse
from trainers.completion.printed import PRINTED, printed
from trainers.completion.table import WIDTH, Row, compare, markdown, terminal

TINY = Settings(seeds=2, iterations=2, plain_iterations=3)


class TestPrinted:
    @pytest.mark.parametrize(("table", "cells"), [("P2-T1", 60), ("P2-T3", 72), ("P2-T4", 66)])
    def test_all_cells_are_there_once(self, table: str, cells: int) -> None:
        found = printed(table)
        assert len(found) == cells
        assert len({one.cell for one in found}) == cells
        assert all(parse(one.cell.penalty).name == one.cell.penalty for one in found)
        depths = Counter(one.cell.depth for one in found)
        assert depths == {1: cells // 2, 3: cells // 2}

    def test_some_cells_as_in_the_paper(self) -> None:
        found = {
            (table, one.cell.optimiser, one.cell.depth, one.cell.penalty): (one.error, one.rank)
            for table in PRINTED
            for one in printed(table)
        }
        assert found["P2-T1", "adam", 1, "ratio"] == (4e-7, 5)
        assert found["P2-T1", "adamax", 3, "schatten:1/3:2/3"] == (7e5, 1)
        assert found["P2-T1", "gd", 3, "none"] == (1e-5, 5)
        assert found["P2-T3", "amsgrad", 1, "none"] == (1.0, 79)
        assert found["P2-T3", "radam", 3, "none"] == (0.05, 6)
        assert found["P2-T4", "momentum", 1, "schatten:1/3"] == (266.7, 43)
        assert found["P2-T4", "radam", 3, "schatten:2/3"] == (0.68, 3)

    def test_another_name(self) -> None:
        with pytest.raises(UsageError, match="expected one of P2-T1"):
            printed("P2-T2")


def test_groups_share_the_optimiser_and_the_depth() -> None:
    cells = [one.cell for one in printed("P2-T1")]
    found = grouped(cells, 3)
    assert sum(len(group.cells) for group in found) == 180
    assert len(found) == 20
    assert found[0].name == "adam-3-penalised"
    for group in found:
        assert len({(c.optimiser, c.depth, c.penalty != "none") for c in group.cells}) == 1
        assert {cell.seed for cell in group.cells} == {0, 1, 2}


class TestDriver:
    def table(self, out: Path, *options: str) -> int:
        limits = ("--seeds", "2", "--iterations", "2", "--plain-iterations", "3", "--jobs", "1")
        return main(["table", "P2-T1", "--out", str(out), *limits, *options])

    def test_trains_prints_and_writes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "runs"
        files = ("-o", str(tmp_path / "t.csv"), "-o", str(tmp_path / "t.md"))
        assert self.table(out, "--only", "gd-1*", *files) == 0
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= WIDTH
        assert sum(line.startswith("gd ") for line in shown.splitlines()) == 6
        with (tmp_path / "t.csv").open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert len(rows) == 12
        for row in rows:
            kind = "" if row["penalty"] == "none" else "-penalised"
            slug = row["penalty"].replace(":", "-").replace("/", "_")
            run = out / "P2-T1" / f"gd-1{kind}" / slug / f"seed-{row['seed']}"
            last = json.loads((run / "completion.jsonl").read_text().splitlines()[-1])
            assert float(row["error_all"]) == last["error_all"]
            assert float(row["error_unobserved"]) == last["error_unobserved"]
            assert float(row["effective_rank"]) == last["effective_rank"]
            assert int(row["iterations"]) == last["step"] == (3 if kind == "" else 2)
        assert (tmp_path / "t.md").read_text().count("| gd | 1 |") == 6

    def test_what_is_finished_is_not_done_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.table(tmp_path, "--only", "gd-1") == 0
        kept = tmp_path / "P2-T1" / "gd-1" / GROUP
        before = kept.stat().st_mtime_ns
        first = capsys.readouterr().out
        assert self.table(tmp_path, "--only", "gd-1") == 0
        told = capsys.readouterr()
        assert (told.out, kept.stat().st_mtime_ns) == (first, before)
        assert "1 of 1 groups are finished already" in told.err

    def test_what_was_killed_is_done_again(self, tmp_path: Path) -> None:
        rest = tmp_path / "P2-T1" / "gd-1.partial" / "none" / "seed-0"
        rest.mkdir(parents=True)
        (rest / "log.jsonl").write_text('{"step": 0}\n{"st')
        assert self.table(tmp_path, "--only", "gd-1") == 0
        assert not (tmp_path / "P2-T1" / "gd-1.partial").exists()

    def test_other_settings_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.table(tmp_path, "--only", "gd-1") == 0
        assert self.table(tmp_path, "--only", "gd-1", "--seeds", "3") == 2
        assert "run with seeds 2, now 3" in capsys.readouterr().err

    def test_a_higher_limit_runs_what_had_reached_the_lower(self, tmp_path: Path) -> None:
        record = tmp_path / "P2-T1" / "gd-1" / GROUP
        for limit, expected in (("5", 5), ("4", 5), ("9000", 9000), ("10000", 9000)):
            assert self.table(tmp_path, "--only", "gd-1", "--plain-iterations", limit) == 0
            content = json.loads(record.read_text())
            assert content["settings"]["iterations"] == expected
        assert {cell["end"] for cell in content["cells"]} == {"plateau"}
        assert len(list((record.parent / "none").iterdir())) == 2

    def test_two_processes(self, tmp_path: Path) -> None:
        assert self.table(tmp_path, "--only", "gd-?", "--jobs", "2") == 0
        assert {path.name for path in (tmp_path / "P2-T1").iterdir()} == {"gd-1", "gd-3"}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--only", "sgd"], "no group has such a name"),
            (["--seeds", "0"], "seeds is 0"),
            (["-o", "t.txt"], "t.txt: expected a name that ends in .csv or .md"),
        ],
    )
    def test_mistakes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
    ) -> None:
        assert self.table(tmp_path / "runs", *options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "runs").exists()


def test_a_damaged_record_names_itself(tmp_path: Path) -> None:
    (group,) = (g for g in grouped([one.cell for one in printed("P2-T1")], 1) if g.name == "gd-1")
    assert finished(group, TINY, tmp_path) is None
    run_group(group, TINY, tmp_path)
    (tmp_path / "gd-1" / GROUP).write_text('{"cells": [')
    with pytest.raises(InputRejected, match="no record of a group"):
        finished(group, TINY, tmp_path)


def test_what_diverged_is_kept_as_such(tmp_path: Path) -> None:
    cells = [replace(one.cell, lr=1e30) for one in printed("P2-T1")]
    (group,) = (g for g in grouped(cells, 1) if g.name == "gd-1")
    run_group(group, replace(TINY, plain_iterations=400), tmp_path)
    (result,) = finished(group, replace(TINY, plain_iterations=400), tmp_path) or []
    assert result.end == "diverged"
    assert math.isinf(result.error_all)
    (row,) = compare([one for one in printed("P2-T1") if one.cell.penalty == "none"], [result])
    assert row.mark == "!"
    assert "inf" in terminal([row], "P2-T1")


class TestRow:
    def row(self, *errors: tuple[float, float], end: str = "plateau") -> Row:
        (one,) = (p for p in printed("P2-T1") if p.rank == 83 or p.error == 0.83)
        results = [
            Result("gd", 1, "none", seed, everywhere, hidden, 69.4, 1000 + seed, end)
            for seed, (everywhere, hidden) in enumerate(errors)
        ]
        return Row(one, tuple(results))

    def test_medians(self) -> None:
        row = self.row((0.7, 0.9), (0.8, 1.0), (9.0, 9.0))
        assert (row.error_all, row.error_unobserved, row.iterations) == (0.8, 1.0, 1001)

    def test_the_nearer_error_is_compared(self) -> None:
        for errors, which, factor in (
            ((0.81, 1.01), "a", 0.81 / 0.83),
            ((0.1, 0.9), "u", 0.9 / 0.83),
            ((0.0, 0.9), "u", 0.9 / 0.83),
        ):
            found, off = self.row(errors).nearer
            assert found == which
            assert off == pytest.approx(factor)

    def test_marks(self) -> None:
        assert self.row((0.8, 1.0)).mark == ""
        assert self.row((0.8, 1.0), end="iterations").mark == "*"
        assert self.row((0.8, 1.0), end="diverged").mark == "!"

    def test_both_views_show_the_same(self) -> None:
        row = self.row((0.81, 1.01))
        expected = ["gd", "1", "none", "0.83", "1.01", "0.81", "0.98", "a", "72", "69.4", "-3"]
        line = next(text for text in terminal([row], "T").splitlines() if text.startswith("gd"))
        assert line.split() == [*expected, "1000"]
        assert f"| {' | '.join([*expected[:6], '0.98 a', *expected[8:], '1000'])} |" in markdown(
            [row], "T"
        )
