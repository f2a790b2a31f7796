"""Bounds stand where the table has them, hollow where they say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from rankscope.errors import UsageError
from rankscope.figures import NARROWEST, draw
from rankscope.figures.boundmarks import BOUNDS, told_of
from rankscope.figures.columns import drawn_columns
from rankscope.palette import LIGHT
from rankscope.scene import Scene
from tests.figures import made
from tests.figures.legible import faults, tick_labels
from tests.rundirs import Recipe, diagonal, write_run

RANK = LIGHT.unordered[0]

# Bounds of about 2 and 80 at these thresholds, on each side of the 40 that is the full rank.
QUICK = Recipe(batch=1, lr=0.5, weight_decay=1.0)
LOOSE, TIGHT = 0.5, 1e-12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    snapshots = {
        5 * i: {f"hidden.{k}.weight": diagonal([0.5**i] * (40 - 9 * i)) for k in range(2)}
        for i in range(3)
    }
    return write_run(tmp_path_factory.mktemp("runs") / "run", snapshots, QUICK)


def marks(axes: Axes, colour: str) -> list[tuple[float, float, bool]]:
    """Where the marks of a colour are, and whether each is hollow."""
    return sorted(
        (x, y, line.get_markerfacecolor() != colour)
        for line in made.coloured(axes, colour)
        for x, y in zip(made.x_of(line), made.y_of(line), strict=True)
        if not np.isnan(y)
    )


def rows_of(scene: Scene, step: int) -> list[dict[str, Any]]:
    return [row for row in scene.table.matrices if row["step"] == step]


@pytest.mark.parametrize("eps", [LOOSE, TIGHT])
def test_beside_names_they_are_those_of_the_last_rows(run: Path, eps: float) -> None:
    scene = made.scene(run, eps=eps)
    _, lower = draw(scene, "bound").axes
    names = [label.get_text() for label in lower.get_yticklabels()]
    rows = {row["name"]: row for row in rows_of(scene, 10)}
    assert names == list(rows)
    drawn = 0
    for name, (_, colour, _) in BOUNDS.items():
        expected = [
            (rows[one][name], place, rows[one][name] >= min(rows[one]["shape"]))
            for place, one in enumerate(names)
            if rows[one][name] is not None
        ]
        assert marks(lower, colour) == sorted(expected)
        drawn += len(expected)
    assert drawn >= 2
    assert made.columns_of(lower, RANK) == {one: rows[one]["rank"] for one in names}


def test_both_kinds_of_marks_were_tested(run: Path) -> None:
    for eps, vacuous in ((LOOSE, False), (TIGHT, True)):
        rows = rows_of(made.scene(run, eps=eps), 10)
        assert {row["bound_closed"] >= min(row["shape"]) for row in rows} == {vacuous}


def test_over_the_steps_they_are_means_of_the_rows(run: Path) -> None:
    scene = made.scene(run, eps=LOOSE)
    upper, _ = draw(scene, "bound").axes
    steps = [0, 5, 10]
    rank = made.coloured(upper, RANK)[0]
    assert made.x_of(rank) == steps
    assert made.y_of(rank) == [row["rank"] for row in scene.table.summary]
    for name, (_, colour, _) in BOUNDS.items():
        line = made.coloured(upper, colour)[0]
        means = []
        for step in steps:
            values = [row[name] for row in rows_of(scene, step)]
            means.append(np.nan if None in values else np.mean(values))
        assert made.y_of(line) == pytest.approx(means, nan_ok=True)


def test_a_mean_is_over_all_matrices_or_there_is_none(run: Path) -> None:
    scene = made.scene(run, eps=LOOSE)
    (column,) = drawn_columns(scene.table, None)
    rows = rows_of(scene, 10)
    whole = told_of(scene.table, rows, column, mean=True)
    assert whole.bounds["bound_exact"] == np.mean([row["bound_exact"] for row in rows])
    part = told_of(scene.table, [rows[0] | {"bound_exact": None}, *rows[1:]], column, mean=True)
    assert np.isnan(part.bounds["bound_exact"])
    assert part.rank == whole.rank


def test_of_several_matrices_the_mean_is_told_not_the_median(run: Path) -> None:
    scene = made.scene(run, eps=LOOSE)
    (column,) = drawn_columns(scene.table, None)
    (row, *_) = rows_of(scene, 10)
    rows = [row | {column.key: rank} for rank in (1, 1, 7)]
    assert told_of(scene.table, rows, column, mean=False).rank == 3


def test_numbers_of_an_axis_are_plain(tmp_path: Path) -> None:
    ranks = {i: {"w": diagonal([1.0] * (38 - 12 * i), 38)} for i in range(3)}
    path = write_run(tmp_path / "run", ranks, Recipe(batch=2, lr=0.1, weight_decay=0.5))
    upper, lower = draw(made.scene(path, eps=0.1), "bound").axes
    for axes, axis in ((upper, upper.yaxis), (lower, lower.xaxis)):
        told = [label.get_text() for label in tick_labels(axes, axis)]
        assert len(told) > 1
        assert all(text.isdecimal() for text in told)


def test_axes_are_logarithmic_unless_a_rank_is_0(run: Path) -> None:
    upper, lower = draw(made.scene(run, eps=LOOSE), "bound").axes
    assert (upper.get_yscale(), lower.get_xscale()) == ("symlog", "symlog")
    upper, lower = draw(made.scene(run, eps=1e-3), "bound").axes
    assert (upper.get_yscale(), lower.get_xscale()) == ("log", "log")


def test_each_threshold_has_a_column(run: Path) -> None:
    scene = made.scene(run, eps=(LOOSE, TIGHT))
    figure = draw(scene, "bound")
    rows = rows_of(scene, 10)
    for axes, eps in zip(figure.axes[1::2], ("0.5", "1e-12"), strict=True):
        values = {x for x, _, _ in marks(axes, BOUNDS["bound_closed"][1])}
        assert values == {row[f"bound_closed@{eps}"] for row in rows}
    assert [a.get_title() for a in figure.axes if a.get_title()] == ["ε = 0.5", "ε = 1e-12"]


def test_the_legend_names_what_is_there_and_explains_hollow(run: Path) -> None:
    entries = list(made.legend_of(draw(made.scene(run, eps=LOOSE), "bound")))
    words = [words for words, _, _ in BOUNDS.values()]
    assert entries == ["rank", *words, "full rank", "hollow, thin: vacuous"]


def test_the_rank_that_the_theorem_is_about_can_be_drawn(run: Path) -> None:
    scene = made.scene(run, metrics="approximation_rank", eps=1e-3)
    _, lower = draw(scene, "bound").axes
    ranks = {row["name"]: row["approximation_rank"] for row in rows_of(scene, 10)}
    assert made.columns_of(lower, RANK) == ranks


def test_several_runs_have_a_row_each(tmp_path: Path) -> None:
    scene = made.scene(made.sweep(tmp_path / "sweep", (2, 4)), eps=0.1)
    (axes,) = draw(scene, "bound").axes
    by_source = {run["source"]: run for run in scene.table.runs}
    expected = {}
    for batch in (2, 4):
        for seed in (0, 1):
            found = by_source[str(tmp_path / "sweep" / f"b{batch}-s{seed}")]
            expected[f"B = {batch}, seed {seed}"] = found
    closed = made.columns_of(axes, BOUNDS["bound_closed"][1])
    assert closed == pytest.approx({k: run["bound_closed"] for k, run in expected.items()})
    assert made.columns_of(axes, RANK) == {k: run["rank"] for k, run in expected.items()}
    assert closed["B = 2, seed 0"] < closed["B = 4, seed 0"]


def test_a_bound_is_thick_only_where_it_says_something(tmp_path: Path) -> None:
    """Of a batch that says something at first, then nothing: 40 rows, learning rate falls."""
    snapshots = {5 * i: {"w": diagonal([1.0] * 40)} for i in range(5)}
    recipe = Recipe(batch=1, lr=0.5, weight_decay=1.0, schedule=((10, 1e-3),))
    scene = made.scene(write_run(tmp_path / "run", snapshots, recipe), eps=LOOSE)
    upper, _ = draw(scene, "bound").axes
    colour = BOUNDS["bound_closed"][1]
    thin, thick = sorted(made.coloured(upper, colour), key=lambda line: line.get_linewidth())
    rank = next(iter(made.coloured(upper, RANK)))
    assert thin.get_linewidth() < rank.get_linewidth() < thick.get_linewidth()
    rows = {row["step"]: row for row in scene.table.matrices}
    assert made.y_of(thin) == [row["bound_closed"] for row in rows.values()]
    speaks = [row["bound_closed"] < 40 for row in rows.values()]
    assert len(set(speaks)) == 2
    assert [not np.isnan(y) for y in made.y_of(thick)] == speaks


def test_narrow_labels_keep_what_tells_runs_apart(tmp_path: Path) -> None:
    for mu, decay in ((0.1, 0.1), (0.2, 0.1), (0.1, 0.5)):
        for batch in (2, 8):
            recipe = {"batch": batch, "lr": mu, "weight_decay": decay}
            made.run(tmp_path / f"{batch}-{mu}-{decay}", 2, 2, **recipe)
    figure = draw(made.scene(tmp_path, eps=0.1), "bound", width=NARROWEST)
    (axes,) = figure.axes
    labels = [one.get_text().replace("\n", " ") for one in axes.get_yticklabels()]
    assert sorted(labels) == sorted(
        f"B = {batch}, \N{GREEK SMALL LETTER MU} = {mu}, weight decay = {decay}"
        for mu, decay in ((0.1, 0.1), (0.2, 0.1), (0.1, 0.5))
        for batch in (2, 8)
    )
    assert faults(figure) == []


class TestRefused:
    def test_where_there_is_no_bound_the_reason_is_told(self, tmp_path: Path) -> None:
        path = made.saved(tmp_path / "m.safetensors", {"w": np.eye(3)})
        with pytest.raises(UsageError, match=r"no bound to draw: .*spectrum, rank and heatmap do"):
            draw(made.scene(path), "bound")
        adam = write_run(
            tmp_path / "run", {0: {"w": np.eye(3)}, 1: {"w": np.eye(3)}}, Recipe(optimiser="adamw")
        )
        with pytest.raises(UsageError, match=r"no bound to draw: .*(?i:adam)"):
            draw(made.scene(adam), "bound")

    def test_a_metric_that_no_bound_is_on(self, run: Path) -> None:
        with pytest.raises(UsageError, match="on the rank at eps, not on the stable rank"):
            draw(made.scene(run, metrics="stable_rank"), "bound")
