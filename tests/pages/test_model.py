"""The page of a model, as a person uses it. The oracle is `rankscope.analyze`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from rankscope import How, analyze
from rankscope.metrics.thresholded import Norm
from rankscope.views.cells import cell
from rankscope.views.numbers import number
from tests.pages import charts
from tests.pages.browser import Opened, opened
from tests.pages.charts import hovered, numbers, rows
from tests.pages.models import LAYERS, reported, saved, transformer

RNG = np.random.default_rng(11)

METRICS = ("rank", "approximation_rank", "head_mass", "effective_rank", "stable_rank")

# The text of a table's cells by the name in its first one; what only a screen reader is told is
# left out.
CELLS = """
() => Object.fromEntries([...document.querySelectorAll("#matrices tbody tr:not(.group):not(.more)")]
  .map((row) => {
    const copy = row.cloneNode(true);
    copy.querySelectorAll(".hidden").forEach((one) => one.remove());
    const texts = [...copy.children].map((one) => one.textContent);
    return [texts[0].trim(), texts.slice(1)];
  }))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = transformer(np.random.default_rng(3))
    # Values that the Gram route does not resolve, so that there is something to be marked.
    tensors["head.steep.weight"] = np.diag(4.0 ** -np.arange(32.0))
    tensors["head.bad.weight"] = np.full((4, 4), np.nan, np.float32)
    return saved(tmp_path_factory.mktemp("model") / "model.safetensors", tensors)


@pytest.fixture(scope="module")
def file(checkpoint: Path) -> Path:
    how = How(store=False, workers=1, route="gram")
    return reported(checkpoint.parent / "page.html", checkpoint, metrics=METRICS, how=how)


@pytest.fixture(scope="class")
def page(browser: Browser, file: Path) -> Iterator[Opened]:
    """One page for the tests of a class: each leaves it as it was, or resets it."""
    with opened(browser, file) as found:
        yield found


def reset(page: Opened) -> None:
    """The threshold that was asked for."""
    button = page.page.get_by_role("button", name="Reset")
    if button.is_enabled():
        button.click()


def expected(checkpoint: Path, eps: float, norm: Norm) -> dict[str, list[str]]:
    """What `analyze` shows of each matrix, as the terminal has it."""
    how = How(store=False, workers=1, route="gram")
    table = analyze(checkpoint, metrics=METRICS, eps=eps, norm=norm, how=how)
    return {
        row["name"]: [cell(row, key) if row["status"] == "ok" else "-" for key in table.columns]
        for row in table.matrices
    }


def shown(page: Opened) -> dict[str, list[str]]:
    """The same of the page: shape, type and status left out."""
    cells: dict[str, list[str]] = page.eval(CELLS)
    return {
        name: [text.replace("\u2013", "-") for text in texts[-len(METRICS) :]]
        for name, texts in cells.items()
    }


