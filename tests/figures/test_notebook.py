"""The curve of a run above its table in a notebook."""

from __future__ import annotations

import base64
import importlib.util
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.image import imread

from rankscope.api import analyze
from rankscope.figures.notebook import run_curve
from rankscope.how import How
from rankscope.palette import DARK, LIGHT, ON_BOTH, contrast
from tests.figures import made

HOW = How(store=False, workers=1)
IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]*)">')
SVG = "{http://www.w3.org/2000/svg}"


def test_a_run_has_one_above_its_table(tmp_path: Path) -> None:
    table = analyze(made.run(tmp_path / "run", 4, 2), metrics=("rank", "stable_rank"), how=HOW)
    shown = table._repr_html_()
    image = IMAGE.match(shown)
    assert image is not None
    assert shown[image.end() :].lstrip().startswith("<table")
    first, last = (table.summary[i]["rank"] for i in (0, -1))
    assert image[1] == (
        f"rank, mean over matrices: {first:.2f} to {last:.3f} from step 0 to 30"
    ) or re.fullmatch(r"rank, mean over matrices: [\d.]+ to [\d.]+ from step 0 to 30", image[1])
    root = ET.fromstring(base64.b64decode(image[2]))
    assert "step" in ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_its_lines_and_words_are_seen_on_light_and_dark(tmp_path: Path) -> None:
    table = analyze(made.run(tmp_path / "run", 3, 2), metrics="rank", how=HOW)
    image = IMAGE.match(table._repr_html_())
    assert image is not None
    drawing = base64.b64decode(image[2]).decode()
    assert "fill: #ffffff" not in drawing
    colours = set(re.findall(r"(?:stroke|fill): (#[0-9a-f]{6})", drawing))
    assert ON_BOTH in colours
    for colour in colours:
        for theme in (LIGHT, DARK):
            assert contrast(colour, theme.background) >= 3


def test_a_long_run_of_many_matrices_stays_small(tmp_path: Path) -> None:
    table = analyze(made.run(tmp_path / "run", 2, 2), metrics="rank", how=HOW)
    summary = [table.summary[0] | {"step": step, "rank": 5.0 + step % 7} for step in range(3000)]
    matrices = [
        table.matrices[0] | {"name": f"w.{k}", "step": step} for k in range(30) for step in range(9)
    ]
    long = replace(table, summary=tuple(summary), matrices=tuple(matrices))
    assert 0 < len(run_curve(long)) < 60_000


def test_a_figure_is_shown_by_a_notebook_without_pyplot(tmp_path: Path) -> None:
    table = analyze(made.run(tmp_path / "run", 2, 2), metrics="rank", how=HOW)
    formatter = DisplayFormatter()
    data, size = formatter.format(table.plot(width=5))  # type: ignore[no-untyped-call]
    assert set(data) == {"image/png", "text/plain"}
    assert imread(BytesIO(data["image/png"])).shape[1] == 960
    assert size["image/png"]["width"] == 480


def test_others_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made.saved(tmp_path / "m.safetensors", {"w": made.matrix(4, 4, 2)})
    assert run_curve(analyze(model, how=HOW)) == ""
    assert run_curve(analyze(made.sweep(tmp_path / "sweep", (2, 4)), how=HOW)) == ""
    single = analyze(made.run(tmp_path / "one", 1), metrics="rank", how=HOW)
    assert run_curve(single) == ""
    run = analyze(made.run(tmp_path / "run", 2), metrics="rank", how=HOW)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name)
    )
    assert run_curve(run) == ""
    assert run._repr_html_().startswith("<table")
