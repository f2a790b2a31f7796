"""Which figure is drawn of what, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from rankscope.api import analyze
from rankscope.cli.plot import WIDTH
from rankscope.cli.plot import plot as command
from rankscope.errors import UsageError
from rankscope.figures import KINDS, PAGE, bound, draw, draw_table, groups, norm_ratio
from rankscope.how import How
from rankscope.plotting import plot
from tests.figures import made

ROOT = Path(__file__).parents[2]

HOW = How(store=False, workers=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    return made.saved(path, {"a.weight": made.matrix(6, 6, 3), "b.weight": made.matrix(6, 6, 5)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.run(tmp_path_factory.mktemp("runs") / "run", 3, 2)


def test_the_command_line_has_the_same_kinds_and_width() -> None:
    options = get_type_hints(command)["kind"]
    (literal,) = (one for one in get_args(options) if get_origin(one) is Literal)
    assert get_args(literal) == tuple(kind.name for kind in KINDS)
    assert WIDTH == PAGE


def test_what_is_usual(model: Path, run: Path) -> None:
    assert "singular values" in plot(model, how=HOW).get_suptitle()
    assert "rank over training" in plot(run, how=HOW).get_suptitle()
    sweep = plot(model, run, how=HOW)
    assert sweep.get_suptitle()
    assert "stable rank" in plot(model, metric="stable_rank", how=HOW).get_suptitle()


@pytest.mark.parametrize("kind", ["spectrum", "rank", "norm-ratio", "bound"])
def test_a_checkpoint_among_runs(model: Path, tmp_path: Path, kind: str) -> None:
    runs = [made.run(tmp_path / name, 2, 2) for name in ("one", "two")]
    figure = plot(*runs, model, kind=kind, how=HOW)
    told = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    told |= {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
    told |= set(made.titled(figure))
    shown = {name for name in told if name.endswith(("one", "two", "m.safetensors"))}
    assert len(shown) == (2 if kind == "norm-ratio" else 3)


def test_weights_in_memory(model: Path) -> None:
    figure = plot({"w": np.diag([3.0, 4.0])}, eps=(0.1, 0.7), width=4, how=HOW)
    (axes,) = figure.axes
    assert made.y_of(axes.get_lines()[0]) == pytest.approx([0.8, 0.6])
    assert figure.get_figwidth() == 4
    assert figure.get_suptitle() == "memory: singular values"


def test_a_metric_with_parameters(model: Path) -> None:
    figure = plot(model, kind="heatmap", metric="schatten_norm(p=0.5)", how=HOW)
    assert "schatten norm(p=0.5)" in figure.get_suptitle()


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if not kind.spectra])
def test_an_analysis_draws_what_its_rows_tell(run: Path, kind: str) -> None:
    table = analyze(run, metrics="rank", how=HOW)
    drawn, expected = table.plot(kind), plot(run, kind=kind, how=HOW)
    assert drawn.get_suptitle() == expected.get_suptitle()
    for axes, others in zip(drawn.axes, expected.axes, strict=True):
        lines = [made.y_of(line) for line in axes.get_lines()]
        np.testing.assert_equal(lines, [made.y_of(line) for line in others.get_lines()])


def test_an_analysis_read_back_draws_the_same(run: Path, tmp_path: Path) -> None:
    table = analyze(run, metrics="rank", how=HOW)
    table.save(tmp_path / "t.json")
    lines = type(table).load(tmp_path / "t.json").plot().axes[0].get_lines()
    expected = table.plot().axes[0].get_lines()
    assert [made.y_of(line) for line in lines] == [made.y_of(line) for line in expected]


class TestRefused:
    def test_spectra_of_an_analysis(self, model: Path) -> None:
        table = analyze(model, metrics="rank", how=HOW)
        with pytest.raises(UsageError, match=r"keeps no singular values; rankscope\.plot"):
            table.plot("spectrum")
        assert "rank" in table.plot().get_suptitle()

    def test_kinds_and_metrics_that_are_none(self, run: Path) -> None:
        table = analyze(run, metrics="rank", how=HOW)
        with pytest.raises(UsageError, match="no figure 'pie', expected one of spectrum, rank"):
            plot(run, kind="pie")
        with pytest.raises(UsageError, match="spectrum shows no metric that could be chosen"):
            plot(run, kind="spectrum", metric="rank")
        with pytest.raises(
            UsageError, match="metric 'stable_rank' was not measured; there are rank"
        ):
            draw_table(table, "rank", "stable_rank")

    @pytest.mark.parametrize("width", [0, 2.9, 41, float("nan"), float("inf")])
    def test_widths(self, model: Path, width: float) -> None:
        with pytest.raises(UsageError, match="expected 3 to 40 inches"):
            plot(model, width=width, how=HOW)

    def test_more_thresholds_than_there_is_room_for(self, model: Path) -> None:
        with pytest.raises(UsageError, match="room for 4 eps, and 5 were given"):
            draw(made.scene(model, eps=(0.1, 0.2, 0.3, 0.4, 0.5)))

    def test_without_matplotlib_the_extra_is_named(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import importlib.util

        real = importlib.util.find_spec
        monkeypatch.delitem(sys.modules, "matplotlib")
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name)
        )
        with pytest.raises(UsageError, match=r"pip install 'rankscope\[plot\]'"):
            plot(model, how=HOW)


def test_the_page_of_the_command_tells_how_many_there_is_room_for() -> None:
    page = " ".join((ROOT / "docs" / "commands" / "plot.md").read_text().split())
    assert (
        f"`heatmap`, and `rank` over layers, have room for {groups.MANY_SOURCES} checkpoints or "
        f"runs, `norm-ratio` for {norm_ratio.MANY_RUNS}, `bound` for {bound.MANY_RUNS};"
    ) in page