class TestThreshold:
    def test_at_first_the_numbers_are_those_asked_for(self, page: Opened, checkpoint: Path) -> None:
        assert shown(page) == expected(checkpoint, 1e-3, "frobenius")

    @pytest.mark.parametrize("norm", ["frobenius", "spectral", "none"])
    def test_at_another_eps_they_are_what_analyze_prints(
        self, page: Opened, checkpoint: Path, norm: Norm
    ) -> None:
        reset(page)
        page.page.select_option("#norm", norm)
        marked = 0
        for eps in [0.0, 1.0, *(float(f"{10.0**x:.4g}") for x in RNG.uniform(-12, 0, size=12))]:
            page.set_eps(eps)
            want = expected(checkpoint, eps, norm)
            assert shown(page) == want, (eps, norm)
            marked += sum(text.startswith("~") for texts in want.values() for text in texts[:3])
        assert marked > 0

    def test_the_slider_moves_by_keys(self, page: Opened, checkpoint: Path) -> None:
        reset(page)
        page.page.focus("#eps-slider")
        for _ in range(20):
            page.page.keyboard.press("ArrowRight")
        eps = float(page.page.input_value("#eps"))
        assert eps == pytest.approx(10**-2.6, rel=0.01)
        assert page.page.get_attribute("#eps-slider", "aria-valuetext") == (
            f"ε = {eps:g} of the Frobenius norm"
        )
        assert shown(page) == expected(checkpoint, eps, "frobenius")

    def test_what_is_no_threshold_changes_nothing(self, page: Opened) -> None:
        reset(page)
        before = shown(page)
        for text in ("", "abc", "-1", "1e999", "NaN"):
            page.page.fill("#eps", text)
            assert page.page.get_attribute("#eps", "aria-invalid") == "true", text
            assert "expected a number" in page.page.inner_text("#eps-wrong")
            assert shown(page) == before
        page.page.fill("#eps", "0,5")  # as many people write it
        assert page.page.get_attribute("#eps", "aria-invalid") is None
        assert shown(page) != before
        page.page.click("text=Reset")
        assert shown(page) == before

    def test_everything_else_follows(self, page: Opened, checkpoint: Path) -> None:
        reset(page)
        page.set_eps(0.2)
        page.page.wait_for_selector("#spectra .plot .main-svg")
        page.settle()
        table = analyze(checkpoint, eps=0.2, metrics="rank", how=How(store=False))
        ranks = {row["name"]: (row["rank"], min(row["shape"])) for row in table.matrices}
        shares = [rank / full for rank, full in ranks.values() if rank is not None]
        tiles = page.page.inner_text("#overview .tiles")
        assert f"{100 * sum(shares) / len(shares):.1f} %" in tiles
        assert "at ε = 0.2" in tiles
        for button in page.page.query_selector_all("#spectra .cell"):
            rank, full = ranks[button.get_attribute("title") or ""]
            assert f"{rank} / {full}" in button.inner_text()
        line = page.eval("document.querySelector('#spectra .plot').layout.shapes[0].y0")
        assert line == 0.2
        z = page.eval("document.querySelector('#layers .plot')?.data?.[0].z")
        if z is not None:
            assert z[0][0] == pytest.approx(shares[0])


def drawn(page: Opened) -> list[str]:
    """The names of the lines of the large figure."""
    page.page.wait_for_selector("#spectra .plot .main-svg")
    page.settle()
    names: list[str] = page.eval(
        "document.querySelector('#spectra .plot').data.map((one) => one.name)"
    )
    return names


