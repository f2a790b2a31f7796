"""The ratios are those of NumPy's norms."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rankscope.errors import UsageError
from rankscope.figures import draw
from tests.figures import made
from tests.rundirs import Recipe, write_run


def test_a_line_a_matrix(tmp_path: Path) -> None:
    figure = draw(made.scene(made.run(tmp_path / "run")), "norm-ratio")
    (axes,) = figure.axes
    entries = made.legend_of(figure)
    steps = [0, 10, 20, 30, 40]
    for layer in range(3):
        name = f"hidden.{layer}.weight"
        norms = [np.linalg.norm(made.weights(3, step)[name]) for step in steps]
        (line,) = made.coloured(axes, entries[name].get_color())
        assert made.x_of(line) == steps
        first, *rest = made.y_of(line)
        assert np.isnan(first)
        assert rest == pytest.approx([before / after for before, after in pairwise(norms)])
    assert any(made.y_of(line) == [1, 1] for line in axes.get_lines())


def test_runs_have_axes_each_with_their_seed(tmp_path: Path) -> None:
    figure = draw(made.scene(made.sweep(tmp_path / "sweep", (2, 4))), "norm-ratio")
    told = [f"B = {batch}, seed {seed}" for batch in (2, 4) for seed in (0, 1)]
    assert list(made.titled(figure)) == told
    assert len({axes.get_ylim() for axes in figure.axes}) == 1  # to be compared by eye
    name = "hidden.0.weight"
    colour = made.legend_of(figure)[name].get_color()
    for batch in (2, 4):
        for seed in (0, 1):
            axes = made.titled(figure)[f"B = {batch}, seed {seed}"]
            (line,) = made.coloured(axes, colour)
            found = [made.weights(2, step, 8 / batch + 0.5 * seed)[name] for step in (10, 20)]
            expected = np.linalg.norm(found[0]) / np.linalg.norm(found[1])
            assert made.y_of(line)[2] == pytest.approx(expected)


def test_what_has_no_ratio_is_named(tmp_path: Path) -> None:
    run = made.run(tmp_path / "run")
    single = made.saved(tmp_path / "m.safetensors", made.weights(3, 0))
    title = draw(made.scene(run, single), "norm-ratio").get_suptitle().replace("\n", " ")
    assert title.endswith("; not drawn, no ratio of two snapshots: m.safetensors")
    assert "not drawn" not in draw(made.scene(run), "norm-ratio").get_suptitle()


def test_one_ratio_is_a_dot(tmp_path: Path) -> None:
    (axes,) = draw(made.scene(made.run(tmp_path / "run", 2, 1)), "norm-ratio").axes
    line = axes.get_lines()[0]
    assert (line.get_marker(), line.get_markevery()) == ("o", [False, True])


def test_a_model_has_none(tmp_path: Path) -> None:
    path = made.saved(tmp_path / "m.safetensors", {"w": np.eye(3)})
    with pytest.raises(UsageError, match=r"needs two snapshots.*spectrum, rank and heatmap do"):
        draw(made.scene(path), "norm-ratio")


def test_of_zeros_it_is_told_why_there_is_none(tmp_path: Path) -> None:
    zeros = {step: {"w": np.zeros((3, 3))} for step in (0, 10)}
    path = write_run(tmp_path / "run", zeros, Recipe())
    with pytest.raises(UsageError, match="no ratio of norms to draw: the matrix is zero; spectrum"):
        draw(made.scene(path), "norm-ratio")


def test_too_many_runs_are_refused(tmp_path: Path) -> None:
    made.sweep(tmp_path / "sweep", (2,), seeds=25)
    with pytest.raises(UsageError, match="room for 24 runs, and 25 were given"):
        draw(made.scene(tmp_path / "sweep"), "norm-ratio")
