"""The page of a run. The oracle is `rankscope.analyze`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from rankscope import How, analyze
from rankscope.api import Analysis
from rankscope.asking import asked_of, scene_of
from rankscope.pages import run
from rankscope.pages.runcolumns import Pool, brief, shortest
from rankscope.rows import Row
from rankscope.scene import MOST_SNAPSHOTS, Scene
from rankscope.snapshots import LogRecord
from rankscope.text import printable
from rankscope.views.cells import cell
from rankscope.views.numbers import number
from rankscope.views.verdicts import verdicts
from tests.pages.browser import Opened, accessible, opened
from tests.pages.charts import (
    as_opened,
    choose,
    drawn,
    hovered,
    numbers,
    overflow,
    rows,
    shared_page,
    unfolded,
    value,
)
from tests.pages.models import HOSTILE, reported, saved
from tests.rundirs import Recipe, ask, write_run

EPS = (0.1, 0.02)
METRICS = ("rank", "effective_rank", "approximation_rank", "stable_rank", "condition_number")
STEPS = range(0, 120, 10)
SHAPES = {
    "hidden.0.weight": (150, 140),  # where the bound says something
    "hidden.1.weight": (40, 30),
    "output.weight": (6, 30),  # not in the mean
    "zero.weight": (5, 5),  # without effective rank
    "steep.weight": (30, 30),  # of which the Gram route does not resolve all
}
UNMARKED = ("output.weight", "zero.weight", "steep.weight")
HOW = How(store=False, workers=1, route="gram")

BOUNDS = {
    "closed-form bound (Theorem 3.3)": "bound_closed",
    "exact bound (steps counted)": "bound_exact",
    "measured bound (Lemma 3.2, the run's own norms)": "bound_measured",
}


def matrices(step: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Spectra that fall faster the later the step is; norms that settle."""
    found = {}
    for name, (tall, wide) in SHAPES.items():
        k = min(tall, wide)
        left = np.linalg.qr(rng.standard_normal((tall, k)))[0]
        right = np.linalg.qr(rng.standard_normal((wide, k)))[0]
        sigma = np.exp(-np.arange(k) * (1 + step / 10) / k) * (1 + 2.0 ** -(step / 10))
        if name == "steep.weight":
            sigma = 8.0 ** -np.arange(k)
        found[name] = np.zeros((tall, wide)) if "zero" in name else left * sigma @ right.T
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    snapshots = {step: matrices(step, rng) for step in STEPS}
    logs = {
        step: LogRecord(epoch=step // 10, lr=0.1 if step < 60 else 0.05, test_accuracy=step / 200)
        for step in STEPS
        if step % 20 == 0
    }
    schedule = ((60, 0.05),)
    recipe = Recipe(batch=2, lr=0.1, weight_decay=0.5, schedule=schedule, unmarked=UNMARKED)
    return write_run(tmp_path_factory.mktemp("run") / "mine", snapshots, recipe, logs)


@pytest.fixture(scope="module")
def table(path: Path) -> Analysis:
    return analyze(path, eps=EPS, metrics=METRICS, how=HOW)


@pytest.fixture(scope="module")
def file(path: Path) -> Path:
    return reported(path.parent / "page.html", path, eps=EPS, metrics=METRICS, how=HOW)


@pytest.fixture(scope="module")
def shared(browser: Browser, file: Path) -> Iterator[Opened]:
    with shared_page(browser, file) as found:
        yield found


@pytest.fixture
def page(shared: Opened) -> Opened:
    return as_opened(shared)


def by_matrix(table: Analysis) -> dict[tuple[int, str], Row]:
    return {(row["step"], row["name"]): row for row in table.matrices}


def plain(label: str) -> str:
    """A matrix's name without what the page says of it."""
    return label.removesuffix(" (not in the mean)")


def same(text: str, row: Row, key: str) -> bool:
    """Whether a text is what the terminal shows of a value; whole numbers need no decimals."""
    want = cell(row, key)
    return text.startswith("~") == want.startswith("~") and value(text) == value(want)


class TestOverTheSteps:
    @pytest.mark.parametrize("eps", EPS)
    @pytest.mark.parametrize(
        ("other", "mark"), [("effective_rank", "~"), ("condition_number", "inf")]
    )
    def test_the_numbers_are_those_of_analyze(
        self, page: Opened, table: Analysis, eps: float, other: str, mark: str
    ) -> None:
        choose(page, "over-steps", "Lines at ε", str(eps))
        level = f"@{eps}"
        keys = {
            f"Rank at ε = {eps}": f"rank{level}",
            other.replace("_", " ").capitalize(): other,
            f"Approximation rank at ε = {eps}": f"approximation_rank{level}",
            "Norm ratio": "norm_ratio",
            "Bound closed at ε = " + str(eps): f"bound_closed{level}",
            "Bound exact at ε = " + str(eps): f"bound_exact{level}",
            "Bound measured at ε = " + str(eps): f"bound_measured{level}",
        }
        choose(page, "over-steps", "Second panel", other)
        want, seen, marked = by_matrix(table), set(), 0
        for row in numbers(page, "over-steps"):
            step, name = int(row["step"]), plain(row["matrix"])
            if (step, name) not in want:
                continue
            seen.add((step, name))
            marked += row[other.replace("_", " ").capitalize()].startswith(mark)
            for heading, key in keys.items():
                assert same(row[heading], want[step, name], key), (step, name, heading, row)
        assert seen == set(want)
        assert marked == len(STEPS)  # the matrix that the Gram route does not resolve

    def test_the_means_are_over_the_averaged_matrices(self, page: Opened, table: Analysis) -> None:
        means = [
            row
            for row in numbers(page, "over-steps")
            if row["matrix"] == "mean over 2 of 5 matrices"
        ]
        assert [int(row["step"]) for row in means] == list(STEPS)
        for row, want in zip(means, table.summary, strict=True):
            assert value(row[f"Rank at ε = {EPS[0]}"]) == value(number(want[f"rank@{EPS[0]}"]))
            assert value(row["test accuracy"]) == value(number(want.get("test_accuracy")))

    def test_what_is_drawn_is_what_was_measured(self, page: Opened, table: Analysis) -> None:
        traces = drawn(page, "over-steps")["traces"]
        ranks = {plain(one["meta"]): one["y"] for one in traces if one["yaxis"] == "y"}
        want = by_matrix(table)
        for name in SHAPES:
            assert ranks[name] == [want[step, name]["rank@0.1"] for step in STEPS]

    def test_panels_share_the_steps(self, page: Opened) -> None:
        found = drawn(page, "over-steps")
        assert {one["xaxis"] for one in found["traces"]} == {None}  # the first and only one
        assert len({one["yaxis"] for one in found["traces"]}) == 6
        box = page.page.locator("#over-steps .plot").bounding_box()
        assert box is not None
        page.page.mouse.move(box["x"] + 300, box["y"] + 80)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + 700, box["y"] + 82, steps=4)
        page.page.mouse.up()
        page.settle()
        low, high = drawn(page, "over-steps")["layout"]["xaxis"]["range"]
        assert 0 < low < high < 110
        choose(page, "over-steps", "Second panel", "stable_rank")
        assert drawn(page, "over-steps")["layout"]["xaxis"]["range"] == [low, high]

    def test_bounds_are_thick_where_they_say_something(self, page: Opened, table: Analysis) -> None:
        choose(page, "over-steps", "Lines", "one 0")
        traces = drawn(page, "over-steps")["traces"]
        useful = 0
        for heading, key in BOUNDS.items():
            thin, thick = [one for one in traces if one["meta"] == f"{heading}: hidden.0.weight"]
            values = [by_matrix(table)[step, "hidden.0.weight"][f"{key}@0.1"] for step in STEPS]
            assert thin["y"] == pytest.approx(
                [float("nan") if v is None else v for v in values], nan_ok=True
            ) or (thin["y"] == [None if v is None else shortest(v) for v in values])
            says = [None if v is None or v >= 140 else shortest(v) for v in values]
            assert thick["y"] == says
            useful += sum(v is not None for v in says)
            assert thick["line"]["width"] > thin["line"]["width"]
            words = [text.endswith("vacuous") for text in thin["customdata"]]
            assert words == [v is None for v in says]
        assert useful > 3
        exact = [by_matrix(table)[step, "hidden.0.weight"]["vacuous@0.1"] for step in STEPS]
        assert exact == [text.endswith("vacuous") for text in _of(traces, "exact")["customdata"]]

    def test_where_there_is_no_value_it_says_why(self, page: Opened) -> None:
        text = page.page.inner_text("#over-steps")
        assert "No exact bound (steps counted) in " in text
        assert "too few steps so far" in text
        assert "No effective rank in 12 of 60 readings: undefined for a zero matrix." in text