class TestSpectra:
    def test_the_lines_are_the_singular_values(self, page: Opened, checkpoint: Path) -> None:
        import safetensors.numpy

        tensors = safetensors.numpy.load_file(checkpoint)
        lines = page.eval(
            "document.querySelector('#spectra .plot').data.map((one) => [one.name, one.x, one.y])"
            if drawn(page)
            else ""
        )
        assert len(lines) == 6  # one of each kind; that with NaN has none
        for name, x, y in lines:
            sigma = np.linalg.svd(tensors[name].astype(np.float64), compute_uv=False)
            relative = sigma / np.linalg.norm(sigma)
            places = np.array(x) - 1
            np.testing.assert_allclose(y, relative[places], rtol=1e-4, atol=1e-7)

    def test_a_press_draws_a_matrix_and_another_takes_it_out(self, page: Opened) -> None:
        before = drawn(page)
        name = "model.layers.1.mlp.up_proj.weight"
        button = page.page.locator(f'#spectra .cell[title="{name}"]')
        assert (name in before, button.get_attribute("aria-pressed")) == (False, "false")
        button.click()
        assert (drawn(page), button.get_attribute("aria-pressed")) == ([*before, name], "true")
        box = page.page.locator(f'#matrices input[aria-label="Draw {name}"]')
        assert box.is_checked()
        box.uncheck()
        assert (drawn(page), button.get_attribute("aria-pressed")) == (before, "false")

    def test_a_kind_is_drawn_as_a_whole(self, page: Opened) -> None:
        page.page.locator("#spectra .kind", has_text="MLP up").get_by_text("Draw all").click()
        assert drawn(page) == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(LAYERS)]
        assert page.page.locator("#spectra .legend li").count() == LAYERS
        page.page.click("#spectra >> text=Clear")
        assert drawn(page) == []
        assert "Nothing is drawn" in page.page.inner_text("#spectra")
        page.page.locator("#spectra .kind", has_text="MLP up").get_by_text("Draw all").click()

    def test_the_small_ones_are_drawn_when_they_come_into_sight(self, page: Opened) -> None:
        one = page.page.locator("#spectra .cell polyline").last
        one.scroll_into_view_if_needed()
        page.page.wait_for_selector("#spectra .kind:last-child .cell:last-child polyline[points]")
        points = [
            tuple(map(float, pair.split(",")))
            for pair in (one.get_attribute("points") or "").split()
        ]
        assert len(points) == 16
        assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))

    def test_the_numbers_are_there_as_a_table(self, page: Opened) -> None:
        drawn(page)
        page.page.locator("#spectra summary", has_text="Show the numbers").click()
        page.page.wait_for_selector("#spectra .plain tbody tr")
        rows = page.page.locator("#spectra .plain tbody tr")
        assert rows.count() == len(drawn(page))


class TestLayers:
    def test_a_cell_is_the_share_of_a_kind_at_a_depth(self, page: Opened, checkpoint: Path) -> None:
        page.page.locator("#layers").scroll_into_view_if_needed()
        page.page.wait_for_selector("#layers .plot .main-svg")
        page.set_eps(0.05)
        page.settle()
        table = analyze(checkpoint, eps=0.05, metrics="rank", how=How(store=False))
        trace = page.eval("(({z, x}) => ({z, x}))(document.querySelector('#layers .plot').data[0])")
        kinds = page.eval("document.querySelector('#layers .plot').layout.yaxis.ticktext")
        assert kinds == ["MLP up projections", "query projections", "value projections"]
        assert trace["x"] == list(range(LAYERS))
        for values, part in zip(trace["z"], ("up_proj", "q_proj", "v_proj"), strict=True):
            for depth, value in enumerate(values):
                (row,) = [
                    row
                    for row in table.matrices
                    if f"layers.{depth}." in row["name"] and f"{part}.weight" in row["name"]
                ]
                assert value == row["rank"] / min(row["shape"])

    def test_another_metric(self, page: Opened, checkpoint: Path) -> None:
        page.page.locator("#layers").scroll_into_view_if_needed()
        page.page.wait_for_selector("#layers .plot .main-svg")
        page.page.select_option("#heat-metric", label="eff. rank")
        page.page.locator("#layers summary").click()
        table = analyze(checkpoint, metrics="effective_rank", how=How(store=False))
        reset(page)
        (row,) = [one for one in table.matrices if one["name"].startswith("model.layers.2.mlp.up")]
        cells = page.page.locator("#layers .plain tbody tr").first.locator("td")
        assert cells.nth(2).inner_text() == number(row["effective_rank"])


def names(page: Page) -> list[str]:
    """The matrices that the table lists, from the top."""
    rows = page.locator("#matrices tbody tr:not(.group) th")
    return [text.strip() for text in rows.all_inner_texts()]


