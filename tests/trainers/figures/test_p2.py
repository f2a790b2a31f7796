"""P2's figures: what is drawn is what the runs say, and what is missing is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rankscope.errors import InputRejected
from trainers.__main__ import main
from trainers.completion import samples
from trainers.figures import bands, catalogue, house
from trainers.figures.p2 import FIGURES

CHOICES = {
    "schema": "rankscope/curves/1",
    "seeds": 3,
    "scale": 1.0,
    "iterations": None,
    "lr": 0.001,
    "init": None,
    "dtype": "float32",
}
STEPS = (0, 1, 10, 100, 1000)

# Line styles of sigma_1, sigma_r and sigma_{r+1}: the first two are P2's.
STYLES = ("-", ":", "--")


def record(step: int, size: float) -> dict[str, Any]:
    """A line of a run whose numbers are told from those of another by their size."""
    sigma = {str(number): 10 * size / number for number in (1, 5, 6, 10, 11)}
    return {
        "step": step,
        "error_all": size / (1 + step),
        "effective_rank": 50 * size / (1 + step) + 5,
        "sigma": sigma,
    }


def write(run: Path, size: float, *, steps: Sequence[int] = STEPS, end: str = "\n") -> None:
    run.mkdir(parents=True)
    lines = [json.dumps(record(step, size)) for step in steps]
    (run / "completion.jsonl").write_text("\n".join(lines) + end)


def noted(out: Path, name: str, **changed: Any) -> Path:
    (out / f"{name}.json").write_text(json.dumps({**CHOICES, **changed}))
    return out / name


@pytest.fixture
def depths(tmp_path: Path) -> Path:
    """P2-F1 with all its runs; sizes are depth + seed / 10, and ten times that for Adam."""
    directory = noted(tmp_path, "P2-F1")
    for optimiser, factor in (("gd", 1), ("adam", 10)):
        for depth in (2, 3, 4, 5):
            for seed in (0, 1, 2):
                run = directory / "observed-2000" / f"{optimiser}-{depth}" / "none" / f"seed-{seed}"
                write(run, factor * (depth + seed / 10))
    return tmp_path


def line_of(axes: Axes, colour: str, style: str = "-") -> Line2D:
    (found,) = (
        line
        for line in axes.lines
        if to_hex(line.get_color()) == to_hex(colour) and line.get_linestyle() == style
    )
    return found


def xs(line: Line2D) -> list[float]:
    return list(np.asarray(line.get_xdata(), dtype=float))


def ys(line: Line2D) -> list[float]:
    return list(np.asarray(line.get_ydata(), dtype=float))


def grid_of(figure: Figure) -> list[list[Axes]]:
    """The axes, row by row."""
    return [figure.axes[start : start + 3] for start in range(0, len(figure.axes), 3)]


def edges(axes: Axes, colour: str) -> list[list[tuple[float, float]]]:
    """The vertices of the bands of a colour."""
    return [
        [(float(x), float(y)) for x, y in np.asarray(band.get_paths()[0].vertices)]
        for band in axes.collections
        if isinstance(band, FillBetweenPolyCollection)
        and to_hex(tuple(np.asarray(band.get_facecolor())[0])) == to_hex(colour)
    ]


def words(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


class TestDynamics:
    def test_lines_are_the_records_medians_and_bands_all_of_them(self, depths: Path) -> None:
        grid = grid_of(FIGURES["P2-F1"](depths))
        for row, factor in zip(grid, (1, 10), strict=True):
            for depth, colour in zip((2, 3, 4, 5), house.shades(4), strict=True):
                sizes = [factor * (depth + seed / 10) for seed in (0, 1, 2)]
                middle, low, high = sizes[1], sizes[0], sizes[2]
                for column, key in enumerate(("error_all", "effective_rank")):
                    line = line_of(row[column], colour)
                    assert xs(line) == [1, 10, 100, 1000]
                    expected = [record(step, middle)[key] for step in STEPS[1:]]
                    assert ys(line) == pytest.approx(expected)
                    (corners,) = edges(row[column], colour)
                    for step in STEPS[1:]:
                        assert (step, record(step, low)[key]) in corners
                        assert (step, record(step, high)[key]) in corners
                for number, style in ((1, "-"), (5, ":")):
                    line = line_of(row[2], colour, style)
                    assert ys(line) == pytest.approx([10 * middle / number] * 4)
                assert len(row[2].lines) == 8

    def test_axes_and_legend(self, depths: Path) -> None:
        figure = FIGURES["P2-F1"](depths)
        grid = grid_of(figure)
        assert {axes.get_xscale() for axes in figure.axes} == {"log"}
        assert [axes.get_yscale() for axes in grid[1]] == ["log", "linear", "linear"]
        assert [axes.get_ylabel().partition("\n")[0] for axes in (row[0] for row in grid)] == [
            "gradient descent",
            "Adam",
        ]
        assert [axes.get_title() for axes in grid[0]][1:] == ["effective rank", "singular values"]
        assert words(figure) == [
            *(f"depth {depth}" for depth in (2, 3, 4, 5)),
            r"$\sigma_{1}$",
            r"$\sigma_{5}$",
            "rank of the target",
            "least to most of 3 seeds",
        ]
        assert figure.get_suptitle() == "P2-F1: completion of 100x100, rank 5; no penalty"
        ranks = [line for line in grid[0][1].lines if to_hex(line.get_color()) == to_hex("0.65")]
        assert [ys(line) for line in ranks] == [[5, 5]]

    def test_what_is_missing_is_told(
        self, depths: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        adam = depths / "P2-F1" / "observed-2000" / "adam-2"
        adam.rename(adam.with_name("elsewhere"))
        gd = depths / "P2-F1" / "observed-2000" / "gd-3" / "none" / "seed-1"
        (gd / "completion.jsonl").unlink()
        gd.rmdir()
        grid = grid_of(FIGURES["P2-F1"](depths))
        assert capsys.readouterr().err.splitlines() == [
            f"missing: {gd}",
            *(f"missing: {adam / 'none' / f'seed-{seed}'}" for seed in range(3)),
        ]
        second = line_of(grid[0][0], house.shades(4)[1])  # in the colour of depth 3, as before
        assert ys(second)[0] == pytest.approx(3.1 / 2)  # the median of 3.0 and 3.2
        assert len(grid[1][0].lines) == 3

    def test_runs_that_go_on_are_drawn_so_far(self, depths: Path) -> None:
        group = depths / "P2-F1" / "observed-2000" / "adam-4"
        group.rename(group.with_name("adam-4.partial"))
        for seed in range(3):
            path = group.with_name("adam-4.partial") / "none" / f"seed-{seed}" / "completion.jsonl"
            text = path.read_text()
            path.write_text(text[: -len(text.splitlines()[-1]) // 2])
        axes = FIGURES["P2-F1"](depths).axes[3]
        assert xs(line_of(axes, house.shades(4)[2])) == [1, 10, 100]

    def test_what_diverged_is_told_and_ends(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        directory = noted(tmp_path, "P2-F1", seeds=1) / "observed-2000" / "gd-2" / "none" / "seed-0"
        broken = {
            **record(100, 1.0),
            "error_all": None,
            "effective_rank": None,
            "sigma": {"1": None},
        }
        write(directory, 1.0, steps=(0, 1, 10), end=f"\n{json.dumps(broken)}\n")
        figure = FIGURES["P2-F1"](tmp_path)
        told = capsys.readouterr().err.splitlines()
        assert f"{directory}: diverged; drawn so far" in told
        assert xs(line_of(figure.axes[0], house.shades(4)[0])) == [1, 10]
        assert "no run yet" in [text.get_text() for text in figure.axes[3].texts]
        assert not [text for text in words(figure) if "seeds" in text]

    def test_of_rank_10_there_are_rows_for_both_numbers_and_the_value_after(
        self, tmp_path: Path
    ) -> None:
        directory = noted(tmp_path, "P2-F8", seeds=1, lr=0.01, init="std:0.1")
        for index, place in enumerate(
            f"observed-{observed}/{optimiser}-1{kind}/seed-0"
            for observed in (3000, 3500)
            for optimiser in ("gd", "adam")
            for kind in ("/none", "-penalised/ratio")
        ):
            write(directory / place, 1.0 + index)
        figure = FIGURES["P2-F8"](tmp_path)
        grid = grid_of(figure)
        assert [axes.get_ylabel() for axes in (row[0] for row in grid)] == [
            f"{optimiser}\n{observed} observed"
            for observed in (3000, 3500)
            for optimiser in ("gradient descent", "Adam")
        ]
        for number, row in enumerate(grid):
            for which, colour in enumerate(house.shades(2)):
                size = 1.0 + 2 * number + which
                for sigma, style in zip((1, 10, 11), STYLES, strict=True):
                    line = line_of(row[2], colour, style)
                    assert ys(line)[0] == pytest.approx(10 * size / sigma)
        assert words(figure)[:2] == ["λ = 0", "λ = 0.01"]
        assert figure.get_suptitle().replace("\n", " ").endswith("rate 0.01, start std:0.1")


class TestSamples:
    POINTS = (
        ("gd-3", 2000, 0, 1e-6, 5.5, True),
        ("gd-3", 2000, 1, 1e-4, 6.0, True),
        ("gd-3", 2000, 2, 1e-5, 5.0, False),
        ("gd-3", 3000, 0, 1e-9, 5.0, True),
        ("gd-3", 3000, 1, None, None, False),
        ("nuclear", 3000, 0, 1e-2, 30.0, True),
        ("softimpute-as-p2", 2000, 0, 0.5, 40.0, False),
    )

    @pytest.fixture
    def compared(self, tmp_path: Path) -> Path:
        directory = noted(tmp_path, "P2-F4")
        directory.mkdir()
        names = ("method", "observed", "seed", "error_all", "effective_rank", "converged")
        lines = [
            json.dumps({**dict(zip(names, point, strict=True)), "error_unobserved": 7.0})
            for point in self.POINTS
        ]
        (directory / "points.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path

    def test_lines_are_medians_of_what_did_not_diverge(
        self, compared: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figure = FIGURES["P2-F4"](compared)
        errors, ranks = figure.axes
        blue, green, orange = (house.UNORDERED[index] for index in (0, 2, 4))
        for axes, values in ((errors, (1e-5, 1e-9)), (ranks, (5.5, 5.0))):
            line = line_of(axes, blue)
            assert xs(line) == [2000, 3000]
            assert ys(line) == pytest.approx(values)
        (corners,) = edges(errors, blue)
        assert {(2000, 1e-6), (2000, 1e-4), (3000, 1e-9)} <= set(corners)
        assert ys(line_of(errors, green)) == [1e-2]
        assert ys(line_of(errors, orange, "--")) == [0.5]
        assert (errors.get_yscale(), ranks.get_yscale()) == ("log", "linear")
        told = capsys.readouterr().err.splitlines()
        assert "diverged: gd-3, 3000 observed, seed 1" in told
        assert "missing: adam-1-ratio, 1000 observed, seed 0, 1, 2" in told
        assert "missing: gd-3, 3000 observed, seed 2" in told
        assert len(told) == 1 + 7 * 7 - 1  # all are there of gd-3 and 2000

    def test_hollow_where_some_seed_has_not_converged(self, compared: Path) -> None:
        errors, _ = FIGURES["P2-F4"](compared).axes
        faces = {
            (to_hex(line.get_color()), xs(line)[0]): to_hex(line.get_markerfacecolor())
            for line in errors.lines
            if line.get_marker() == "o"
        }
        blue, green, orange = (to_hex(house.UNORDERED[index]) for index in (0, 2, 4))
        white = to_hex("white")
        assert faces == {
            (blue, 2000): white,
            (blue, 3000): white,
            (green, 3000): green,
            (orange, 2000): white,
        }

    def test_the_legend_has_what_is_there(self, compared: Path) -> None:
        assert words(FIGURES["P2-F4"](compared)) == [
            "gradient descent, depth 3",
            "minimum nuclear norm",
            "SoftImpute as in P2",
            "not all seeds converged",
            "rank of the target",
            "least to most of 3 seeds",
        ]

    def test_every_method_has_a_look_of_its_own(self) -> None:
        from trainers.figures.p2samples import METHODS

        assert set(METHODS) == set(samples.ALL_METHODS)
        assert len({look[1:] for look in METHODS.values()}) == len(METHODS)

    def test_damaged_points_are_refused(self, compared: Path) -> None:
        (compared / "P2-F4" / "points.jsonl").write_text("7\n")
        with pytest.raises(InputRejected, match=r"points\.jsonl: holds no points"):
            FIGURES["P2-F4"](compared)


def test_bands_leave_out_what_is_not_finite() -> None:
    inf, nan = float("inf"), float("nan")
    found = bands.band([(2, 1.0), (1, 3.0), (2, 5.0), (3, nan), (2, inf), (2, 2.0)])
    assert (found.x, found.middle, found.low, found.high) == ([1, 2], [3, 2], [3, 1], [3, 5])


@pytest.mark.parametrize("name", ["P2-F1", "P2-F4"])
class TestNothing:
    def drawn(self, name: str, runs: Path) -> Callable[[], Figure]:
        return lambda: catalogue.draw(name, runs, (), None)

    def test_that_was_not_run_names_the_command(self, name: str, tmp_path: Path) -> None:
        command = f"python -m trainers curves {name} --out {tmp_path}"
        with pytest.raises(InputRejected, match=f"{name} has not been run; {command}"):
            self.drawn(name, tmp_path)()

    def test_that_is_there_yet(self, name: str, tmp_path: Path) -> None:
        noted(tmp_path, name)
        with pytest.raises(InputRejected, match=r"has n.*; python -m trainers curves"):
            self.drawn(name, tmp_path)()


@pytest.mark.parametrize("name", ["P2-F2", "P2-F3"])
def test_from_the_first_command_to_the_picture(name: str, tmp_path: Path) -> None:
    options = ("--scale", "0.1", "--iterations", "3", "--seeds", "2", "--jobs", "1")
    assert main(["curves", name, "--out", str(tmp_path), *options]) == 0
    code = (
        "import sys, trainers.__main__ as m\n"
        f"assert m.main(['figure', {name!r}, {str(tmp_path)!r}]) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / name}.png\n", "")
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
