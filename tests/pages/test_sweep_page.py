"""The page of several runs. The oracles are `rankscope.analyze` and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from rankscope.api import Analysis
from rankscope.pages import sweep
from rankscope.scene import Scene
from rankscope.snapshots import LogRecord
from rankscope.views.numbers import number
from rankscope.views.verdicts import verdicts
from tests.pages.browser import Opened, accessible, opened
from tests.pages.charts import (
    as_opened,
    choose,
    drawn,
    numbers,
    overflow,
    rows,
    shared_page,
    unfolded,
    value,
)
from tests.pages.models import HOSTILE, reported, saved
from tests.rundirs import Array, Recipe, ask, write_run

EPS = 0.05
METRICS = ("rank", "effective_rank", "stable_rank")
STEPS = (0, 5, 10)
BATCHES = (2, 4, 8)
SEEDS = (0, 1)
SHAPES = {"hidden.0.weight": (14, 12), "hidden.1.weight": (12, 12), "output.weight": (4, 12)}


def weights(name: str, batch: int, decay: float, seed: int, step: int) -> Array:
    """A steeper spectrum for smaller batches and more decay, as Prediction 4.1 has it."""
    tall, wide = SHAPES[name]
    k = min(tall, wide)
    rng = np.random.default_rng([seed, batch, step, len(name)])
    left = np.linalg.qr(rng.standard_normal((tall, k)))[0]
    right = np.linalg.qr(rng.standard_normal((wide, k)))[0]
    rate = (0.2 + 0.6 * decay / batch) * (1 + step / 5) * (1 + 0.02 * seed)
    return np.asarray(left * np.exp(-rate * np.arange(k)) @ right.T)


def written(path: Path, batch: int, decay: float, seed: int) -> Path:
    snapshots = {s: {n: weights(n, batch, decay, seed, s) for n in SHAPES} for s in STEPS}
    recipe = Recipe(batch=batch, weight_decay=decay, seed=seed, unmarked=("output.weight",))
    logs = {
        s: LogRecord(epoch=s // 5, test_accuracy=s / 20 + batch / 100, train_accuracy=s / 18)
        for s in STEPS
    }
    return write_run(path, snapshots, recipe, logs)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep") / "runs"
    for batch in BATCHES:
        for seed in SEEDS:
            written(root / f"B{batch}-s{seed}", batch, 0.5, seed)
    written(root / "B4-heavy", 4, 1.0, 0)
    written(root / "B4-none", 4, 0.0, 0)
    return root


@pytest.fixture(scope="module")
def table(path: Path) -> Analysis:
    return ask(path, eps=EPS, metrics=METRICS)


@pytest.fixture(scope="module")
def file(path: Path) -> Path:
    return reported(path.parent / "page.html", path, eps=EPS, metrics=METRICS)


@pytest.fixture(scope="module")
def shared(browser: Browser, file: Path) -> Iterator[Opened]:
    with shared_page(browser, file) as found:
        yield found


@pytest.fixture
def page(shared: Opened) -> Opened:
    return as_opened(shared)


def ends(table: Analysis, key: str) -> dict[str, Any]:
    """Where each run ended, by its folder's name."""
    return {Path(run["source"]).name: run[key] for run in table.runs}


def dots(page: Opened, which: int = 0) -> dict[str, tuple[float, float]]:
    """The runs as they are drawn: place and value by the folder's name."""
    return {
        text.split(",")[0]: (x, y)
        for one in drawn(page, "final", which)["traces"]
        if one["mode"] == "markers"
        for text, x, y in zip(one["text"], one["x"], one["y"], strict=True)
    }