def _of(traces: list[dict[str, Any]], word: str) -> dict[str, Any]:
    return next(one for one in traces if str(one["meta"]).startswith(word))


class TestThreshold:
    def test_moves_the_ranks_of_the_snapshots_in_the_page_only(
        self, page: Opened, path: Path
    ) -> None:
        there = in_page(path)
        assert len(there) == MOST_SNAPSHOTS < len(STEPS)
        for eps in (0.3, 0.004):
            page.set_eps(eps)
            page.settle()
            assert f"{len(there)} of {len(STEPS)} snapshots whose spectra" in page.page.inner_text(
                "#over-steps"
            )
            want = analyze(path, eps=eps, metrics=METRICS, how=HOW)
            heading = f"Rank at ε = {eps:g} of the Frobenius norm"
            ranks = by_matrix(want)
            means = {row["step"]: number(row["rank"]) for row in want.summary}
            for row in numbers(page, "over-steps"):
                step, name = int(row["step"]), plain(row["matrix"])
                if step not in there:
                    assert value(row[heading]) is None
                elif name.startswith("mean"):
                    assert value(row[heading]) == value(means[step])
                else:
                    assert value(row[heading]) == ranks[step, name]["rank"]

    def test_as_asked_nothing_is_added(self, page: Opened) -> None:
        drawn(page, "over-steps")
        assert "Diamonds" not in page.page.inner_text("#over-steps")
        page.set_eps(0.3)
        page.settle()
        assert "Diamonds" in page.page.inner_text("#over-steps")
        page.page.click("text=Reset")
        page.settle()
        assert "Diamonds" not in page.page.inner_text("#over-steps")