class TestTable:
    def test_rows_stand_by_layer_kind_and_depth(self, page: Opened) -> None:
        groups = page.page.locator("#matrices tr.group .word").all_inner_texts()
        assert groups == [
            f"MLP up projections, layers 0-{LAYERS - 1}",
            f"query projections, layers 0-{LAYERS - 1}",
            f"value projections, layers 0-{LAYERS - 1}",
        ]
        listed = [name for name in names(page.page) if "mlp.up" in name]
        assert listed == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(LAYERS)]

    def test_a_group_folds(self, page: Opened) -> None:
        button = page.page.locator("#matrices tr.group button").first
        button.click()
        assert button.get_attribute("aria-expanded") == "false"
        assert not [name for name in names(page.page) if "mlp.up" in name]
        page.page.keyboard.press("Enter")  # it has kept the focus
        assert len([name for name in names(page.page) if "mlp.up" in name]) == LAYERS
        page.page.locator("#matrices").get_by_text("Fold all", exact=True).click()
        assert len(names(page.page)) == 4  # those that are alone in their kind
        page.page.locator("#matrices").get_by_text("Unfold all").click()
        assert len(names(page.page)) == 3 * LAYERS + 4

    def test_sorting_by_a_number_and_back(self, page: Opened, checkpoint: Path) -> None:
        page.page.locator("#matrices .tools input[type=checkbox]").uncheck()
        as_it_was = names(page.page)
        head = page.page.locator("#matrices thead th", has_text="eff.")
        table = analyze(checkpoint, metrics="effective_rank", how=How(store=False))
        known = {row["name"]: row["effective_rank"] for row in table.matrices}
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        ascending = [known[name] for name in names(page.page)]
        assert ascending[-1] is None  # what has no value comes last either way
        assert ascending[:-1] == sorted(ascending[:-1])
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        descending = [known[name] for name in names(page.page)]
        assert descending == [*ascending[:-1][::-1], None]
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") is None
        assert names(page.page) == as_it_was
        page.page.locator("#matrices .tools input[type=checkbox]").check()

    def test_sorting_by_name_is_natural(self, page: Opened) -> None:
        page.page.locator("#matrices .tools input[type=checkbox]").uncheck()
        head = page.page.locator("#matrices thead button").first
        head.click()
        assert names(page.page) == sorted(names(page.page))
        head.click()
        assert names(page.page) == sorted(names(page.page), reverse=True)
        head.click()
        page.page.locator("#matrices .tools input[type=checkbox]").check()

    def test_filtering(self, page: Opened) -> None:
        box = page.page.locator("#matrices input[type=search]")
        box.fill("LAYERS.2 proj")
        assert names(page.page) == [
            f"model.layers.2.{part}.weight"
            for part in ("mlp.up_proj", "self_attn.q_proj", "self_attn.v_proj")
        ]
        assert page.page.inner_text("#matrices .status") == f"3 of {3 * LAYERS + 4} rows"
        box.fill("no such thing")
        assert page.page.inner_text("#matrices tbody") == "Nothing matches."
        box.fill("query")  # what a matrix is counts too
        assert len(names(page.page)) == LAYERS
        box.fill("")
        assert len(names(page.page)) == 3 * LAYERS + 4

    def test_a_group_has_the_means(self, page: Opened, checkpoint: Path) -> None:
        table = analyze(checkpoint, metrics="stable_rank", how=How(store=False))
        values = [row["stable_rank"] for row in table.matrices if "mlp.up" in row["name"]]
        first = page.page.locator("#matrices tr.group").first.locator("td")
        assert first.last.inner_text() == number(sum(values) / len(values))
        assert first.first.inner_text() == "64 \u00d7 32"

    def test_what_has_no_spectrum_says_why(self, page: Opened) -> None:
        row = page.page.locator("#matrices tr", has_text="head.bad.weight")
        assert "nonfinite: " in row.inner_text()
        assert "NaN" in row.inner_text()


class TestNotMeasured:
    def test_is_listed(self, page: Opened) -> None:
        text = page.page.inner_text("#not-measured")
        assert "Incomplete: 1 could not be measured." in text
        assert f"{LAYERS} left out on purpose" in text
        rows = page.page.locator("#not-measured tbody tr").all_inner_texts()
        assert "head.bad.weight\tholds NaN or infinity" in [row.strip() for row in rows]
        assert any(row.startswith("model.layers.0.input_layernorm.weight") for row in rows)