class TestWhereTheRunsEnded:
    def test_a_dot_is_a_run(self, page: Opened, table: Analysis) -> None:
        ranks, batches = ends(table, "rank"), ends(table, "B")
        assert dots(page) == {name: (batches[name], ranks[name]) for name in ranks}
        assert len(ranks) == 8

    def test_lines_are_means_over_seeds(self, page: Opened, table: Analysis) -> None:
        ranks = ends(table, "rank")
        lines = [one for one in drawn(page, "final")["traces"] if one["mode"] == "lines"]
        (line,) = [one for one in lines if one["meta"] == "weight decay 0.5"]
        assert line["x"] == list(BATCHES)
        means = [np.mean([ranks[f"B{batch}-s{seed}"] for seed in SEEDS]) for batch in BATCHES]
        assert line["y"] == pytest.approx(means)

    def test_accuracy_stands_beside_it(self, page: Opened, table: Analysis) -> None:
        traces = drawn(page, "final", 1)["traces"]
        tested = [
            y
            for one in traces
            if one["mode"] == "markers" and one["marker"]["symbol"] == "circle"
            for y in one["y"]
        ]
        assert sorted(tested) == sorted(ends(table, "test_accuracy").values())

    def test_against_another_setting(self, page: Opened, table: Analysis) -> None:
        choose(page, "final", "against", "weight_decay")
        decays = [0.0, 0.5, 1.0]
        found = dots(page)
        for name, decay in ends(table, "weight_decay").items():
            assert found[name][0] == decays.index(decay)  # evenly apart: one of them is 0
        axis = drawn(page, "final")["layout"]["xaxis"]
        assert axis["ticktext"] == ["0", "0.5", "1"]
        assert axis["title"]["text"] == "weight decay (levels evenly apart)"

    @pytest.mark.parametrize("eps", [0.3, 0.0021])
    def test_the_threshold_moves_the_ranks(self, page: Opened, path: Path, eps: float) -> None:
        page.set_eps(eps)
        page.settle()
        want = ends(ask(path, eps=eps, metrics=METRICS), "rank")
        assert {name: y for name, (_, y) in dots(page).items()} == pytest.approx(want)
        assert "trends stay" in page.page.inner_text("#final")
        choose(page, "final", "Value", "stable_rank")
        assert "does not move these" in page.page.inner_text("#final")

    def test_the_numbers(self, page: Opened, table: Analysis) -> None:
        choose(page, "final", "Value", "effective_rank")
        want = ends(table, "effective_rank")
        found = numbers(page, "final")
        assert len(found) == len(want)
        for row in found:
            assert row["Effective rank"] == number(want[row["run"].split(",")[0]])


def test_sentences_say_that_the_threshold_does_not_move_them(page: Opened) -> None:
    note = page.page.locator("#sweep .note")
    assert not note.is_visible()
    page.set_eps(0.3)
    assert note.inner_text().endswith(f"they are as measured, at ε = {EPS}.")


class TestTrends:
    def test_what_analyze_says_is_said_once(self, page: Opened, table: Analysis) -> None:
        text = page.page.inner_text("body")
        assert len(table.trends) == 2
        for line in verdicts(table):
            assert text.count(line.text) == 1, line.text

    def test_the_tests(self, page: Opened, table: Analysis) -> None:
        found = rows(page, "trends")
        assert len(found) == len(table.trends)
        for row, want in zip(found, table.trends, strict=True):
            assert row["verdict"] == want["verdict"]
            assert row["p"] == f"{want['tau_p']:.3g}"
            assert row["Kendall's τ"] == f"{want['tau']:.2f}"
            page_p = want["page_p"]
            assert (value(row["Page's p"]) is None) == (page_p is None)
            assert page_p is None or row["Page's p"] == f"{page_p:.3g}"


class TestAllRuns:
    def test_what_is_shown_is_where_they_ended(self, page: Opened, table: Analysis) -> None:
        found = {row["run"]: row for row in rows(page, "all-runs")}
        assert set(found) == set(ends(table, "rank"))
        for name, row in found.items():
            assert value(row["rank"]) == value(number(ends(table, "rank")[name]))
            assert row["B"] == str(ends(table, "B")[name])
            assert row["seed"] == str(ends(table, "seed")[name])
            assert "stable rank" not in row
        page.page.locator("#all-runs").get_by_text("columns", exact=False).first.click()
        for row in rows(page, "all-runs"):
            assert value(row["stable rank"]) == value(
                number(ends(table, "stable_rank")[row["run"]])
            )


class TestOverTheSteps:
    def test_a_line_is_a_run(self, page: Opened, table: Analysis) -> None:
        choose(page, "runs-over-steps", "over", "step")
        traces = drawn(page, "runs-over-steps")["traces"]
        found = {one["meta"]: one for one in traces if one["yaxis"] == "y"}
        for run in table.runs:
            own = [row for row in table.summary if row["source"] == run["source"]]
            line = found[Path(run["source"]).name]
            assert line["x"] == list(STEPS)
            assert line["y"] == pytest.approx([row["rank"] for row in own])


