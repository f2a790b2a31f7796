"""Several runs beside each other: their rows, their trends, and where their spectra cross."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rankscope import analyze
from rankscope.api import Analysis
from rankscope.how import How
from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from rankscope.sweeps.runs import settings_row
from rankscope.training import Given, training_of
from rankscope.views import terminal
from rankscope.views.analysis import report
from tests.rundirs import Array, Recipe, ask, diagonal, shown, write_run


def ranked(rank: int, size: int = 12) -> Array:
    return diagonal([1.0] * rank + [0.0] * (size - rank))


def sweep(
    folder: Path,
    ranks: dict[tuple[int, int | None], int],
    recipe: Recipe | None = None,
) -> Path:
    """Runs by (batch, seed) that end with a matrix of such a rank; nested by batch."""
    for number, ((batch, seed), rank) in enumerate(ranks.items()):
        one = replace(recipe or Recipe(), batch=batch, seed=seed)
        saved = {0: {"a": np.eye(12)}, 10: {"a": ranked(rank)}}
        logs = {10: LogRecord(epoch=1, test_accuracy=rank / 20)}
        write_run(folder / f"B{batch}" / f"seed{seed}-{number}", saved, one, logs)
    return folder


BATCHES = (2, 4, 8, 16)
BY_SEED = ((3, 5, 6, 9), (4, 4, 8, 7), (2, 6, 5, 10))
RANKS: dict[tuple[int, int | None], int] = {
    (batch, seed): rank
    for seed, ranks in enumerate(BY_SEED)
    for batch, rank in zip(BATCHES, ranks, strict=True)
}


def test_a_row_a_run_with_its_end(tmp_path: Path) -> None:
    table = ask(sweep(tmp_path, dict(reversed(RANKS.items()))))
    assert len(table.runs) == len(RANKS)
    found = {(run["B"], run["seed"]): run for run in table.runs}
    assert {key: run["rank"] for key, run in found.items()} == RANKS
    assert {run["step"] for run in table.runs} == {10}
    assert {key: run["test_accuracy"] for key, run in found.items()} == {
        key: rank / 20 for key, rank in RANKS.items()
    }


def test_a_trend_is_that_of_scipy(tmp_path: Path) -> None:
    table = ask(sweep(tmp_path, RANKS))
    (trend,) = table.trends
    levels = [batch for batch, _ in RANKS]
    values = list(RANKS.values())
    assert trend["tau"] == pytest.approx(stats.kendalltau(levels, values, variant="b").statistic)
    assert trend["tau_p"] < 0.001  # SciPy has no exact p-value with ties
    blocks = [[RANKS[batch, seed] for batch in (2, 4, 8, 16)] for seed in (0, 1, 2)]
    page = stats.page_trend_test(blocks, method="exact")
    assert trend["page"] == pytest.approx(page.statistic)
    assert trend["page_p"] == pytest.approx(page.pvalue)
    assert (trend["value"], trend["varied"]) == ("rank", "B")
    assert (trend["levels"], trend["runs"], trend["seeds"]) == ([2, 4, 8, 16], 12, 3)
    assert trend["means"] == pytest.approx(np.mean(blocks, axis=0))
    assert trend["verdict"] == "as predicted"
    assert trend["fixed"]["mu"] == 0.1
    assert trend["sentence"] in shown(table)


def test_a_permutation_test_gives_the_same_p(tmp_path: Path) -> None:
    ranks: dict[tuple[int, int | None], int] = {(2, 0): 3, (4, 0): 5, (8, 0): 4, (16, 0): 9}
    (trend,) = ask(sweep(tmp_path, ranks)).trends
    exact = stats.kendalltau([2, 4, 8, 16], [3, 5, 4, 9], method="exact", alternative="greater")
    assert trend["tau_p"] == pytest.approx(exact.pvalue)
    assert trend["page"] is None  # one seed


def test_every_threshold_has_its_trend(tmp_path: Path) -> None:
    for batch, small in ((2, 0.01), (4, 0.03), (8, 0.2)):
        saved = {0: {"a": diagonal([1.0, small, small])}}
        write_run(tmp_path / f"B{batch}", saved, Recipe(batch=batch))
    table = ask(tmp_path, eps=[0.1, 0.02])
    found = {trend["value"]: trend["means"] for trend in table.trends}
    assert found == {"rank@0.1": [1.0, 1.0, 3.0], "rank@0.02": [1.0, 3.0, 3.0]}


def test_without_ranks_what_else_counts_is_tested(tmp_path: Path) -> None:
    sweep(tmp_path, {(2, 0): 3, (4, 0): 5})
    table = ask(tmp_path, metrics=["frobenius_norm", "stable_rank"])
    assert [trend["value"] for trend in table.trends] == ["stable_rank"]
    assert ask(tmp_path, metrics=["frobenius_norm"]).trends == ()
    both = ask(tmp_path, metrics=["stable_rank", "rank"])
    assert [trend["value"] for trend in both.trends] == ["rank"]


def test_missing_seeds_leave_pages_test_out(tmp_path: Path) -> None:
    unknown: dict[tuple[int, int | None], int] = {
        (batch, None): rank for batch, rank in ((2, 3), (4, 5), (8, 6))
    }
    (trend,) = ask(sweep(tmp_path / "a", unknown)).trends
    assert (trend["seeds"], trend["page"], trend["runs"]) == (0, None, 3)
    holes = {key: rank for key, rank in RANKS.items() if key != (8, 1)}
    (trend,) = ask(sweep(tmp_path / "b", holes)).trends
    assert (trend["seeds"], trend["runs"]) == (2, 11)
    blocks = [[RANKS[batch, seed] for batch in (2, 4, 8, 16)] for seed in (0, 2)]
    assert trend["page_p"] == pytest.approx(stats.page_trend_test(blocks, method="exact").pvalue)


def test_two_that_vary_are_tested_one_at_a_time(tmp_path: Path) -> None:
    ranks = {(2, 0.1): 3, (4, 0.1): 5, (2, 0.2): 2, (4, 0.2): 4}
    for (batch, decay), rank in ranks.items():
        recipe = Recipe(batch=batch, weight_decay=decay)
        write_run(tmp_path / f"B{batch}-wd{decay}", {0: {"a": ranked(rank)}}, recipe)
    table = ask(tmp_path)
    found = {
        (trend["varied"], trend["fixed"].get("weight_decay", trend["fixed"].get("B"))): tuple(
            trend["means"]
        )
        for trend in table.trends
    }
    assert found == {
        ("B", 0.1): (3.0, 5.0),
        ("B", 0.2): (2.0, 4.0),
        ("weight_decay", 2): (3.0, 2.0),
        ("weight_decay", 4): (5.0, 4.0),
    }
    assert {trend["verdict"] for trend in table.trends} == {"too few"}


def test_a_run_of_adam_is_no_level_of_the_others(tmp_path: Path) -> None:
    sweep(tmp_path, {(2, 0): 3, (4, 0): 5})
    adam = Recipe(batch=8, optimiser="adam")
    write_run(tmp_path / "adam", {0: {"a": ranked(9)}, 1: {"a": ranked(9)}}, adam)
    table = ask(tmp_path)
    assert [trend["levels"] for trend in table.trends] == [[2, 4]]
    reasons = [run["no_bound"] for run in table.runs]
    assert sum("adam" in reason.lower() for reason in reasons) == 1
    text = shown(table)
    assert re.search(r"adam: .*adam", text.lower())


def finals(spectra: Sequence[Sequence[float]], folder: Path, seeds: int = 1) -> Path:
    for i, values in enumerate(spectra):
        for seed in range(seeds):
            recipe = Recipe(batch=2 ** (i + 1), seed=seed)
            last = [values[0] * (1 + seed / 4), *values[1:]]
            saved = {0: {"a": diagonal([1.0] * len(values))}, 1: {"a": diagonal(last)}}
            write_run(folder / f"B{i}-{seed}", saved, recipe)
    return folder


def test_crossings_are_those_of_the_mean_spectra(tmp_path: Path) -> None:
    spectra = [
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
        [2.0, 1.8, 0.7, 0.5, 0.3, 0.1],
        [4.0, 3.0, 0.6, 0.2, 0.1, 0.0],
    ]
    table = ask(finals(spectra, tmp_path, seeds=2))
    (row,) = table.crossings
    seeds = [[np.array([v[0] * (1 + s / 4), *v[1:]]) for s in (0, 1)] for v in spectra]
    scaled = [np.mean([one / np.linalg.norm(one) for one in pair], axis=0) for pair in seeds]
    indices = []
    for a, b in pairwise(scaled):
        places = [int(np.sum(np.sign(a - b) == np.sign(a - b)[0]))]
        assert (np.diff(np.sign(a - b)) != 0).sum() == 1  # each pair crosses once, cleanly
        indices += places
    assert (row["name"], row["varied"], row["levels"]) == ("a", "B", [2, 4, 8])
    assert (row["smallest"], row["largest"]) == (min(indices), max(indices))
    assert row["crossing"] == pytest.approx(np.median(indices))
    assert row["agreement"] == 1.0
    head = round(float(np.median(indices)))
    assert row["head_mass"] == pytest.approx([s[:head].sum() / s.sum() for s in scaled])
    assert "where spectra cross" in shown(table)


def test_a_crossing_says_of_which_runs_it_is(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        for batch, values in ((2, [1.0, 0.9, 0.2]), (4, [2.0, 0.4, 0.1])):
            recipe = Recipe(batch=batch, lr=lr)
            write_run(tmp_path / f"{lr}-{batch}", {1: {"a": diagonal(values)}}, recipe)
    text = shown(ask(tmp_path))
    assert "where spectra cross from B 2 to 4 at mu 0.1: so many" in text
    assert "where spectra cross from B 2 to 4 at mu 0.2: so many" in text


def test_the_last_snapshot_is_what_crosses(tmp_path: Path) -> None:
    # The first snapshots cross; the last do not: one is above throughout, as a zero row makes it.
    for batch, last in ((2, [1.0, 0.0]), (4, [1.0, 0.0])):
        first = [1.0, 0.5] if batch == 2 else [1.0, 0.1]
        saved = {0: {"a": diagonal(first)}, 1: {"a": diagonal(last)}}
        write_run(tmp_path / f"B{batch}", saved, Recipe(batch=batch))
    assert ask(tmp_path).crossings == ()


def test_shapes_that_differ_have_no_crossing(tmp_path: Path) -> None:
    spectra = [[1.0, 0.9, 0.8], [2.0, 1.8, 0.1], [4.0, 0.3, 0.2, 0.1]]
    table = ask(finals(spectra, tmp_path))
    assert table.crossings == ()
    assert len(table.runs) == 3
    shown(table)


def test_zero_matrices_have_no_crossing(tmp_path: Path) -> None:
    table = ask(finals([[0.0, 0.0], [0.0, 0.0]], tmp_path))
    assert table.crossings == ()
    json.dumps(table.to_document(), allow_nan=False)


def test_a_run_that_has_no_snapshot_yet_is_said(tmp_path: Path) -> None:
    sweep(tmp_path, {(2, 0): 3, (4, 0): 5})
    with SnapshotWriter(tmp_path / "begun", Recipe(batch=8).record({0: {"a": np.eye(12)}})):
        table = ask(tmp_path)
    assert len(table.runs) == 2
    assert [row["name"] for row in table.skipped] == [str(tmp_path / "begun")]
    assert not table.incomplete
    assert "begun" in shown(table)


def test_what_is_stated_holds_for_every_run(tmp_path: Path) -> None:
    sweep(tmp_path, {(2, 0): 3, (4, 0): 5})
    table = ask(tmp_path, given=Given(weight_decay=0.25, mu=0.3, batch=9))
    assert {(run["B"], run["mu"], run["lambda"]) for run in table.runs} == {(9, 0.3, 0.125)}
    assert table.trends == ()


def test_runs_that_record_nothing_are_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with SnapshotWriter(tmp_path / name, RunRecord()) as writer:
            writer.save(0, {"w": np.eye(2)})
            writer.save(1, {"w": np.eye(2)})
    write_run(tmp_path / "c", {0: {"w": np.eye(2)}}, Recipe())
    write_run(tmp_path / "d", {0: {"w": np.eye(2)}}, Recipe(model=None, data=None, optimiser=None))
    table = ask(tmp_path)
    assert len(table.runs) == 4
    assert table.trends == ()
    text = shown(table)
    assert all(re.search(rf"^{name} ", text, re.MULTILINE) for name in "abcd")


def columns_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("B", "seed", "long"))]


class TestTheScreen:
    def test_sorts_by_what_varies_and_puts_what_does_not_into_the_title(
        self, tmp_path: Path
    ) -> None:
        table = ask(sweep(tmp_path, {(16, 0): 9, (2, 0): 3, (4, 0): 5}))
        grids = report(table).grids(False)
        assert grids[0].title.startswith("3 runs: model net, data digits, optimiser sgd, mu 0.1")
        assert "lambda 0.25, weight decay 0.5" in grids[0].title
        assert [row[:2] for row in grids[0].rows] == [
            ("B2/seed0-1", "2"),
            ("B4/seed0-2", "4"),
            ("B16/seed0-0", "16"),
        ]
        heads = grids[0].headings
        assert heads[:4] == ("run", "B", "test acc.", "rank")
        assert [row[2:4] for row in grids[0].rows] == [
            *(("0.1500", "3.000"), ("0.2500", "5.000"), ("0.4500", "9.000"))
        ]

    def test_averages_over_seeds(self, tmp_path: Path) -> None:
        table = ask(sweep(tmp_path, RANKS))
        means = next(grid for grid in report(table).grids(False) if "means" in grid.title)
        ranks = [float(row[means.headings.index("rank")]) for row in means.rows]
        expected = [np.mean([RANKS[batch, seed] for seed in range(3)]) for batch in (2, 4, 8, 16)]
        assert ranks == pytest.approx(expected, abs=1e-3)
        assert [row[0] for row in means.rows] == ["3"] * 4

    def test_fits_80_columns(self, tmp_path: Path) -> None:
        name = "long-" + "name-" * 30
        for batch in (2, 4, 8):
            saved = {step: {"layer." * 20 + "w": ranked(batch)} for step in (0, 40)}
            write_run(tmp_path / f"{name}{batch}", saved, Recipe(batch=batch))
        table = analyze(tmp_path, how=How(store=False), eps=[0.5, 0.1])
        for everything in (False, True):
            text = terminal.render(report(table), width=80, everything=everything)
            assert max(len(line) for line in text.splitlines()) <= 80
        narrow = terminal.render(report(table), width=80)
        # The runs can still be told apart, and what they are about is there.
        rows = [line for line in narrow.splitlines() if line.startswith("long-")]
        assert len(rows) >= 3
        assert len(set(rows)) == len(rows)

    def test_everything_is_shown_on_request(self, tmp_path: Path) -> None:
        table = ask(sweep(tmp_path, {(2, 0): 3, (4, 0): 5}))
        short = [grid.title for grid in report(table).grids(False)]
        whole = [grid.title for grid in report(table).grids(True)]
        assert whole[: len(short)] == short
        for run in table.runs:
            assert sum(run["source"] in title for title in whole) == 2  # by step, by matrix
            assert not any(run["source"] in title for title in short)


def test_a_violated_bound_and_a_failed_assumption_name_their_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sweep(tmp_path, {(2, 0): 12, (4, 0): 12})
    forged = {step: {"a": rng.normal(size=(12, 12)) * (1 + step)} for step in range(5)}
    write_run(tmp_path / "forged", forged, Recipe(batch=1, lr=0.5, weight_decay=1.99))
    table = ask(tmp_path, eps=0.1)
    text = shown(table)
    assert re.search(r"forged: bound by the run's own norms .* exceeded by \d of \d ranks", text)
    assert re.search(r"in every matrix of 2 of 3 runs; not in .*forged", text)


def test_the_order_of_runs_changes_no_number(tmp_path: Path) -> None:
    sweep(tmp_path, RANKS)
    paths = sorted(path.parent for path in tmp_path.rglob("run.json"))
    one, other = ask(*paths), ask(*reversed(paths))

    def numbers(table: Analysis) -> list[dict[str, Any]]:
        return [
            {k: pytest.approx(v) if isinstance(v, float) else v for k, v in row.items()}
            for row in table.trends
        ]

    assert numbers(one) == [dict(row) for row in other.trends]


def test_a_link_to_a_run_is_no_further_run(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep", {(2, 0): 3, (4, 0): 5})
    os.symlink(tmp_path / "sweep" / "B4", tmp_path / "sweep" / "a-link")
    os.symlink(tmp_path / "sweep" / "B2" / "seed0-0", tmp_path / "sweep" / "B2" / "latest")
    assert sorted(run["source"] for run in ask(tmp_path / "sweep").runs) == [
        str(tmp_path / "sweep" / "B2" / "seed0-0"),
        str(tmp_path / "sweep" / "B4" / "seed0-1"),
    ]


@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_a_warm_up_does_not_name_a_run(lr: float) -> None:
    schedule = ((0, 0.01), (100, lr), (200, 0.001))
    run = RunRecord(
        optimiser=Optimiser("sgd"), hyperparameters=Hyperparameters(8, lr, 1e-3, schedule=schedule)
    )
    training = training_of(run, [], Given())
    assert training is not None
    assert settings_row(run, training.dynamics)["mu"] == lr
