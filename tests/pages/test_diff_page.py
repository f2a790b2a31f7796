"""The page of what has moved. The oracles are `rankscope.diff` and NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

import rankscope
from rankscope import How
from rankscope.comparing import Diff, diff_scene
from rankscope.differences.comparison import Asked
from rankscope.gate.baseline import METRICS
from rankscope.matrices import Selection
from rankscope.pages import diff as part
from rankscope.question import Question
from rankscope.reporting import report_diff
from rankscope.rows import Row
from rankscope.views.difference import sentence, structure
from rankscope.views.numbers import number
from tests.pages.browser import Opened, accessible, opened
from tests.pages.charts import (
    as_opened,
    choose,
    drawn,
    overflow,
    rows,
    shared_page,
    unfolded,
    value,
)
from tests.pages.models import HOSTILE, saved

EPS = 0.02
HOW = How(store=False, workers=1)
ARROW = " → "
MOVED = "B \N{MINUS SIGN} A"

Arrays = dict[str, NDArray[Any]]


def checkpoints() -> tuple[Arrays, Arrays]:
    """Fine-tuned in some matrices, cut in one, broken in one, and rebuilt around them."""
    rng = np.random.default_rng(4)
    before: Arrays = {}
    for layer in range(3):
        for name, shape in (("q_proj", (24, 20)), ("v_proj", (20, 20)), ("up_proj", (40, 20))):
            weight = rng.standard_normal(shape) * np.exp(-np.arange(20) / 5)
            before[f"model.layers.{layer}.{name}.weight"] = weight.astype(np.float32)
    after = dict(before)
    for layer in range(3):
        name = f"model.layers.{layer}.q_proj.weight"
        step = rng.standard_normal((24, layer + 1)) @ rng.standard_normal((layer + 1, 20))
        after[name] = (before[name] + 0.01 * step).astype(np.float32)
    name = "model.layers.1.up_proj.weight"
    left, sigma, right = np.linalg.svd(before[name], full_matrices=False)
    after[name] = (left[:, :4] * sigma[:4] @ right[:4]).astype(np.float32)
    broken = before["model.layers.2.up_proj.weight"].copy()
    broken[3, 3] = np.nan
    after["model.layers.2.up_proj.weight"] = broken
    before |= {"old.head.weight": rng.standard_normal((5, 6)), "gone.weight": np.eye(4)}
    after |= {"new.head.weight": before["old.head.weight"], "fresh.weight": np.eye(5)}
    before["resized.weight"] = rng.standard_normal((5, 7))
    after["resized.weight"] = rng.standard_normal((6, 7))
    before["typed.weight"] = rng.standard_normal((9, 8)).astype(np.float32)
    after["typed.weight"] = before["typed.weight"].astype(np.float16)
    return before, after


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("diff")
    before, after = checkpoints()
    return saved(root / "before.safetensors", before), saved(root / "after.safetensors", after)


@pytest.fixture(scope="module")
def found(paths: tuple[Path, Path]) -> Diff:
    return rankscope.diff(*paths, True, eps=(EPS,), how=HOW)


@pytest.fixture(scope="module")
def file(paths: tuple[Path, Path]) -> Path:
    target = paths[0].parent / "page.html"
    report_diff(*paths, path=target, eps=(EPS,), how=HOW)
    return target


@pytest.fixture(scope="module")
def shared(browser: Browser, file: Path) -> Iterator[Opened]:
    with shared_page(browser, file) as page:
        yield page


@pytest.fixture
def page(shared: Opened) -> Opened:
    return as_opened(shared)


def pair(row: Row, key: str) -> str:
    """Before and after as a cell has it."""
    return ARROW.join(
        number(row[k]).replace("-", "\N{EN DASH}") if row[k] is None else number(row[k])
        for k in (f"{key}_before", key)
    )


class TestWhatChanged:
    def test_the_sentence(self, page: Opened, found: Diff) -> None:
        said = page.page.inner_text("#diff .lead")
        assert said.lower() == f"{sentence(found)}.".lower()

    def test_the_structure(self, page: Opened, found: Diff) -> None:
        text = page.page.inner_text("#diff")
        told = structure(found, everything=True)
        assert all(told[kind] for kind in ("removed", "added", "renamed", "reshaped", "retyped"))
        for texts in told.values():
            for one in texts:
                assert one in text


class TestWorstFirst:
    def test_the_order_and_the_numbers(self, page: Opened, found: Diff) -> None:
        want = [row for row in found.matrices if not row["equal"]]
        shown = rows(page, "worst")
        assert len(shown) == len(want) > 5
        for text, row in zip(shown, want, strict=True):
            assert text["matrix"] == row["name"]
            assert text["rank"] == pair(row, "rank")
            assert text["effective rank"] == pair(row, "effective_rank")
            assert value(text["directions"]) == row["delta_numerical_rank"]
            loss = row["loss"]
            if loss is None:
                assert value(text["change"]) is None
            else:
                assert value(text["change"]) == pytest.approx(-100 * loss, abs=0.51)
            moved = row["relative_change"]
            if moved is not None:
                assert value(text["moved by"]) == pytest.approx(100 * moved, abs=0.51, rel=0.05)

    def test_what_cannot_be_measured_any_more_comes_first(self, page: Opened) -> None:
        first = rows(page, "worst")[0]
        assert first["matrix"] == "model.layers.2.up_proj.weight"
        assert first["status"] == "ok → nonfinite"

    def test_equal_ones_on_request(self, page: Opened, found: Diff) -> None:
        page.page.get_by_text("that are equal in every entry").click()
        page.page.get_by_text("columns", exact=False).first.click()
        shown = rows(page, "worst")
        assert len(shown) == len(found.matrices)
        by_name = {row["name"]: row for row in found.matrices}
        for text in shown:
            row = by_name[text["matrix"].split(ARROW)[-1]]
            assert text["stable rank"] == pair(row, "stable_rank")
            delta = row["delta_effective_rank"]
            assert value(text[f"effective rank of {MOVED}"]) == value(number(delta))

    def test_the_threshold_does_not_move_them_and_they_say_so(self, page: Opened) -> None:
        before = rows(page, "worst")
        said = "The threshold above does not move these: they are as measured, at ε = 0.02."
        for section in ("worst", "moved"):
            assert said not in page.page.inner_text(f"#{section}")
        page.set_eps(0.5)
        page.settle()
        for section in ("worst", "moved"):
            assert said in page.page.inner_text(f"#{section}")
        assert rows(page, "worst") == before


class TestHowFar:
    def test_a_dot_is_a_matrix(self, page: Opened, found: Diff) -> None:
        (dots,) = drawn(page, "moved")["traces"]
        placed = dict(zip(dots["text"], zip(dots["x"], dots["y"], strict=True), strict=True))
        want = {
            row["name"]: (row["rank_before"], row["rank"])
            for row in found.matrices
            if row["rank"] is not None and row["rank_before"] is not None
        }
        assert placed == want
        assert "1 of 12 matrices" in page.page.inner_text("#moved")

    def test_directions(self, page: Opened, found: Diff) -> None:
        (dots,) = drawn(page, "moved", 1)["traces"]
        want = {
            row["name"]: row["delta_numerical_rank"]
            for row in found.matrices
            if row["relative_change"]
        }
        assert dict(zip(dots["text"], dots["y"], strict=True)) == want
        assert {want[f"model.layers.{i}.q_proj.weight"] for i in range(3)} == {1, 2, 3}

    def test_a_click_chooses_a_matrix(self, page: Opened) -> None:
        name = "model.layers.1.up_proj.weight"
        place = page.eval(
            """(name) => {
            const plot = document.querySelectorAll("#moved .plot")[0];
            plot.scrollIntoView({ block: "center" });
            const i = plot.data[0].text.indexOf(name);
            const box = plot.getBoundingClientRect();
            const { xaxis, yaxis } = plot._fullLayout;
            return [box.x + xaxis._offset + xaxis.d2p(plot.data[0].x[i]),
                    box.y + yaxis._offset + yaxis.d2p(plot.data[0].y[i])];
            }""",
            name,
        )
        page.page.mouse.move(*place)
        page.page.wait_for_timeout(100)  # Plotly looks at the pointer some 20 times a second
        page.page.mouse.click(*place)
        page.settle()
        assert chosen(page) == name


def chosen(page: Opened) -> str:
    """The matrix whose spectra are drawn."""
    found: str = page.eval(
        "document.querySelector('#spectra-moved select').selectedOptions[0].textContent"
    )
    return found


def choose_matrix(page: Opened, name: str) -> None:
    place = page.eval(
        "(name) => [...document.querySelector('#spectra-moved select').options]"
        ".find((one) => one.textContent === name).value",
        name,
    )
    choose(page, "spectra-moved", "Matrix", place)


class TestSpectra:
    def test_the_worst_that_can_be_compared_is_first(self, page: Opened) -> None:
        assert chosen(page) == "model.layers.1.up_proj.weight"

    def test_a_name_in_the_table_draws_its_spectra(self, page: Opened) -> None:
        button = page.page.get_by_role("button", name="model.layers.0.q_proj.weight")
        button.focus()
        page.page.keyboard.press("Enter")
        page.settle()
        assert chosen(page) == "model.layers.0.q_proj.weight"

    def test_the_spectra_are_numpys(self, page: Opened) -> None:
        name = "model.layers.2.q_proj.weight"
        choose_matrix(page, name)
        a, b = (np.float64(one[name]) for one in checkpoints())
        traces = drawn(page, "spectra-moved")["traces"]
        assert [one["meta"] for one in traces] == [MOVED, "after (B)", "before (A)"]
        for one, weights in zip(traces, (b - a, b, a), strict=True):
            sigma = np.linalg.svd(weights, compute_uv=False)
            want = sigma / np.linalg.norm(a)
            assert np.allclose(one["y"], want, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("eps", [EPS, 0.3, 0.0014])
    def test_the_ranks_are_those_of_the_library(self, page: Opened, eps: float) -> None:
        name = "model.layers.1.up_proj.weight"
        choose_matrix(page, name)
        page.set_eps(eps)
        page.settle()
        a, b = (one[name] for one in checkpoints())
        sides = {"before (A)": a, "after (B)": b, MOVED: np.float64(b) - np.float64(a)}
        shown = {
            row["spectrum of"]: row for row in rows(page, "spectra-moved", "figure ~ .scroll table")
        }
        assert set(shown) == set(sides)
        for side, weights in sides.items():
            one = rankscope.spectrum(weights)
            for heading, metric in (
                ("rank", rankscope.metrics.rank),
                ("approx. rank", rankscope.metrics.approximation_rank),
            ):
                assert value(shown[side][heading]) == metric(one, eps).value
            assert shown[side]["‖·‖F"] == number(one.frobenius_norm)

    def test_thresholds_stand_where_the_ranks_count(self, page: Opened) -> None:
        name = "model.layers.1.up_proj.weight"
        choose_matrix(page, name)
        layout = drawn(page, "spectra-moved")["layout"]
        a, b = (np.float64(one[name]) for one in checkpoints())
        norms = [np.linalg.norm(one) for one in (a, b, b - a)]
        heights = [shape["y0"] for shape in layout["shapes"] if shape["line"]["dash"] == "dash"]
        assert heights == pytest.approx([EPS * norm / norms[0] for norm in norms], rel=1e-6)

    def test_without_a_spectrum_it_says_why(self, page: Opened) -> None:
        choose_matrix(page, "model.layers.2.up_proj.weight")
        text = page.page.inner_text("#spectra-moved")
        assert f"There is no spectrum of {MOVED}: holds NaN or infinity." in text
        assert len(drawn(page, "spectra-moved")["traces"]) == 1
        choose_matrix(page, "model.layers.0.v_proj.weight")
        assert "equal in every entry" in page.page.inner_text("#spectra-moved")


def test_the_axis_says_what_values_are_over(browser: Browser, tmp_path: Path) -> None:
    """A's norm, B's where A has none, and nothing's where neither has."""
    weights, zero = np.diag([4.0, 3.0]), np.zeros((2, 2))
    before = {"both": weights, "broken": weights * np.nan, "zero": zero, "zeros": zero}
    after = {"both": 2 * weights, "broken": weights, "zero": weights, "zeros": np.zeros((3, 3))}
    sides = [
        saved(tmp_path / f"{which}.safetensors", tensors)
        for which, tensors in (("a", before), ("b", after))
    ]
    report_diff(*sides, path=tmp_path / "page.html", how=HOW)
    expected = {"both": ("‖A‖F", 8 / 5), "broken": ("‖B‖F", 4 / 5), "zero": ("‖B‖F", 4 / 5)}
    with opened(browser, tmp_path / "page.html") as page:
        for name, (unit, largest) in expected.items():
            choose_matrix(page, name)
            found = drawn(page, "spectra-moved")
            assert found["layout"]["yaxis"]["title"]["text"] == f"σᵢ / {unit}"
            (line,) = [one for one in found["traces"] if one["meta"] == "after (B)"]
            assert line["y"][0] == pytest.approx(largest)
        choose_matrix(page, "zeros")
        assert drawn(page, "spectra-moved")["layout"]["yaxis"]["title"]["text"] == "σᵢ"
        page.page.select_option("#norm", "spectral")
        choose_matrix(page, "broken")
        assert drawn(page, "spectra-moved")["layout"]["yaxis"]["title"]["text"] == "σᵢ / σ₁(B)"


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
        before = {name: rng.standard_normal((4, 3)) for name in names}
        after = {name: rng.standard_normal((4, 3)) for name in names}
        after["added" + names[0]] = np.eye(2)
        before["gone" + names[1]] = np.eye(3)
        file = tmp_path / "page.html"
        sides = [
            saved(tmp_path / f"<b>{which}.safetensors", weights)
            for which, weights in (("a", before), ("b", after))
        ]
        report_diff(*sides, path=file, how=HOW)
        with opened(browser, file) as page:
            unfolded(page)
            for i in range(len(names)):
                choose(page, "spectra-moved", "Matrix", str(i))
            assert "added" + names[0] in page.page.inner_text("#diff")
            page.page.set_viewport_size({"width": 400, "height": 800})
            page.settle()
            assert overflow(page) <= 0
            assert page.eval("document.querySelectorAll('main img, main b').length") == 0


