"""Ranks over steps, depth and settings are those that NumPy counts."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankscope.figures import draw
from rankscope.palette import LIGHT
from tests.figures import made
from tests.rundirs import Recipe, write_run

DOT = LIGHT.unordered[0]
TICK = LIGHT.muted


def ranks(*paths: Path, **asked: Any) -> Figure:
    return draw(made.scene(*paths, **asked), "rank")


def counted(array: made.Array, eps: float = 1e-3) -> int:
    return int((made.spectrum(array) > eps).sum())


class TestRun:
    def test_has_a_line_a_matrix_and_the_mean(self, tmp_path: Path) -> None:
        figure = ranks(made.run(tmp_path / "run"))
        (axes,) = figure.axes
        entries = made.legend_of(figure)
        names = [f"hidden.{layer}.weight" for layer in range(3)]
        assert list(entries) == ["mean", *names]
        steps = [0, 10, 20, 30, 40]
        for name in names:
            (line,) = made.coloured(axes, entries[name].get_color())
            assert made.x_of(line) == steps
            assert made.y_of(line) == [counted(made.weights(3, step)[name]) for step in steps]
        (mean,) = made.coloured(axes, entries["mean"].get_color())
        assert made.x_of(mean) == steps
        assert made.y_of(mean) == pytest.approx(
            [fmean(map(counted, made.weights(3, step).values())) for step in steps]
        )
        assert axes.get_ylabel() == "rank\nε = 0.001"
        assert axes.get_ylim()[0] == 0

    def test_the_mean_says_over_what_it_is(self, tmp_path: Path) -> None:
        run = made.run(tmp_path / "run", unmarked=("hidden.0.weight",))
        figure = ranks(run)
        mean = made.legend_of(figure)["mean over 2 of 3"]
        (line,) = made.coloured(figure.axes[0], mean.get_color())
        layers = list(made.weights(3, 40).values())[1:]
        assert made.y_of(line)[-1] == pytest.approx(fmean(map(counted, layers)))

    def test_each_threshold_has_axes(self, tmp_path: Path) -> None:
        figure = ranks(made.run(tmp_path / "run"), eps=(0.1, 0.001))
        colour = made.legend_of(figure)["hidden.2.weight"].get_color()
        for axes, eps in zip(figure.axes, (0.1, 0.001), strict=True):
            (line,) = made.coloured(axes, colour)
            array = made.weights(3, 20)["hidden.2.weight"]
            assert made.y_of(line)[2] == counted(array, eps)
            assert axes.get_ylabel() == f"rank\nε = {eps:g}"
        assert figure.axes[-1].get_xlabel() == "step"

    def test_another_metric(self, tmp_path: Path) -> None:
        figure = ranks(made.run(tmp_path / "run"), metrics="stable_rank")
        (line,) = made.coloured(
            figure.axes[0], made.legend_of(figure)["hidden.1.weight"].get_color()
        )
        found = [made.spectrum(made.weights(3, step)["hidden.1.weight"]) for step in (0, 10, 20)]
        assert made.y_of(line)[:3] == pytest.approx([1 / sigma[0] ** 2 for sigma in found])
        assert figure.axes[0].get_ylabel() == "stable rank"

    def test_more_matrices_than_colours_have_a_bar(self, tmp_path: Path) -> None:
        figure = ranks(made.run(tmp_path / "run", 2, layers=9))
        assert list(made.legend_of(figure)) == ["mean"]
        axes, bar = figure.axes
        assert len(axes.get_lines()) == 10
        assert [label.get_text() for label in bar.get_xticklabels()] == ["1", "9"]

    def test_of_many_the_means_over_kinds_as_the_mean_is(self, tmp_path: Path) -> None:
        snapshots = {
            step: {f"a.{i}.w": made.matrix(8, 8, 1 + (i + step) % 7, i) for i in range(30)}
            | {f"b.{i}.w": made.matrix(8, 8, 1 + (3 * i) % 8, i) for i in range(30)}
            for step in (0, 1)
        }
        run = write_run(tmp_path / "run", snapshots, Recipe())
        figure = ranks(run)
        entries = made.legend_of(figure)
        assert list(entries) == ["mean", "a.*.w", "b.*.w"]
        for kind in "ab":
            (line,) = made.coloured(figure.axes[0], entries[f"{kind}.*.w"].get_color())
            assert made.y_of(line) == pytest.approx(
                [
                    fmean(counted(m) for name, m in arrays.items() if name[0] == kind)
                    for arrays in snapshots.values()
                ]
            )
        assert "means where a point stands for several" in figure.get_suptitle().replace("\n", " ")

    def test_what_is_infinite_is_a_gap_that_the_title_counts(self, tmp_path: Path) -> None:
        singular = np.diag([3.0, 2.0, 0.0])
        regular = np.diag([3.0, 2.0, 1.0])
        weights = [regular, singular, regular, regular]
        run = write_run(tmp_path / "run", {i: {"w": one} for i, one in enumerate(weights)})
        figure = ranks(run, metrics="condition_number")
        line = made.coloured(figure.axes[0], made.legend_of(figure)["w"].get_color())[0]
        assert made.y_of(line) == pytest.approx([3, np.nan, 3, 3], nan_ok=True)
        assert line.get_markevery() == [True, False, False, False]  # no line leads to the first
        assert "not drawn: 1 infinite" in figure.get_suptitle().replace("\n", " ")

    def test_what_was_not_measured_is_a_gap(self, tmp_path: Path) -> None:
        good = made.matrix(4, 4, 3)
        bad = np.full((4, 4), np.nan)
        run = write_run(tmp_path / "run", {0: {"w": good}, 1: {"w": bad}, 2: {"w": good}})
        figure = ranks(run)
        line = made.coloured(figure.axes[0], made.legend_of(figure)["w"].get_color())[0]
        assert made.y_of(line) == pytest.approx([3, np.nan, 3], nan_ok=True)
        assert "1 not measured" in figure.get_suptitle()


class TestModel:
    def test_over_depth_a_line_a_kind(self, tmp_path: Path) -> None:
        arrays = made.transformer(5)
        figure = ranks(made.saved(tmp_path / "m.safetensors", arrays))
        upper, _ = figure.axes
        entries = made.legend_of(figure)
        for kind, part in {"value": "self_attn.v_proj", "MLP down": "mlp.down_proj"}.items():
            (line,) = made.coloured(upper, entries[kind].get_color())
            found = [arrays[f"model.layers.{i}.{part}.weight"] for i in range(5)]
            assert made.x_of(line) == list(range(5))
            assert made.y_of(line) == [counted(array) for array in found]
        full = {y for line in made.coloured(upper, TICK) for y in made.y_of(line)}
        assert full == {8, 16}
        assert upper.get_xlabel() == "layer"

    def test_beside_its_name_what_has_no_depth(self, tmp_path: Path) -> None:
        arrays = made.transformer(5)
        figure = ranks(made.saved(tmp_path / "m.safetensors", arrays))
        lower = figure.axes[1]
        names = ("model.embed_tokens.weight", "lm_head.weight")
        assert made.columns_of(lower, DOT) == {name: counted(arrays[name]) for name in names}
        assert made.columns_of(lower, TICK) == dict.fromkeys(names, 16)

    def test_of_many_without_depth_the_means_over_kinds(self, tmp_path: Path) -> None:
        arrays = {f"a.{i}.w": made.matrix(6, 6, 1 + i % 6, i) for i in range(40)}
        figure = ranks(made.saved(tmp_path / "m.safetensors", arrays))
        found = made.columns_of(figure.axes[0], DOT)
        assert found == {"a.*.w": pytest.approx(fmean(map(counted, arrays.values())))}
        assert "means where a point" in figure.get_suptitle()

    def test_experts_of_a_layer_are_their_mean_and_infinite_ones_are_counted(
        self, tmp_path: Path
    ) -> None:
        name = "model.layers.{}.block_sparse_moe.experts.{}.w1.weight"
        arrays = {
            name.format(layer, expert): np.diag([2.0 + layer + expert, 1.0, float(layer != 1)])
            for layer in range(3)
            for expert in range(2)
        }
        path = made.saved(tmp_path / "m.safetensors", arrays)
        figure = ranks(path, metrics="condition_number")
        line = figure.axes[0].get_lines()[0]
        assert made.y_of(line) == pytest.approx([2.5, np.nan, 4.5], nan_ok=True)
        assert "not drawn: 1 infinite" in figure.get_suptitle().replace("\n", " ")

    def test_two_checkpoints_stand_side_by_side(self, tmp_path: Path) -> None:
        one, two = made.transformer(3), made.transformer(5)
        figure = ranks(
            made.saved(tmp_path / "one.safetensors", one),
            made.saved(tmp_path / "two.safetensors", two),
        )
        entries = made.legend_of(figure)
        axes = made.titled(figure)
        for name, arrays in {"one": one, "two": two}.items():
            (line,) = made.coloured(axes[f"{name}.safetensors"], entries["key"].get_color())
            keys = [
                arrays[f"model.layers.{i}.self_attn.k_proj.weight"] for i in range(len(arrays) // 7)
            ]
            assert made.y_of(line) == [counted(array) for array in keys]
        dots = figure.axes[-1]
        for name, arrays in {"one": one, "two": two}.items():
            colour = entries[f"{name}.safetensors"].get_color()
            head = made.columns_of(dots, colour)["lm_head.weight"]
            assert head == counted(arrays["lm_head.weight"])


class TestSweep:
    def test_seeds_are_dots_and_their_mean_a_line(self, tmp_path: Path) -> None:
        (axes, *_) = ranks(made.sweep(tmp_path / "sweep"), eps=0.01).axes
        dots, line = axes.get_lines()
        found: dict[float, list[float]] = {}
        for batch in (2, 4, 16):
            for seed in range(2):
                arrays = made.weights(2, 20, 8 / batch + 0.5 * seed)
                rank = fmean(counted(array, 0.01) for array in arrays.values())
                found.setdefault(batch, []).append(rank)
        points = sorted(zip(made.x_of(dots), made.y_of(dots), strict=True))
        assert points == sorted((b, rank) for b, each in found.items() for rank in each)
        assert made.x_of(line) == [2, 4, 16]
        assert made.y_of(line) == pytest.approx([fmean(each) for each in found.values()])
        assert len({rank for each in found.values() for rank in each}) > 3
        assert axes.get_xscale() == "log"
        assert ticks(axes) == ["2", "4", "16"]
        assert axes.get_xlabel() == "batch size B"

    def test_each_hyperparameter_has_axes_and_lines_of_the_others(self, tmp_path: Path) -> None:
        for batch in (2, 4):
            for mu in (0.1, 0.2, 0.3):
                made.run(tmp_path / f"{batch}-{mu}", 2, 2, mu * 50 / batch, batch=batch, lr=mu)
        figure = ranks(tmp_path)
        over_batch, over_rate, *explained = figure.axes
        assert [over_batch.get_xlabel(), over_rate.get_xlabel()] == [
            "batch size B",
            "learning rate μ",
        ]
        told = [[t.get_text() for t in a.get_legend().get_texts()] for a in explained]  # type: ignore[union-attr]
        assert told == [["μ = 0.1", "μ = 0.2", "μ = 0.3"], ["B = 2", "B = 4"]]
        handles = explained[1].get_legend().legend_handles  # type: ignore[union-attr]
        for batch, handle in zip((2, 4), handles, strict=True):
            _, line = made.coloured(over_rate, handle.get_color())
            assert made.x_of(line) == [0.1, 0.2, 0.3]
            expected = [
                fmean(map(counted, made.weights(2, 10, mu * 50 / batch).values()))
                for mu in (0.1, 0.2, 0.3)
            ]
            assert made.y_of(line) == pytest.approx(expected)

    def test_a_run_that_nothing_compares_to_is_counted_in_the_title(self, tmp_path: Path) -> None:
        made.sweep(tmp_path, (2, 4), 1)
        made.run(tmp_path / "other", 2, 2, batch=8, lr=0.7)
        figure = ranks(tmp_path)
        assert "1 that nothing compares to left out" in figure.get_suptitle().replace("\n", " ")
        dots, _ = figure.axes[0].get_lines()
        assert len(made.x_of(dots)) == 2

    def test_a_line_breaks_where_a_run_is_infinite(self, tmp_path: Path) -> None:
        for batch, least in {8: 1.0, 16: 0.0, 32: 0.5}.items():
            end = {"w": np.diag([2.0, 1.0, least])}
            write_run(tmp_path / f"b{batch}", {0: end, 1: end}, Recipe(batch=batch))
        figure = ranks(tmp_path, metrics="condition_number")
        dots, line = figure.axes[0].get_lines()
        assert made.x_of(dots) == [8, 32]
        assert made.x_of(line) == [8, 16, 32]
        assert made.y_of(line) == pytest.approx([2, np.nan, 4], nan_ok=True)
        assert "not drawn: 1 infinite" in figure.get_suptitle().replace("\n", " ")

    def test_runs_that_differ_in_nothing_known_have_dots_beside_names(self, tmp_path: Path) -> None:
        for name, strength in {"one": 1.0, "two": 4.0}.items():
            made.run(tmp_path / name, 3, 2, strength)
        (axes,) = ranks(tmp_path).axes
        assert made.columns_of(axes, DOT) == {
            name: fmean(map(counted, made.weights(2, 20, strength).values()))
            for name, strength in {"one": 1.0, "two": 4.0}.items()
        }


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]