class TestSpectra:
    def test_a_line_is_the_mean_over_seeds(self, page: Opened) -> None:
        traces = drawn(page, "spectra-by-setting", 1)["traces"]
        assert [one["meta"] for one in traces] == [f"B {batch}" for batch in BATCHES]
        for one, batch in zip(traces, BATCHES, strict=True):
            spectra = []
            for seed in SEEDS:
                weight = weights("hidden.1.weight", batch, 0.5, seed, STEPS[-1])
                spectra.append(np.linalg.svd(weight, compute_uv=False) / np.linalg.norm(weight))
            assert np.allclose(one["y"], np.mean(spectra, axis=0), rtol=1e-7)

    def test_the_crossing_is_marked(self, page: Opened, table: Analysis) -> None:
        (want,) = [
            row
            for row in table.crossings
            if row["name"] == "hidden.1.weight" and row["varied"] == "B"
        ]
        band, line = drawn(page, "spectra-by-setting", 1)["layout"]["shapes"]
        assert line["x0"] == line["x1"] == want["crossing"] + 0.5
        assert (band["x0"], band["x1"]) == (want["smallest"] + 0.5, want["largest"] + 0.5)

    def test_crossings_by_another_setting(self, page: Opened, table: Analysis) -> None:
        choose(page, "spectra-by-setting", "By", "1")
        found = rows(page, "spectra-by-setting", "> div > div:last-child .scroll table")
        want = {row["name"]: row for row in table.crossings if row["varied"] == "weight_decay"}
        assert {row["matrix"] for row in found} == set(want)
        for row in found:
            crossing = want[row["matrix"]]
            assert value(row["large values"]) == crossing["crossing"]
            assert row["range"] == f"{crossing['smallest']} to {crossing['largest']}"
            masses = [value(row[f"mass at {level:g}"]) for level in crossing["levels"]]
            assert masses == [round(100 * mass, 1) for mass in crossing["head_mass"]]


class TestWithoutSettings:
    def test_runs_that_nobody_recorded(self, browser: Browser, tmp_path: Path) -> None:
        for name in ("one", "two"):
            written(tmp_path / "runs" / name, 2, 0.5, len(name))
            (tmp_path / "runs" / name / "run.json").unlink()
            (tmp_path / "runs" / name / "log.jsonl").unlink()
        both = [tmp_path / "runs" / name for name in ("one", "two")]
        file = reported(tmp_path / "page.html", *both, metrics=("stable_rank",))
        with opened(browser, file) as page:
            assert "is not recorded" in page.page.inner_text("#sweep")
            assert set(dots(page)) == {"one", "two"}
            assert len(drawn(page, "spectra-by-setting")["traces"]) == 2
            assert page.page.locator("#trends").count() == 0


class TestForEverybody:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, browser: Browser, file: Path, theme: Any) -> None:
        with opened(browser, file, theme=theme) as page:
            unfolded(page)
            assert accessible(page.page) == []

    def test_a_phone_needs_no_scrolling_sideways(self, browser: Browser, file: Path) -> None:
        with opened(browser, file, width=400) as page:
            unfolded(page)
            assert overflow(page) <= 0

    def test_hostile_names_are_text(self, browser: Browser, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        names = [name[:900] for name in HOSTILE]
        for i, word in enumerate(HOSTILE[:3]):
            snapshots = {s: {name: rng.standard_normal((4, 3)) for name in names} for s in (0, 1)}
            recipe = Recipe(model=word, data=HOSTILE[5], batch=2 + i)
            write_run(tmp_path / "runs" / f"<b onclick=alert({i})>{i}", snapshots, recipe)
        with opened(browser, reported(tmp_path / "page.html", tmp_path / "runs")) as page:
            unfolded(page)
            drawn(page, "final")
            assert HOSTILE[0] in page.page.inner_text("#final .legend")
            choose(page, "final", "against", "run")
            drawn(page, "final")
            page.page.set_viewport_size({"width": 400, "height": 800})
            page.settle()
            assert overflow(page) <= 0
            assert page.eval("document.querySelectorAll('main img, main b[onclick]').length") == 0


def test_other_subjects_have_no_such_part(table: Analysis) -> None:
    runs = table.runs[:1]
    summary = tuple(row for row in table.summary if row["source"] == runs[0]["source"])
    assert sweep.payload(Scene(Analysis((), (), (), summary, {}, runs), ())) is None


def test_a_checkpoint_of_no_run_is_shown_beside_the_runs(browser: Browser, tmp_path: Path) -> None:
    runs = [written(tmp_path / f"B{batch}", batch, 0.5, 0) for batch in (2, 4)]
    other = saved(tmp_path / "other.safetensors", {"alone.weight": np.diag([3.0, 2.0, 0.0])})
    with opened(browser, reported(tmp_path / "page.html", *runs, other, metrics="rank")) as page:
        assert "Runs and checkpoints" in page.page.inner_text("header")
        assert len(rows(page, "all-runs")) == len(runs)
        (row,) = rows(page, "matrices")
        assert (row["matrix"], row["rank"]) == ("alone.weight", "2")
        assert page.page.inner_text("#matrices h2") == "Matrices: other checkpoints"