class TestPayload:
    def test_without_b_minus_a(self, browser: Browser, paths: tuple[Path, Path]) -> None:
        from rankscope.pages.page import render
        from rankscope.pages.sections import SECTIONS

        asked = Asked(Question(METRICS, (EPS,), "frobenius"), Selection(), delta=False)
        scene = diff_scene(*paths, asked, HOW)
        found = part.payload(scene)
        assert found is not None
        assert found["delta"] == []
        file = paths[0].parent / "plain.html"
        file.write_text(render(scene, SECTIONS), "utf-8")
        with opened(browser, file) as page:
            assert f"{MOVED} was not measured." in page.page.inner_text("#moved")
            assert "directions" not in rows(page, "worst")[0]
            assert len(drawn(page, "spectra-moved")["traces"]) == 2

    def test_a_model_of_three_hundred_matrices_is_small(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        before = {f"model.layers.{i}.w.weight": rng.standard_normal((8, 6)) for i in range(300)}
        after = {name: one + 0.01 * rng.standard_normal((8, 6)) for name, one in before.items()}
        sides = saved(tmp_path / "a.safetensors", before), saved(tmp_path / "b.safetensors", after)
        asked = Asked(Question(METRICS, (0.1,), "frobenius"), Selection(), delta=True)
        text = json.dumps(part.payload(diff_scene(*sides, asked, HOW)), separators=(",", ":"))
        assert len(text) < 500_000