def in_page(path: Path) -> set[int]:
    """The steps whose spectra the page has."""
    return {curve.step for curve in scene(path).curves if curve.step is not None}


def scene(path: Path) -> Scene:
    return scene_of(path, asked=asked_of(eps=EPS, metrics=METRICS, how=HOW))


class TestSpectra:
    @pytest.mark.parametrize("eps", [EPS[0], 0.0137])
    def test_ranks_at_the_snapshots_are_those_of_analyze(
        self, page: Opened, path: Path, eps: float
    ) -> None:
        page.set_eps(eps)
        choose(page, "spectra-over-steps", "Matrix", "1")
        asked = (*METRICS, "head_mass")
        want = by_matrix(analyze(path, eps=eps, metrics=asked, how=HOW))
        found = rows(page, "spectra-over-steps", "figure ~ .scroll table")
        assert [int(row["step"]) for row in found] == sorted(in_page(path))
        for row in found:
            matrix = want[int(row["step"]), "hidden.1.weight"]
            assert same(row["rank"], matrix, "rank")
            assert same(row["approx. rank"], matrix, "approximation_rank")
            assert same(row["effective rank"], matrix, "effective_rank")
            assert value(row["head mass"]) == round(100 * matrix["head_mass"], 1)

    def test_the_spectra_are_those_of_numpy(self, page: Opened, path: Path) -> None:
        choose(page, "spectra-over-steps", "Matrix", "1")
        traces = drawn(page, "spectra-over-steps")["traces"]
        rng = np.random.default_rng(5)
        snapshots = {step: matrices(step, rng)["hidden.1.weight"] for step in STEPS}
        assert len(traces) == MOST_SNAPSHOTS
        for one in traces:
            weights = snapshots[int(one["meta"].removeprefix("step "))]
            sigma = np.linalg.svd(weights, compute_uv=False)
            assert np.allclose(one["y"], sigma / np.linalg.norm(weights), rtol=1e-9)

    def test_the_slider_draws_another_snapshot_thick(self, page: Opened) -> None:
        def thick() -> list[int]:
            traces = drawn(page, "spectra-over-steps")["traces"]
            return [i for i, one in enumerate(traces) if one["line"]["width"] == 4]

        assert thick() == [MOST_SNAPSHOTS - 1]
        page.page.focus("#step-slider")
        page.page.keyboard.press("ArrowLeft")
        assert thick() == [MOST_SNAPSHOTS - 2]
        words = page.page.get_attribute("#step-slider", "aria-valuetext")
        assert words == page.page.inner_text("#spectra-over-steps output")

    def test_what_is_zero_is_not_drawn_and_said(self, page: Opened) -> None:
        choose(page, "spectra-over-steps", "Matrix", "4")
        traces = drawn(page, "spectra-over-steps")["traces"]
        assert all(one["x"] == [] for one in traces)
        assert "Of the singular values, 40 are exactly 0" in page.page.inner_text(
            "#spectra-over-steps"
        )

    def test_long_lines_say_how_they_are_thinned(self, page: Opened) -> None:
        said = page.eval("curves.left([{ values: Float64Array.from({length: 5000}, () => 1) }])")
        count = page.eval(
            "curves.figure([{ label: '', values: Float64Array.from({length: 5000}, () => 1), "
            "unit: 1, colour: '#000' }], [], '', false).traces[0].x.length"
        )
        assert 1000 < count <= 2000
        assert said == [f"Lines pass through {count} of 5000 singular values; counts are over all."]