def test_the_command_and_the_versions_stand_at_the_foot(page: Opened, file: Path) -> None:
    foot = page.page.inner_text("footer")
    assert page.page.inner_text("footer .command")
    assert "RankScope " in foot
    assert "model.safetensors (safetensors)" in foot
    assert "ε = 0.001" in foot


def test_several_thresholds(browser: Browser, checkpoint: Path, tmp_path: Path) -> None:
    file = reported(tmp_path / "p.html", checkpoint, metrics="rank", eps=[0.01, 0.5])
    with opened(browser, file) as page:
        heads = page.page.locator("#matrices thead button").all_inner_texts()
        assert heads[-2:] == ["rank", "rank @0.5"]
        fixed = [texts[-1] for texts in page.eval(CELLS).values()]
        page.set_eps(0.5)
        cells: dict[str, Any] = page.eval(CELLS)
        assert [texts[-1] for texts in cells.values()] == fixed
        assert [texts[-2] for texts in cells.values()] == fixed


def test_several_checkpoints(browser: Browser, checkpoint: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other.safetensors", {"w": np.eye(4), "v": np.eye(3)})
    file = reported(tmp_path / "p.html", checkpoint, other, metrics="rank")
    with opened(browser, file) as page:
        page.page.locator("#matrices input[type=search]").fill("other.safetensors")
        assert names(page.page) == ["v", "w"]


def test_equal_names_of_several_checkpoints_are_told_apart(
    browser: Browser, tmp_path: Path
) -> None:
    """A model and what was tuned of it: the same names, which alone say nothing."""
    steep = {"a.weight": np.diag(4.0 ** -np.arange(8.0)), "b.weight": np.eye(8)}
    (tmp_path / "deep").mkdir()
    sources = [
        saved(tmp_path / name, steep) for name in ("one.safetensors", "deep/two.safetensors")
    ]
    file = reported(tmp_path / "p.html", *sources, metrics="rank")
    called = ["one.safetensors", "deep/two.safetensors"]
    with opened(browser, file) as page:
        wanted = {f"{of}: {name}" for of in called for name in steep}
        pressed = page.page.locator("#spectra .cell")
        assert {one.get_attribute("title") for one in pressed.all()} == wanted
        heads = page.page.locator("#spectra .kind summary").all_inner_texts()
        assert heads == [f"{of}: one of a kind 2" for of in called]
        for one in page.page.get_by_role("button", name="Draw all").all():
            one.click()
            assert len(set(page.page.locator("#spectra .legend li").all_inner_texts())) == 2
            lines = {trace["matrix"] for trace in numbers(page, "spectra")}
            assert len(lines) == 2
            assert lines < wanted
            assert hovered(page, "spectra", 0).split("\N{GREEK SMALL LETTER SIGMA}")[0] in lines
        least = page.page.locator("#overview .least tbody th").all_inner_texts()
        assert least == [f"{of}: a.weight" for of in called]
        assert [row["source"] for row in rows(page, "matrices")] == [
            of for of in called for _ in steep
        ]


def experts() -> dict[str, NDArray[Any]]:
    """Two layers: three experts, one of them singular, and others alone in their places."""
    turned = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    layer = "model.layers.{}.{}.weight"
    return {
        layer.format(0, "mlp.experts.0.down_proj"): turned * [1.0, 1.0, 1.0, 0.0],
        layer.format(0, "mlp.experts.1.down_proj"): turned * [4.0, 3.0, 2.0, 1.0],
        layer.format(0, "mlp.experts.2.down_proj"): turned * [8.0, 3.0, 2.0, 1.0],
        layer.format(1, "mlp.experts.0.down_proj"): turned * [2.0, 1.0, 1.0, 1.0],
        layer.format(1, "mlp.experts.1.down_proj"): np.zeros((4, 4)),
        layer.format(0, "self_attn.q_proj"): turned * [1.0, 1.0, 0.0, 0.0],
        layer.format(1, "self_attn.q_proj"): np.zeros((4, 4)),
        layer.format(0, "self_attn.k_proj"): np.full((4, 4), np.nan),
        layer.format(1, "self_attn.v_proj"): turned,
    }


@pytest.fixture(scope="module")
def odd(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    root = tmp_path_factory.mktemp("experts")
    model = saved(root / "m.safetensors", experts())
    metrics = ("rank", "condition_number", "effective_rank")
    with opened(browser, reported(root / "page.html", model, metrics=metrics)) as found:
        found.page.locator("#layers").scroll_into_view_if_needed()
        found.page.wait_for_selector("#layers .plot .main-svg")
        found.page.select_option("#heat-metric", "1")  # the condition number
        yield found


class TestNoNumber:
    """What is infinite, undefined or was not measured, alone in its place and among others."""

    def test_a_place_says_what_it_holds(self, odd: Opened) -> None:
        cells = {row["kind"].split()[0]: row for row in numbers(odd, "layers")}
        assert [cells["query"][depth] for depth in "01"] == ["inf", "undefined"]
        assert [cells["key"][depth] for depth in "01"] == ["not measured", ""]
        assert [cells["value"][depth] for depth in "01"] == ["", "1.000"]
        assert [cells["expert"][depth] for depth in "01"] == ["inf", "2.000"]

    def test_it_is_drawn_unlike_no_matrix(self, odd: Opened) -> None:
        first, second = drawn_maps(odd)
        at = {kind: i for i, kind in enumerate(first["kinds"])}
        query, key = at["query projections"], at["key projections"]
        expert = next(i for kind, i in at.items() if "expert" in kind)
        assert second["text"][query] == ["inf", "\u2013"]
        assert second["text"][key] == ["\u2013", ""]
        assert second["text"][expert] == ["inf", ""]
        assert first["z"][expert] == [None, pytest.approx(2)]
        assert first["text"][expert] == ["mean of 3 matrices", "mean of 1 of 2 matrices"]
        for marked, values in zip(second["z"], first["z"], strict=True):
            assert not any(
                a is not None and b is not None for a, b in zip(marked, values, strict=True)
            )

    def test_a_group_has_the_mean_that_analyze_prints(self, odd: Opened) -> None:
        group = odd.page.locator("#matrices tr.group", has_text="expert").locator("td")
        assert group.nth(-2).inner_text() == "\u2013"


def drawn_maps(page: Opened) -> list[dict[str, Any]]:
    """The values, and what has none, of the map of layers."""
    page.settle()
    found: list[dict[str, Any]] = page.eval(
        "(({data, layout}) => data.map(({z, text}) => "
        "({z, text, kinds: layout.yaxis.ticktext})))(document.querySelector('#layers .plot'))"
    )
    return found


def test_a_small_ones_name_breaks_between_its_words(browser: Browser, tmp_path: Path) -> None:
    names = ["hidden.0.weight", "hidden.1.weight", "output.weight"]
    model = saved(
        tmp_path / "m.safetensors", {name: RNG.standard_normal((200, 180)) for name in names}
    )
    with opened(browser, reported(tmp_path / "page.html", model)) as page:
        lines: list[list[str]] = page.eval(LINES)
    assert ["".join(words) for words in lines] == names
    assert all(line.endswith((".", "weight")) for words in lines for line in words)


# The lines of text that a small drawing's name stands in.
LINES = """
() => [...document.querySelectorAll("#spectra .cell .name")].map((name) => {
  const lines = new Map();
  const walk = document.createTreeWalker(name, NodeFilter.SHOW_TEXT);
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    for (let i = 0; i < text.length; i += 1) {
      const range = document.createRange();
      range.setStart(text, i);
      range.setEnd(text, i + 1);
      const { top } = range.getBoundingClientRect();
      lines.set(top, (lines.get(top) ?? "") + text.data[i]);
    }
  }
  return [...lines.values()];
})
"""


def test_a_model_without_matrices(browser: Browser, tmp_path: Path) -> None:
    empty = saved(tmp_path / "m.safetensors", {"bias": np.ones(3)})
    with opened(browser, reported(tmp_path / "p.html", empty)) as page:
        assert "No weight matrix was measured." in page.page.inner_text("#overview")
        assert "1 left out on purpose" in page.page.inner_text("#not-measured")


def test_one_matrix_of_one_value(browser: Browser, tmp_path: Path) -> None:
    tiny = saved(tmp_path / "m.safetensors", {"w": np.array([[2.0]]), "z": np.zeros((2, 2))})
    with opened(browser, reported(tmp_path / "p.html", tiny)) as page:
        page.page.wait_for_selector("#spectra .plot .main-svg")
        assert shown_ranks(page) == {"w": "1 / 1", "z": "0 / 2"}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": np.zeros((4, 3)), "b": np.zeros((2, 2))}, ["Every singular value is 0"]),
        ({"a": np.array([[2.0]]), "b": np.array([[-3.0]])}, ["One singular value each"]),
        ({"a": np.array([[2.0, 1.0], [0.0, 1.0]]), "b": np.zeros((2, 2))}, []),
    ],
)
def test_axes_without_a_line_say_what_is_the_case(
    browser: Browser, tmp_path: Path, arrays: dict[str, NDArray[Any]], said: list[str]
) -> None:
    file = reported(tmp_path / "p.html", saved(tmp_path / "m.safetensors", arrays))
    with opened(browser, file) as page:
        for logarithmic in (True, False):
            page.page.locator("#spectra .tools input").set_checked(logarithmic)
            layout = charts.drawn(page, "spectra")["layout"]
            texts = [one["text"] for one in layout["annotations"]]
            assert texts[1:] == said
            if said:
                ends = layout["xaxis"]["range"]
                low, high = [10**x for x in ends] if logarithmic else ends
                full = max(min(one.shape) for one in arrays.values())
                assert (low, high) == pytest.approx((0.5, full + 0.5))


