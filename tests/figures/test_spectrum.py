"""The lines are the singular values that NumPy finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rankscope.errors import InputRejected
from rankscope.figures import draw
from tests.figures import made
from tests.figures.legible import faults, tick_labels

FEW = {"a.weight": made.matrix(9, 7, 4), "b.weight": made.matrix(5, 12, 5)}
MODEL = made.transformer(5, experts=3)


def spectra(*paths: Path, **asked: Any) -> Figure:
    return draw(made.scene(*paths, **asked), "spectrum")


def close(expected: Any) -> Any:
    """As NumPy has it, to the resolution of the Gram route where values are tiny."""
    return pytest.approx(np.asarray(expected), rel=1e-6, abs=1e-8)


def luminance(colour: object) -> float:
    """How light a colour is, 0 to 1 (ITU-R BT.709)."""
    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Figure:
    return spectra(made.saved(tmp_path_factory.mktemp("model") / "m.safetensors", MODEL))


class TestFewMatrices:
    def test_share_axes_and_are_named(self, tmp_path: Path) -> None:
        figure = spectra(made.saved(tmp_path / "m.safetensors", FEW))
        (axes,) = figure.axes
        entries = made.legend_of(figure)
        assert list(entries) == [*FEW, "ε = 0.001"]
        for (name, array), line in zip(FEW.items(), axes.get_lines(), strict=False):
            assert made.x_of(line) == list(range(1, min(array.shape) + 1))
            assert made.y_of(line) == close(made.spectrum(array))
            assert entries[name].get_color() == line.get_color()
        assert axes.get_yscale() == "log"
        assert axes.get_xscale() == "linear"

    @pytest.mark.parametrize("norm", ["frobenius", "spectral", "none"])
    def test_are_over_the_norm_that_eps_is_relative_to(self, tmp_path: Path, norm: str) -> None:
        path = made.saved(tmp_path / "m.safetensors", FEW)
        figure = spectra(path, norm=norm, eps=(0.3, 0.01))
        (axes,) = figure.axes
        sigma = np.linalg.svd(FEW["a.weight"], compute_uv=False)
        scale = {"frobenius": np.linalg.norm(sigma), "spectral": sigma[0], "none": 1.0}[norm]
        first, *_, upper, lower = axes.get_lines()
        assert made.y_of(first) == close(sigma / scale)
        assert (made.y_of(upper)[0], made.y_of(lower)[0]) == (0.3, 0.01)
        # What the line of eps leaves above it is the rank.
        assert sum(y > 0.01 for y in made.y_of(first)) == 4

    def test_the_line_of_eps_is_seen_and_noise_is_not(self, tmp_path: Path) -> None:
        noisy = {"a.weight": made.matrix(9, 7, 4, noise=1e-12)}
        (axes,) = spectra(made.saved(tmp_path / "m.safetensors", noisy)).axes
        low, high = axes.get_ylim()
        assert 1e-6 < low < 1e-3 < 1 / np.sqrt(2) < high
        (axes,) = spectra(tmp_path / "m.safetensors", eps=1e-8).axes
        assert axes.get_ylim()[0] < 1e-8

    def test_a_single_value_is_a_dot_and_zeros_are_told(self, tmp_path: Path) -> None:
        arrays = {"one": np.ones((1, 4)), "zero": np.zeros((3, 3))}
        figure = spectra(made.saved(tmp_path / "m.safetensors", arrays))
        assert list(made.legend_of(figure)) == ["one", "zero (all 0)", "ε = 0.001"]
        assert figure.axes[0].get_lines()[0].get_marker() == "o"

    def test_nothing_but_zeros_says_so(self, tmp_path: Path) -> None:
        figure = spectra(made.saved(tmp_path / "m.safetensors", {"zero": np.zeros((3, 3))}))
        assert [text.get_text() for text in figure.axes[0].texts] == ["all 0"]

    def test_where_there_is_one_value_it_is_told(self, tmp_path: Path) -> None:
        arrays = {"one": np.array([[2.0]]), "other": np.array([[-3.0]])}
        figure = spectra(made.saved(tmp_path / "m.safetensors", arrays))
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.texts] == ["one singular\nvalue each"]
        assert [label.get_text() for label in tick_labels(axes, axes.xaxis)] == ["1"]
        assert faults(figure) == []


class TestModel:
    def test_a_kind_of_layers_has_axes(self, figure: Figure) -> None:
        axes = made.titled(figure)
        kinds = ("MLP down", "MLP gate", "MLP up", "key", "value", "query", "attention output")
        for kind in (*kinds, "expert gate"):
            assert len(axes[f"{kind}, layers 0-4"].get_lines()) == 5 + 1
        assert len(axes["lm_head.weight"].get_lines()) == 1 + 1

    def test_a_line_is_a_layer_dark_to_light(self, figure: Figure) -> None:
        lines = made.titled(figure)["key, layers 0-4"].get_lines()[:5]
        for layer, line in enumerate(lines):
            array = MODEL[f"model.layers.{layer}.self_attn.k_proj.weight"]
            assert made.y_of(line) == close(made.spectrum(array))
        light = [luminance(line.get_color()) for line in lines]
        assert light == sorted(light)
        assert len(set(light)) == 5

    def test_a_layer_has_one_colour_in_all_axes_and_a_bar_explains_them(
        self, figure: Figure
    ) -> None:
        axes = made.titled(figure)
        for layer in range(5):
            colours = {
                str(axes[f"{kind}, layers 0-4"].get_lines()[layer].get_color())
                for kind in ("key", "query", "MLP up")
            }
            assert len(colours) == 1
        bar = figure.axes[-1]
        assert [label.get_text() for label in bar.get_xticklabels()] == ["0", "4"]
        assert bar.get_xlabel() == "layer"

    def test_experts_of_a_layer_are_their_median(self, figure: Figure) -> None:
        line = made.titled(figure)["expert gate, layers 0-4"].get_lines()[2]
        members = [
            made.spectrum(array)
            for name, array in MODEL.items()
            if ".layers.2." in name and "experts" in name
        ]
        assert len(members) == 3
        assert made.y_of(line) == close(np.median(members, axis=0))
        assert "medians" in figure.get_suptitle()

    def test_rare_kinds_beyond_24_share_the_last_axes(self, tmp_path: Path) -> None:
        arrays = {f"thing_{chr(97 + i)}.w": made.matrix(6, 6, 3, i) for i in range(26)}
        arrays |= {f"many.{i}.w": made.matrix(6, 6, 3, 50 + i) for i in range(3)}
        figure = spectra(made.saved(tmp_path / "m.safetensors", arrays))
        axes = made.titled(figure)
        assert len([title for title in axes if title]) == 24
        assert len(axes["many.*.w"].get_lines()) == 3 + 1
        shown = {name for name in arrays if name in axes}
        rest = [made.spectrum(arrays[n]) for n in arrays if n not in shown and "many" not in n]
        assert len(rest) == 4
        line = axes["others"].get_lines()[0]
        assert made.y_of(line) == close(np.median(rest, axis=0))

    def test_long_spectra_are_sampled_on_a_logarithmic_index(self, tmp_path: Path) -> None:
        array = made.matrix(700, 500, 90)
        figure = spectra(made.saved(tmp_path / "m.safetensors", {"w": array}))
        (axes,) = figure.axes
        line = axes.get_lines()[0]
        indices = np.array(made.x_of(line), int)
        assert axes.get_xscale() == "log"
        assert (indices[0], indices[-1]) == (1, 500)
        assert len(indices) < 250
        assert (np.diff(np.log(indices[20:])) < 0.06).all()
        assert made.y_of(line) == close(made.spectrum(array)[indices - 1])

    def test_what_was_not_measured_is_counted_in_the_title(self, tmp_path: Path) -> None:
        arrays = {"a": made.matrix(5, 5, 2), "b": np.full((3, 3), np.nan)}
        figure = spectra(made.saved(tmp_path / "m.safetensors", arrays))
        assert figure.get_suptitle() == "m.safetensors: singular values; 1 not measured"
        assert list(made.legend_of(figure)) == ["a", "ε = 0.001"]

    def test_nothing_measured_is_no_empty_picture(self, tmp_path: Path) -> None:
        path = made.saved(tmp_path / "m.safetensors", {"b": np.full((3, 3), np.nan)})
        with pytest.raises(InputRejected, match="nothing to draw: no matrix has a spectrum; b: "):
            spectra(path)


class TestRunsAndSeveral:
    def test_a_run_has_a_line_a_step(self, tmp_path: Path) -> None:
        figure = spectra(made.run(tmp_path / "run", 4))
        told = [f"step {step}" for step in (0, 10, 20, 30)]
        assert list(made.legend_of(figure)) == [*told, "ε = 0.001"]
        assert list(made.titled(figure)) == [f"hidden.{layer}.weight" for layer in range(3)]
        for layer, axes in enumerate(figure.axes):
            for step, line in zip((0, 10, 20, 30), axes.get_lines(), strict=False):
                array = made.weights(3, step)[f"hidden.{layer}.weight"]
                assert made.y_of(line) == close(made.spectrum(array))

    def test_a_run_with_many_matrices_has_medians_over_kinds(self, tmp_path: Path) -> None:
        figure = spectra(made.run(tmp_path / "run", 2, layers=14))
        (axes,) = figure.axes
        first, last, _ = axes.get_lines()
        for step, line in ((0, first), (10, last)):
            found = [made.spectrum(array) for array in made.weights(14, step).values()]
            padded = np.full((14, 12), np.nan)
            for row, sigma in zip(padded, found, strict=True):
                row[: len(sigma)] = sigma
            assert made.y_of(line) == close(np.nanmedian(padded, axis=0))

    def test_a_sweep_has_a_line_a_run_coloured_by_what_varies(self, tmp_path: Path) -> None:
        figure = spectra(made.sweep(tmp_path / "sweep"))
        entries = made.legend_of(figure)
        assert list(entries) == ["B = 2", "B = 4", "B = 16", "ε = 0.001"]
        axes = made.titled(figure)["hidden.1.weight"]
        for batch in (2, 4, 16):
            lines = made.coloured(axes, entries[f"B = {batch}"].get_color())
            assert len(lines) == 2
            for seed, line in enumerate(lines):
                array = made.weights(2, 20, 8 / batch + 0.5 * seed)["hidden.1.weight"]
                assert made.y_of(line) == close(made.spectrum(array))
        light = [luminance(entries[f"B = {batch}"].get_color()) for batch in (2, 4, 16)]
        assert light == sorted(light)
        assert figure.get_suptitle().startswith("sweep, 6 runs: ")

    def test_two_checkpoints_have_a_colour_each(self, tmp_path: Path) -> None:
        one = made.saved(tmp_path / "one.safetensors", {"w": made.matrix(6, 6, 2)})
        two = made.saved(tmp_path / "two.safetensors", {"w": made.matrix(6, 6, 5)})
        figure = spectra(one, two)
        assert list(made.legend_of(figure)) == ["one.safetensors", "two.safetensors", "ε = 0.001"]
        (axes,) = figure.axes
        for rank, line in zip((2, 5), axes.get_lines(), strict=False):
            expected = made.spectrum(made.matrix(6, 6, rank))
            assert made.y_of(line) == close(expected)