class TestTheRun:
    def test_what_analyze_says_is_said_once(self, page: Opened, table: Analysis) -> None:
        text = page.page.inner_text("body")
        assert verdicts(table)
        for line in verdicts(table):
            assert text.count(line.text) == 1, line.text

    def test_how_it_was_trained(self, page: Opened) -> None:
        names = page.page.locator("#run dt").all_inner_texts()
        told = dict(zip(names, page.page.locator("#run dd").all_inner_texts(), strict=True))
        assert told["B"] == "2"
        assert told["mu"] == "0.1"
        assert told["weight decay"] == "0.5"
        assert told["optimiser"] == "sgd"
        assert told["m_l"] == "1"

    def test_without_a_record_it_says_so(self, browser: Browser, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        run_dir = write_run(
            tmp_path / "run", {s: {"w": rng.standard_normal((5, 4))} for s in (1, 2)}
        )
        (run_dir / "run.json").unlink()
        with opened(browser, reported(tmp_path / "page.html", run_dir)) as found:
            assert "not recorded" in found.page.inner_text("#run")
            assert drawn(found, "over-steps")["traces"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    names = [
        f"model.layers.{layer}.{part}.weight"
        for layer in range(12)
        for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
    ]
    snapshots = {s: {name: rng.standard_normal((6, 5)) for name in names} for s in (0, 5, 9)}
    path = write_run(tmp_path_factory.mktemp("many") / "run", snapshots)
    return reported(path.parent / "page.html", path, metrics=("rank",), eps=0.3)


class TestManyMatrices:
    def test_kinds_are_drawn_and_no_legend_is_long(self, browser: Browser, many: Path) -> None:
        with opened(browser, many) as page:
            found = drawn(page, "over-steps")["traces"]
            ranks = [one for one in found if one["yaxis"] == "y"]
            assert len(ranks) == 1 + 3
            assert "query projections, layers 0-11: mean of 12" in [one["meta"] for one in ranks]
            for choice, lines in (("kind 0", 13), ("all", 37), ("one 5", 1), ("mean", 1)):
                choose(page, "over-steps", "Lines", choice)
                found = drawn(page, "over-steps")["traces"]
                assert len([one for one in found if one["yaxis"] == "y"]) == lines
                assert page.page.locator("#over-steps .legend li").count() <= 8

    def test_the_mean_of_a_kind_is_numpys(self, browser: Browser, many: Path) -> None:
        path = many.parent / "run"
        table = ask(path, eps=0.3)
        own = [row for row in table.matrices if "q_proj" in row["name"]]
        want = [np.mean([row["rank"] for row in own if row["step"] == s]) for s in (0, 5, 9)]
        with opened(browser, many) as page:
            traces = drawn(page, "over-steps")["traces"]
            (line,) = [one for one in traces if one["yaxis"] == "y" and "query" in str(one["meta"])]
            assert np.allclose(line["y"], want, rtol=1e-6)


class TestForEverybody:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, browser: Browser, file: Path, theme: Any) -> None:
        with opened(browser, file, theme=theme) as page:
            page.set_eps(0.3)
            unfolded(page)
            assert accessible(page.page) == []

    def test_a_phone_needs_no_scrolling_sideways(self, browser: Browser, file: Path) -> None:
        with opened(browser, file, width=400) as page:
            unfolded(page)
            assert overflow(page) <= 0

    def test_prints(self, browser: Browser, file: Path) -> None:
        with opened(browser, file) as page:
            assert page.page.pdf().startswith(b"%PDF")

    def test_hostile_names_are_text(self, browser: Browser, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        names = [name[:900] for name in HOSTILE]  # longer ones are refused
        snapshots = {s: {name: rng.standard_normal((4, 3)) for name in names} for s in (0, 1, 2)}
        recipe = Recipe(model=HOSTILE[0], data=HOSTILE[1])
        path = write_run(tmp_path / "<b>run", snapshots, recipe)
        with opened(browser, reported(tmp_path / "page.html", path)) as page:
            unfolded(page)
            for choice in ("all", "one 0", "one 4"):
                choose(page, "over-steps", "Lines", choice)
                drawn(page, "over-steps")
            told = []
            for i in range(len(names)):
                choose(page, "over-steps", "Lines", f"one {i}")
                told.append(hovered(page, "over-steps", 0))
            for name in names:
                assert any(printable(name)[:15] in text for text in told), name
            said = page.page.inner_text("#run")
            assert HOSTILE[0] in said
            assert HOSTILE[1] in said
            page.page.set_viewport_size({"width": 400, "height": 800})
            page.settle()
            assert overflow(page) <= 0
            assert (
                page.eval("document.querySelectorAll('main img, main a[href^=javascript]').length")
                == 0
            )


class TestPayload:
    def test_a_long_run_is_small(self, path: Path) -> None:
        scene_ = grown(scene_of(path, asked=asked_of(how=How(store=False, workers=1))), 500, 20)
        assert len(scene_.table.columns) >= 12
        part = run.payload(scene_)
        text = json.dumps(part, separators=(",", ":"))
        assert len(text) < 2_500_000

    def test_nothing_is_lost_that_is_shown(self) -> None:
        rng = np.random.default_rng(9)
        values = [
            float(x) for x in 10 ** rng.uniform(-12, 12, 20_000) * rng.choice([1, -1], 20_000)
        ]
        values += [0.0, 1.0, 0.99995, 9.9995, 12345.5, 123456.5, 1e6, 1e300, 5e-324, 1 / 3]
        for one in values:
            kept = shortest(one)
            assert kept is not None
            assert kept == pytest.approx(one, rel=1e-6)
            assert number(float(kept)) == number(one), one

    def test_marks(self) -> None:
        notes = {"a": "infinite: no decay", "b": "tie; not exact by the gram route"}
        row = {"a": None, "b": 12.0, "c": None, "d": True, "e": 1.5, "notes": notes}
        assert [brief(row, key) for key in "abcde"] == ["inf", "~12", None, 1, 1.5]

    def test_equal_series_are_kept_once(self) -> None:
        pool = Pool()
        assert [pool.put([1, 2]), pool.put([1, None]), pool.put([1, 2])] == [0, 1, 0]
        assert pool.kept == [(1, 2), (1, None)]

    def test_other_subjects_have_no_such_part(self, path: Path) -> None:
        single = next((path / "snapshots").iterdir())
        assert run.payload(scene(single)) is None


def grown(small: Scene, snapshots: int, matrices: int) -> Scene:
    """The same scene as of a longer run of a larger model, with numbers at random."""
    rng = np.random.default_rng(0)
    row, summary, table = small.table.matrices[-1], small.table.summary[-1], small.table

    def other(row: Row, **own: Any) -> Row:
        values = {key: float(rng.uniform(0, 200)) for key in table.columns}
        return row | values | own

    return Scene(
        replace(
            table,
            matrices=tuple(
                other(row, name=f"layers.{i}.weight", step=s)
                for s in range(snapshots)
                for i in range(matrices)
            ),
            summary=tuple(other(summary, step=s) for s in range(snapshots)),
        ),
        (),
    )


@pytest.mark.parametrize("beside", [False, True])
def test_a_run_of_one_snapshot_says_how_it_was_trained(
    browser: Browser, tmp_path: Path, *, beside: bool
) -> None:
    rng = np.random.default_rng(6)
    recipe = Recipe(batch=2, lr=0.1, weight_decay=0.5, schedule=(), unmarked=UNMARKED)
    logs = {400: LogRecord(train_loss=0.25)}
    path = write_run(tmp_path / "mine", {400: matrices(40, rng)}, recipe, logs)
    others = [saved(tmp_path / "other.safetensors", {"hidden.0.weight": np.eye(4)})] * beside
    table = analyze(path, metrics=METRICS, how=HOW)
    exact = {row["name"]: cell(row, "bound_exact") for row in table.matrices}
    assert any(text != "-" for text in exact.values())
    file = reported(tmp_path / "page.html", path, *others, metrics=METRICS, how=HOW)
    with opened(browser, file) as page:
        kicker = page.page.inner_text(".kicker")
        assert kicker == f"RankScope \N{MIDDLE DOT} {'Model' if beside else 'Training run'}"
        told = page.page.inner_text("#run")
        assert f"{path if beside else 'This run'}: step 400, the only snapshot." in told
        for one in verdicts(table):
            assert one.text in told
        found = dict(
            zip(
                page.page.locator("#run dt").all_inner_texts(),
                page.page.locator("#run dd").all_inner_texts(),
                strict=True,
            )
        )
        want = {"B": "2", "mu": "0.1", "lambda": "0.25", "weight decay": "0.5", "m_l": "1"}
        assert want.items() <= found.items()
        assert found["train loss"] == "0.2500"
        own = [row for row in rows(page, "matrices") if row.get("source", "mine") == "mine"]
        shown = {row["matrix"]: row for row in own}
        assert shown.keys() == SHAPES.keys()
        for row in table.matrices:
            bounds = shown[row["name"]]
            assert bounds["bound exact"].replace("\N{EN DASH}", "-") == exact[row["name"]]
            wanted = {True: "yes", False: "no", None: "\N{EN DASH}"}[row["vacuous"]]
            assert bounds["vacuous"] == wanted
        page.page.select_option("#norm", "spectral")
        assert "does not move these" in page.page.inner_text("#run")
        assert not accessible(page.page)


def test_titles_are_whole_in_a_narrow_window(browser: Browser, file: Path) -> None:
    """Of panels below each other: within the figure, and on no panel above."""
    boxes = """
        (section) => {
          const plot = document.querySelector(`#${section} .plot`);
          const box = (one) => (({ left, right, top, bottom }) => ({ left, right, top, bottom }))(
            one.getBoundingClientRect());
          return {
            figure: box(plot),
            titles: [...plot.querySelectorAll(".annotation-text")].map(box),
            panels: Object.keys(plot._fullLayout).filter((key) => /^yaxis\\d*$/.test(key))
              .map((key) => plot._fullLayout[key])
              .map(({ _offset, _length }) => plot.getBoundingClientRect().top + _offset + _length),
          };
        }
    """
    with opened(browser, file, width=1280) as page:
        drawn(page, "over-steps")
        for width in (1280, 400, 320):  # also after the window was made narrower
            page.page.set_viewport_size({"width": width, "height": 900})
            page.page.wait_for_timeout(400)
            page.settle()
            found = page.eval(boxes, "over-steps")
            assert len(found["titles"]) >= 4
            for title in found["titles"]:
                assert title["left"] >= found["figure"]["left"], width
                assert title["right"] <= found["figure"]["right"], width
                assert title["top"] >= found["figure"]["top"], width
            # Each stands below the panel before it.
            lower = sorted(found["titles"], key=lambda one: one["top"])[1:]
            for bottom, title in zip(sorted(found["panels"]), lower, strict=False):
                assert bottom <= title["top"], width
            assert len(found["panels"]) == len(found["titles"])
        assert not overflow(page)


def test_a_panel_without_values_says_so(browser: Browser, tmp_path: Path) -> None:
    zeros = {step: {"w": np.zeros((4, 3))} for step in (0, 10)}
    path = write_run(tmp_path / "run", zeros, Recipe())
    with opened(browser, reported(tmp_path / "page.html", path)) as page:
        told = [one["text"] for one in drawn(page, "over-steps")["layout"]["annotations"]]
        assert told[:2] == [
            "<b>Rank at \N{GREEK SMALL LETTER EPSILON} = 0.001</b>",
            "<b>Effective rank</b>",
        ]
        assert told[2] == "no value to draw"
        choose(page, "over-steps", "Second panel", "spectral_norm")
        told = [one["text"] for one in drawn(page, "over-steps")["layout"]["annotations"]]
        assert told[2] != "no value to draw"