def shown_ranks(page: Opened) -> dict[str, str]:
    found: list[tuple[str, str]] = page.eval(
        "[...document.querySelectorAll('.cell')].map((one) => "
        "[one.title, one.querySelector('.rank').textContent])"
    )
    return dict(found)


def test_the_document_is_strict_json(file: Path) -> None:
    text = file.read_text("utf-8")
    start = text.index('id="data">') + len('id="data">')
    inside = text[start : text.index("</script>", start)]
    assert not set("<>&") & set(inside)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(inside, parse_constant=refuse)
    assert document["schema"] == "rankscope/page/1"


def test_the_overview_says_that_something_is_lacking(browser: Browser, file: Path) -> None:
    with opened(browser, file) as found:
        said = found.page.locator("#overview .lacking").inner_text()
        assert said == "Incomplete: 1 matrix or tensor is without values. See Not measured."


def test_rounding_does_not_take_the_axis(browser: Browser, tmp_path: Path) -> None:
    """A matrix of ones has a singular value of 64, and 63 that are 0 but for rounding."""
    path = saved(tmp_path / "ones.safetensors", {"a": np.ones((64, 64), np.float32)})
    file = reported(tmp_path / "page.html", path, how=How(store=False, workers=1, route="direct"))
    with opened(browser, file) as found:
        figure = found.page.locator("#spectra .js-plotly-plot").first
        figure.scroll_into_view_if_needed()
        low, high = figure.evaluate("(one) => one.layout.yaxis.range")
        assert low == pytest.approx(np.log10(2.0**-53) - 0.2, abs=0.01)
        assert high == pytest.approx(0.1, abs=0.01)
