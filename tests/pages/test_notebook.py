"""A notebook run by a real kernel: results that end a cell are shown as tables, in any theme."""

from __future__ import annotations

import html.parser
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from playwright.sync_api import Browser

import rankscope
from rankscope.text import printable
from rankscope.views.numbers import number
from tests.pages.browser import accessible, opened
from tests.views.test_views import HOSTILE

HOSTILE_NAMES = (
    *(name for case, name in HOSTILE.items() if case != "surrogate"),
    "<img src=x onerror=alert(1)>",
    "$x^2$ [a](b)",
)

# The last line of each is what a person would end a cell with.
CELLS = {
    "setting": "import numpy as np, rankscope\nfrom safetensors.numpy import load_file",
    "analysis": "rankscope.analyze(load_file('A.safetensors'))",
    "diff": "rankscope.diff('A.safetensors', 'B.safetensors', delta=True)",
    "spectrum": "rankscope.spectrum(np.diag([3.0, 2.0, 0.0]))",
    "check": "rankscope.check('B.safetensors', rules=['rank >= 1 * min(shape)'])",
    "pandas": "rankscope.analyze('A.safetensors').to_pandas()",
    "polars": "rankscope.analyze('A.safetensors').to_polars()",
}

OURS = ("analysis", "diff", "spectrum", "check")

# What a notebook's page does to a table, in the words of JupyterLab 4's two themes: cells to the
# right, every other row on a colour of its own, the text's colour from the theme.
THEME = """
body { padding: 1rem; background: var(--back); color: var(--text); font: 14px sans-serif }
table { border-collapse: collapse; color: var(--text) }
.output td, .output th { text-align: right; padding: .5em; white-space: normal }
tbody tr:nth-child(even) { background: var(--row) }
.light { --back: #fff; --text: rgba(0, 0, 0, .87); --row: #f5f5f5 }
.dark { --back: #111; --text: rgba(255, 255, 255, .87); --row: #212121 }
"""


# The library leaves sockets to the garbage collector, which warns of them: a process of its own.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(notebook, kernel_name="python3", timeout=60)
manager = client.create_kernel_manager()
client.execute()
assert manager.ip == "127.0.0.1"
assert not manager.has_kernel
nbformat.write(notebook, sys.argv[1])
"""

Shown = Mapping[str, Mapping[str, str]]  # by cell, then by MIME type


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two models, some of whose names would like to act."""
    folder = tmp_path_factory.mktemp("notebook")
    rng = np.random.default_rng(0)
    before = {name: np.eye(3) for name in HOSTILE_NAMES}
    before["layers.0.weight"] = rng.normal(size=(8, 6))
    after = before | {"layers.0.weight": np.outer(np.arange(8.0), np.arange(6.0))}
    after[HOSTILE_NAMES[0]] = np.diag([1.0, 1.0, 0.0])
    for name, arrays in (("A", before), ("B", after)):
        safetensors.numpy.save_file(arrays, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def notebook(place: Path) -> Shown:
    """What a notebook shows; its kernel listens on this machine only, and ends with it."""
    file = place / "notebook.ipynb"
    cells = [
        {"cell_type": "code", "source": source, "id": name, "outputs": [], "metadata": {}}
        | {"execution_count": None}
        for name, source in CELLS.items()
    ]
    node = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    file.write_text(json.dumps(node))
    own = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "XDG_CACHE_HOME")
    setting = {key: str(place / key.lower()) for key in own}
    ended = subprocess.run(
        [sys.executable, "-c", RUN, file.name],
        cwd=place,
        env={**os.environ, **setting, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return {cell["id"]: mime(cell) for cell in json.loads(file.read_text())["cells"]}


def mime(cell: Mapping[str, Any]) -> Mapping[str, str]:
    """What a cell shows; an error would have ended the notebook."""
    outputs = cell["outputs"]
    assert [one["output_type"] for one in outputs] in ([], ["execute_result"])
    return {key: "".join(text) for one in outputs for key, text in one["data"].items()}


class Elements(html.parser.HTMLParser):
    """The tags and attributes of a piece of HTML, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", OURS)
def test_a_result_is_shown_as_a_table(notebook: Shown, name: str) -> None:
    shown = notebook[name]
    assert set(shown) == {"text/html", "text/plain"}
    found = Elements(shown["text/html"])
    assert found.tags - {"p"} == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert found.attributes <= {"class", "scope", "style"}
    assert shown["text/plain"].count("\n") == 0  # the short name of the object


def test_what_it_shows_is_the_result(notebook: Shown, place: Path) -> None:
    analysis = Elements(notebook["analysis"]["text/html"])
    for row in rankscope.analyze(place / "A.safetensors").matrices:
        assert printable(row["name"]) in analysis.text
        assert number(row["frobenius_norm"]) in analysis.text
    assert (
        "6\N{NO-BREAK SPACE}\N{RIGHTWARDS ARROW}\N{NO-BREAK SPACE}1"
        in Elements(notebook["diff"]["text/html"]).text
    )
    spectrum = Elements(notebook["spectrum"]["text/html"])
    assert "3x3 fp64" in spectrum.text
    assert "sigma: 3.000, 2.000, 0.0000" in spectrum.text
    assert "2 of" in Elements(notebook["check"]["text/html"]).text
    for library in ("pandas", "polars"):
        assert "float64" in Elements(notebook[library]["text/html"]).text


@pytest.fixture
def page(notebook: Shown, tmp_path: Path) -> Path:
    """All that the notebook shows, as its outputs stand below each other."""
    outputs = "".join(
        f"<section class='output' aria-label='{name}'>{notebook[name]['text/html']}</section>"
        for name in OURS
    )
    path = tmp_path / "notebook.html"
    path.write_text(
        "<!DOCTYPE html><html lang='en' data-ready><meta charset='utf-8'><title>Notebook</title>"
        f"<style>{THEME}</style><body><main><h1>Notebook</h1>{outputs}</main></body></html>",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_read_in_any_theme_and_nothing_acts(browser: Browser, page: Path, theme: str) -> None:
    """A script that ran would open a dialog, or complain; axe-core measures the contrasts."""
    with opened(browser, page, theme="dark" if theme == "dark" else "light") as found:
        found.eval("(theme) => { document.body.className = theme }", theme)
        assert found.eval("document.querySelectorAll('script, img, a, iframe').length") == 0
        assert accessible(found.page) == []
        assert found.page.locator("[style*=color], [style*=background]").count() == 0
        for cells, side in (("td.word", "left"), ("td:not(.word)", "right"), ("caption", "left")):
            ask = "(all) => all.map((one) => getComputedStyle(one).textAlign)"
            assert set(found.page.eval_on_selector_all(cells, ask)) == {side}
