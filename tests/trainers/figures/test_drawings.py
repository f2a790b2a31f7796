"""What is drawn is what the runs hold: read back from the axes, counted by NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import rankscope
from rankscope.errors import UsageError
from rankscope.how import How
from tests import rundirs
from tests.trainers.figures import made
from trainers.figures import house
from trainers.figures.catalogue import draw
from trainers.imageargs import Args
from trainers.recipes.records import Drawing, Panel

RATES = (0.01, 0.1, 1.0)
EVERY_EPOCH = list(range(made.EPOCHS + 1))


def drawn(runs: Path, *eps: float, width: float = 7.0) -> Figure:
    return draw("X-F1", runs, eps, width)


def luminance(colour: object) -> float:
    """How light a colour is, 0 to 1 (ITU-R BT.709)."""
    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panels = [
        made.line(f"B = {size}", "mu", *(made.chosen(mu, size) for mu in RATES)) for size in (4, 16)
    ]
    recipe = made.recipe("per_epoch", *panels, accuracies=True)
    return made.noted(tmp_path_factory.mktemp("runs"), recipe)


class TestPerEpoch:
    def test_the_lines_are_the_average_ranks(self, runs: Path) -> None:
        first, _, second, _ = drawn(runs).axes
        for axes, size in ((first, 4), (second, 16)):
            assert axes.get_title() == f"B = {size}"
            lines = made.lines_of(axes)
            for mu in RATES:
                line = lines[f"μ = {mu:g}"]
                assert made.x_of(line) == EVERY_EPOCH
                expected = [
                    made.rank_of(made.chosen(mu, size), epoch, 1e-3) for epoch in EVERY_EPOCH
                ]
                assert made.y_of(line) == pytest.approx(expected)
                assert expected[-1] < expected[0]
            assert set(made.y_of(lines["full rank"])) == {made.SIDE}
        assert first.get_ylim() == second.get_ylim()  # to be compared by eye

    def test_they_are_what_analyze_says(self, runs: Path) -> None:
        first = drawn(runs).axes[0]
        for mu in RATES:
            found = rankscope.analyze(runs / made.chosen(mu, 4).out, how=How(store=False))
            line = made.lines_of(first)[f"μ = {mu:g}"]
            assert made.y_of(line) == [row["rank"] for row in found.summary]

    def test_the_accuracies_are_those_of_the_log(self, runs: Path) -> None:
        _, below, *_ = drawn(runs).axes
        lines = made.lines_of(below)
        for mu in RATES:
            logs = [made.log_of(made.chosen(mu, 4), epoch) for epoch in EVERY_EPOCH]
            train, test = (lines[f"{one} accuracy, μ = {mu:g}"] for one in ("train", "test"))
            assert made.y_of(train) == [log.train_accuracy for log in logs]
            assert made.y_of(test) == [log.test_accuracy for log in logs]
            assert (train.get_linestyle(), test.get_linestyle()) == ("--", "-")
            assert train.get_color() == test.get_color()

    def test_other_thresholds_are_a_row_each(self, runs: Path) -> None:
        chosen = (0.3, 0.01)
        figure = drawn(runs, *chosen)
        assert len(figure.axes) == 6
        for axes, eps in zip(figure.axes, chosen, strict=False):
            assert axes.get_ylabel() == f"average rank\nε = {eps:g}"
            line = made.lines_of(axes)["μ = 0.1"]
            expected = [made.rank_of(made.chosen(0.1, 4), epoch, eps) for epoch in EVERY_EPOCH]
            assert made.y_of(line) == pytest.approx(expected)

    def test_more_thresholds_than_rows_are_refused(self, runs: Path) -> None:
        with pytest.raises(UsageError, match="can show 4 thresholds, and 5 were given"):
            drawn(runs, *(0.1, 0.2, 0.3, 0.4, 0.5))

    def test_one_legend_names_every_line_in_its_colour(self, runs: Path) -> None:
        figure = drawn(runs)
        entries = made.legend_of(figure)
        names = [f"μ = {mu:g}" for mu in RATES]
        assert list(entries) == [*names, "full rank", "train accuracy", "test accuracy"]
        for axes in (figure.axes[0], figure.axes[2]):
            for name in names:
                assert made.lines_of(axes)[name].get_color() == entries[name].get_color()

    @pytest.mark.parametrize("width", [3.3, 7.0])
    def test_the_legend_covers_nothing(self, runs: Path, width: float) -> None:
        figure = drawn(runs, width=width)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        for axes in figure.axes:
            assert not box.overlaps(axes.get_tightbbox() or box)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1

    def test_panels_that_do_not_fit_side_by_side_stand_below_each_other(self, runs: Path) -> None:
        for width, columns in ((7.0, 2), (3.3, 1)):
            figure = drawn(runs, width=width)
            figure.draw_without_rendering()
            assert figure.get_figwidth() == width
            assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns

    def test_bursts_between_epochs_are_no_points(self, tmp_path: Path) -> None:
        args = made.chosen()
        made.write(tmp_path, args, burst=True)
        made.noted(tmp_path, made.recipe("per_epoch", made.line("B = 8", "mu", args)))
        (axes,) = drawn(tmp_path).axes
        assert made.x_of(made.lines_of(axes)["μ = 0.1"]) == EVERY_EPOCH

    def test_seeds_are_lines_of_one_colour(self, tmp_path: Path) -> None:
        runs = [made.chosen(mu, seed=seed) for mu in (0.1, 0.5) for seed in (0, 1, 2)]
        made.noted(tmp_path, made.recipe("per_epoch", made.line("B = 8", "mu", *runs)))
        figure = drawn(tmp_path)
        lines = [line for line in figure.axes[0].get_lines() if line.get_label() == "μ = 0.5"]
        assert len(lines) == 3
        assert len({line.get_color() for line in lines}) == 1
        assert list(made.legend_of(figure)) == ["μ = 0.1", "μ = 0.5", "full rank"]


class TestPanelsThatVaryDifferentThings:
    def test_each_has_a_legend_of_its_own(self, tmp_path: Path) -> None:
        sizes = made.line("μ = 0.1", "batch_size", made.chosen(batch=4), made.chosen(batch=16))
        rates = made.line("B = 8", "mu", *(made.chosen(mu) for mu in RATES))
        made.noted(tmp_path, made.recipe("per_epoch", sizes, rates, accuracies=True))
        figure = drawn(tmp_path)
        assert list(made.legend_of(figure)) == ["full rank", "train accuracy", "test accuracy"]
        told = {"B": ["4", "16"], "μ": ["0.01", "0.1", "1"]}
        figure.draw_without_rendering()
        for (title, values), (above, below) in zip(
            told.items(), (figure.axes[:2], figure.axes[2:]), strict=True
        ):
            legend = below.get_legend()
            assert legend is not None
            assert legend.get_title().get_text() == title
            assert [text.get_text() for text in legend.get_texts()] == values
            lines = made.lines_of(above)
            for value, handle in zip(values, legend.get_lines(), strict=True):
                assert handle.get_color() == lines[f"{title} = {value}"].get_color()
            assert legend.get_window_extent().y1 < below.xaxis.label.get_window_extent().y0

    def test_the_colours_of_each_are_ordered(self) -> None:
        sizes = made.line("μ = 0.1", "batch_size", made.chosen(batch=4), made.chosen(batch=16))
        rates = made.line("B = 8", "mu", *(made.chosen(mu) for mu in RATES))
        colours = house.run_colours(made.manifest_panels(made.recipe("per_epoch", sizes, rates)))
        light = [luminance(colour) for colour in colours.values()]
        assert list(colours) == ["B = 4", "B = 16", "μ = 0.01", "μ = 0.1", "μ = 1"]
        assert light[:2] == sorted(light[:2])
        assert light[2:] == sorted(light[2:])


SIZES, DECAYS = (4, 16), (0.0, 0.02, 0.05)


def pairs(*seeds: int) -> Panel:
    runs = [
        made.chosen(batch=size, wd=wd, seed=seed)
        for wd in DECAYS
        for size in SIZES
        for seed in seeds
    ]
    return Panel("μ = 0.1", tuple(runs), ("weight_decay", "batch_size"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.noted(tmp_path_factory.mktemp("sweep"), made.recipe("grid", pairs(0)))


class TestGrid:
    def test_each_cell_says_its_rank(self, sweep: Path) -> None:
        axes = drawn(sweep).axes[0]
        (image,) = axes.get_images()
        ranks = [
            [made.rank_of(made.chosen(batch=size, wd=wd), made.EPOCHS, 1e-3) for wd in DECAYS]
            for size in SIZES
        ]
        shown = np.asarray(image.get_array())
        np.testing.assert_allclose(shown, ranks)
        assert len(np.unique(shown)) > 2
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        for y, row in enumerate(ranks):
            for x, rank in enumerate(row):
                assert texts[x, y] == f"{rank:.1f}"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.02", "0.05"]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["4", "16"]
        assert axes.get_xlabel() == "weight decay (2λ)"
        assert axes.get_ylabel() == "batch size B"
        below, above = axes.get_ylim()
        assert below < above

    def test_the_numbers_stand_out_from_their_cells(self, sweep: Path) -> None:
        axes = drawn(sweep).axes[0]
        (image,) = axes.get_images()
        cells = image.to_rgba(np.asarray(image.get_array()))
        for text in axes.texts:
            x, y = text.get_position()
            behind = cells[int(y), int(x), :3]
            assert abs(luminance(behind) - luminance(text.get_color())) > 0.35

    def test_of_seeds_the_mean(self, tmp_path: Path) -> None:
        made.noted(tmp_path, made.recipe("grid", pairs(0, 1)))
        (image,) = drawn(tmp_path).axes[0].get_images()
        ranks = [
            made.rank_of(made.chosen(batch=16, wd=0.02, seed=seed), made.EPOCHS, 1e-3)
            for seed in (0, 1)
        ]
        assert np.asarray(image.get_array())[1, 1] == pytest.approx(np.mean(ranks))

    def test_missing_cells_are_empty_and_unfinished_ones_marked(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing, short = made.chosen(batch=4, wd=0.0), made.chosen(batch=16, wd=0.05)
        made.write(tmp_path, short, epochs=2)
        made.noted(tmp_path, made.recipe("grid", pairs(0)), (str(missing.out),))
        axes, bar = drawn(tmp_path).axes
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        assert texts[0, 0] == "-"
        assert texts[2, 1] == f"{made.rank_of(short, 2, 1e-3):.1f}*"
        assert bar.get_xlabel() == "average rank at the end, ε = 0.001  (* not finished)"
        first, second = sorted(capsys.readouterr().err.splitlines())
        assert first.endswith("wd0.05-s0: unfinished, epoch 2 of 4; drawn so far")
        assert first.startswith(str(tmp_path))
        assert second == f"missing: 1 of 6 runs of X-F1 is not there: {missing.out}"

    def test_a_second_threshold_is_refused(self, sweep: Path) -> None:
        with pytest.raises(UsageError, match="can show 1 thresholds"):
            drawn(sweep, 0.1, 0.2)


class TestNormRatio:
    RUNS = tuple(made.chosen(mu) for mu in (0.1, 0.5))

    @pytest.mark.parametrize("burst", [False, True])
    def test_axes_a_run_and_a_line_a_layer(self, tmp_path: Path, burst: bool) -> None:
        for args in self.RUNS:
            made.write(tmp_path, args, burst=burst)
        made.noted(tmp_path, made.recipe("norm_ratio", made.line("B = 8", "mu", *self.RUNS)))
        first, second, _ = drawn(tmp_path).axes
        for args, axes in zip(self.RUNS, (first, second), strict=True):
            assert axes.get_title() == f"μ = {args.mu:g}"
            layers = {k: v for k, v in made.lines_of(axes).items() if k in made.LAYERS}
            assert tuple(layers) == made.LAYERS  # from the input on, without the head
            light = [luminance(line.get_color()) for line in layers.values()]
            assert light == sorted(light)
            for name, line in layers.items():
                norms = [np.linalg.norm(made.weights(args, e)[name]) for e in EVERY_EPOCH]
                assert made.x_of(line) == EVERY_EPOCH[1:]
                expected = np.divide(norms[:-1], norms[1:])
                np.testing.assert_allclose(made.y_of(line), expected, 1e-6)

    def test_as_the_analysis_has_it(self, tmp_path: Path) -> None:
        made.noted(tmp_path, made.recipe("norm_ratio", made.line("B = 8", "mu", *self.RUNS)))
        axes = drawn(tmp_path).axes[0]
        assert axes.get_ylabel() == r"$\|W_{t-1}\|\,/\,\|W_t\|$"
        rows = rankscope.analyze(tmp_path / self.RUNS[0].out, how=How(store=False)).matrices
        for name in made.LAYERS:
            ratios = [row["norm_ratio"] for row in rows if row["name"] == name and row["step"]]
            line = made.lines_of(axes)[name]
            np.testing.assert_allclose(made.y_of(line), ratios)

    def test_there_is_no_threshold_to_choose(self, tmp_path: Path) -> None:
        made.noted(tmp_path, made.recipe("norm_ratio", made.line("B = 8", "mu", *self.RUNS)))
        with pytest.raises(UsageError, match="can show 0 thresholds, and 1 were given"):
            drawn(tmp_path, 0.1)


class TestSpectra:
    RUNS = tuple(made.chosen(batch=size) for size in (4, 8, 16))

    def test_axes_a_layer_and_a_line_a_run(self, tmp_path: Path) -> None:
        panel = made.line("μ = 0.1", "batch_size", *self.RUNS)
        made.noted(tmp_path, made.recipe("spectra", panel))
        figure = drawn(tmp_path)
        for axes, name in zip(figure.axes, made.LAYERS, strict=True):
            assert axes.get_title() == name.removesuffix(".weight")
            assert axes.get_yscale() == "log"
            for args in self.RUNS:
                line = made.lines_of(axes)[f"B = {args.batch_size}"]
                matrix = made.weights(args, made.EPOCHS)[name]
                sigma = np.linalg.svd(matrix, compute_uv=False)
                assert made.x_of(line) == list(range(1, made.SIDE + 1))
                found = made.y_of(line)
                np.testing.assert_allclose(found, sigma, rtol=1e-5, atol=1e-12)
        assert list(made.legend_of(figure)) == ["B = 4", "B = 8", "B = 16"]

    def test_what_is_missing_is_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        panel = made.line("μ = 0.1", "batch_size", *self.RUNS)
        made.noted(tmp_path, made.recipe("spectra", panel), (str(self.RUNS[0].out),))
        figure = drawn(tmp_path)
        assert list(made.legend_of(figure)) == ["B = 8", "B = 16"]
        assert capsys.readouterr().err.count("is not there") == 1

    def test_the_one_panel_is_in_the_heading(self, tmp_path: Path) -> None:
        panel = made.line("μ = 0.1", "batch_size", *self.RUNS)
        made.noted(tmp_path, made.recipe("spectra", panel))
        assert drawn(tmp_path).get_suptitle() == "X-F1: what it shows; μ = 0.1"


class TestBound:
    ARGS = made.chosen(mu=0.5, batch=2, wd=0.5)
    EPS = (0.05, 0.3, 0.9)

    def test_the_rank_and_the_bounds_over_eps(self, tmp_path: Path) -> None:
        panel = made.line("B = 2, μ = 0.5", "weight_decay", self.ARGS)
        made.noted(tmp_path, made.recipe("bound", panel, eps=self.EPS[::-1], accuracies=True))
        axes, beside = drawn(tmp_path).axes
        assert axes.get_title() == "weight decay = 0.5"
        lines = made.lines_of(axes)
        ranks = [made.rank_of(self.ARGS, made.EPOCHS, eps) for eps in self.EPS]
        # Theorem 3.3 with lambda half of PyTorch's weight decay, m_l = 1.
        closed = [2 * np.log(2 / eps) / (2 * 0.5 * 0.25) for eps in self.EPS]
        # The least n with (1 - mu wd)^n <= eps / 2.
        exact = [2 * next(n for n in range(99) if 0.75**n <= eps / 2) for eps in self.EPS]
        expected = {
            "average rank": ranks,
            "bound, closed form": closed,
            "bound, exact count": exact,
        }
        for name, values in expected.items():
            assert made.x_of(lines[name]) == list(self.EPS)
            assert made.y_of(lines[name]) == pytest.approx(values), name
        assert axes.get_yscale() == "symlog"
        train = made.lines_of(beside)["train accuracy"]
        assert made.x_of(train) == EVERY_EPOCH

    @pytest.mark.parametrize("inputs", [1, 4])
    def test_the_first_and_the_last_learning_rate(self, tmp_path: Path, inputs: int) -> None:
        # P1's Fig. 18 as it was run: 14228 at eps 0.3 (docs/theory.md), and after three drops by
        # 10 a thousand times as much.
        args = made.chosen(mu=0.1, batch=6, wd=8e-3)
        recipe = rundirs.Recipe(
            batch=6,
            lr=0.1,
            weight_decay=8e-3,
            schedule=((0, 0.1), (10, 0.01), (20, 1e-3), (30, 1e-4)),
            inputs=inputs,
            unmarked=(made.HEAD,),
        )
        snapshots = {step: made.weights(args, step / 10) for step in (0, 40)}
        logs = {0: made.log_of(args, 0), 40: made.log_of(args, made.EPOCHS)}
        rundirs.write_run(tmp_path / args.out, snapshots, recipe, logs)
        panel = made.line("B = 6, μ = 0.1", "weight_decay", args)
        made.noted(tmp_path, made.recipe("bound", panel, eps=self.EPS))
        (axes,) = drawn(tmp_path).axes
        lines = made.lines_of(axes)
        assert "bound, closed form" not in lines
        at = self.EPS.index(0.3)
        first, last = (
            made.y_of(lines[f"bound, closed form, {which} learning rate"])[at]
            for which in ("first", "last")
        )
        assert round(first / inputs) == 14228
        assert last == pytest.approx(1000 * first)

    def test_no_average_of_measured_bounds_of_some_matrices(self, tmp_path: Path) -> None:
        whole = made.weights

        def shrinking(args: Args, epoch: float) -> dict[str, made.Array]:
            found = whole(args, epoch)
            # All that is left of its start may be in it, so that no snapshot is far enough back.
            found[made.LAYERS[1]] = found[made.LAYERS[1]] * 1e-6**epoch
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(made, "weights", shrinking)
            made.write(tmp_path, self.ARGS)
        panel = made.line("B = 2, μ = 0.5", "weight_decay", self.ARGS)
        made.noted(tmp_path, made.recipe("bound", panel, eps=self.EPS))
        table = rankscope.analyze(tmp_path / self.ARGS.out, eps=self.EPS, how=How(store=False))
        last = [row for row in table.matrices if row["step"] == 40 and row["averaged"]]
        without = {row["name"] for row in last if row["bound_measured@0.3"] is None}
        assert without == {made.LAYERS[1]}
        (axes,) = drawn(tmp_path).axes
        assert "bound, measured norms" not in made.lines_of(axes)
        assert "bound, exact count" in made.lines_of(axes)

    @pytest.mark.parametrize("metric", ["bound_closed", "bound_exact", "bound_measured"])
    def test_no_average_where_a_matrix_has_no_bound(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str
    ) -> None:
        panel = made.line("B = 2, μ = 0.5", "weight_decay", self.ARGS)
        made.noted(tmp_path, made.recipe("bound", panel, eps=self.EPS))
        whole = rankscope.analyze

        def analyze(*paths: Path, **options: Any) -> rankscope.Analysis:
            table = whole(*paths, **options)
            for row in table.matrices:
                for eps in self.EPS:
                    row[f"{metric}@{eps:g}"] = 5100
                if row["name"] == made.LAYERS[1]:
                    row[f"{metric}@0.3"] = None
                if row["name"] == made.HEAD:  # which is in no average
                    row[f"{metric}@0.9"] = None
            return table

        monkeypatch.setattr("trainers.figures.measured.rankscope.analyze", analyze)
        (axes,) = drawn(tmp_path).axes
        name = {"closed": "closed form", "exact": "exact count", "measured": "measured norms"}
        line = made.lines_of(axes)[f"bound, {name[metric.removeprefix('bound_')]}"]
        assert made.y_of(line) == pytest.approx([5100, np.nan, 5100], nan_ok=True)

    def test_where_there_is_no_bound_there_is_no_line(self, tmp_path: Path) -> None:
        args = made.chosen(wd=0.0)
        made.noted(tmp_path, made.recipe("bound", made.line("B = 8", "mu", args), eps=self.EPS))
        (axes,) = drawn(tmp_path).axes
        assert set(made.lines_of(axes)) == {"average rank", "full rank"}


class TestMissing:
    @pytest.mark.parametrize("drawing", ["per_epoch", "spectra", "norm_ratio", "bound"])
    def test_panels_without_runs_are_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawing: Drawing
    ) -> None:
        runs = {size: [made.chosen(mu, size) for mu in RATES] for size in (4, 8, 16)}
        panels = [made.line(f"B = {size}", "mu", *some) for size, some in runs.items()]
        absent = [str(one.out) for size in (4, 16) for one in runs[size]]
        made.noted(tmp_path, made.recipe(drawing, *panels), tuple(absent))
        figure = drawn(tmp_path)
        shown = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        assert any("B = 8" in text for text in shown)
        assert not any("B = 4" in text or "B = 16" in text for text in shown)
        if drawing == "per_epoch":
            assert len(figure.axes) == 1
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"missing: 6 of 9 runs of X-F1 are not there: {absent[0]}, ..."
        assert second == "2 of 3 panels have no run yet: B = 4; B = 16"

    def test_a_grid_without_runs_is_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        absent = made.chosen(mu=0.5)
        other = Panel("μ = 0.5", (absent,), ("weight_decay", "batch_size"))
        made.noted(tmp_path, made.recipe("grid", pairs(0), other), (str(absent.out),))
        axes, _ = drawn(tmp_path).axes
        assert axes.get_title() == "μ = 0.1"
        assert "1 of 2 panels have no run yet: μ = 0.5\n" in capsys.readouterr().err

    def test_an_unfinished_run_is_drawn_so_far(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        args = made.chosen()
        made.write(tmp_path, args, epochs=2)
        made.noted(tmp_path, made.recipe("per_epoch", made.line("B = 8", "mu", args)))
        (axes,) = drawn(tmp_path).axes
        assert made.x_of(made.lines_of(axes)["μ = 0.1"]) == [0, 1, 2]
        told = f"{tmp_path / args.out}: unfinished, epoch 2 of 4; drawn so far\n"
        assert capsys.readouterr().err == told

    @pytest.mark.parametrize("opened", [False, True])
    def test_a_run_that_has_just_begun_is_missing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], opened: bool
    ) -> None:
        begun, there = made.chosen(0.2), made.chosen()
        if opened:
            made.write(tmp_path, begun, epochs=-1)
        else:
            (tmp_path / begun.out).mkdir()
            (tmp_path / begun.out / "run.log").write_text("$ python -m trainers classify\n")
        recipe = made.recipe("per_epoch", made.line("B = 8", "mu", begun, there))
        made.noted(tmp_path, recipe)
        assert list(made.legend_of(drawn(tmp_path))) == ["μ = 0.1", "full rank"]
        told = f"missing: 1 of 2 runs of X-F1 has no snapshot yet: {begun.out}\n"
        assert capsys.readouterr().err == told

    def test_a_damaged_one_is_told_by_itself(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged, there = made.chosen(0.2), made.chosen()
        recipe = made.recipe("per_epoch", made.line("B = 8", "mu", damaged, there))
        made.noted(tmp_path, recipe)
        (tmp_path / damaged.out / "run.json").write_text("{")
        assert list(made.legend_of(drawn(tmp_path))) == ["μ = 0.1", "full rank"]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"not drawn: {tmp_path / damaged.out}")

    def test_no_average_over_a_part_of_the_layers(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        args = made.chosen()
        whole = made.weights

        def diverging(args: Args, epoch: float) -> dict[str, made.Array]:
            found = whole(args, epoch)
            if epoch > 2:
                found[made.LAYERS[1]] = found[made.LAYERS[1]] * np.nan
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(made, "weights", diverging)
            made.write(tmp_path, args)
        made.noted(tmp_path, made.recipe("per_epoch", made.line("B = 8", "mu", args)))
        (axes,) = drawn(tmp_path).axes
        found = made.y_of(made.lines_of(axes)["μ = 0.1"])
        assert np.isnan(found).tolist() == [False, False, False, True, True]
        assert "from step 30 on, weights without a spectrum" in capsys.readouterr().err


class TestColours:
    def test_numbers_are_ordered_dark_to_light(self) -> None:
        runs = [made.chosen(mu) for mu in (1.0, 0.01, 0.5)]
        panels = made.manifest_panels(made.recipe("per_epoch", made.line("B = 8", "mu", *runs)))
        colours = house.run_colours(panels)
        assert list(colours) == ["μ = 0.01", "μ = 0.5", "μ = 1"]
        light = [luminance(colour) for colour in colours.values()]
        assert light == sorted(light)
        assert light[-1] < 0.75  # to be seen on white

    def test_names_have_no_order(self) -> None:
        runs = [made.other(made.chosen(), data=data) for data in ("mnist", "digits")]
        panels = made.manifest_panels(made.recipe("per_epoch", made.line("any", "data", *runs)))
        assert house.run_colours(panels) == {
            "data = mnist": house.UNORDERED[0],
            "data = digits": house.UNORDERED[1],
        }

    def test_a_value_has_one_colour_in_all_panels(self) -> None:
        panels = made.manifest_panels(
            made.recipe(
                "per_epoch",
                made.line("B = 8", "mu", made.chosen(0.1), made.chosen(0.5)),
                made.line("B = 4", "mu", made.chosen(0.5, 4), made.chosen(1.0, 4)),
            )
        )
        assert list(house.run_colours(panels)) == ["μ = 0.1", "μ = 0.5", "μ = 1"]
