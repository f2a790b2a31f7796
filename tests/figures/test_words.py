"""What matplotlib makes of foreign text: letters, no formula, no warning."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from rankscope.figures import styled
from rankscope.figures.words import kind_title, plain, plain_names, shorter, without_range
from tests.figures.made import HOSTILE


def drawn(text: str) -> str:
    """What stands in an SVG for it, as letters."""
    file = BytesIO()
    with styled():
        figure = Figure()
        figure.text(0.1, 0.5, text)
        figure.savefig(file, format="svg")
    root = ET.fromstring(file.getvalue())
    return "".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_drawn_letter_by_letter(name: str) -> None:
    shown = drawn(plain(name, 60))
    assert shown == plain(name, 60).replace(r"\$", "$")
    assert shown.isprintable()
    if name.isascii() and name.isprintable() and len(name) < 60:
        assert shown == name


@given(st.text(min_size=1, max_size=40))
def test_no_text_is_a_formula_and_all_of_it_has_letters(name: str) -> None:
    text = plain(name, 400)
    shown, kind = Text(0, 0, text)._preprocess_math(text)  # type: ignore[attr-defined]
    assert kind is False
    assert "\n" not in shown
    drawn(text)  # a letter that the font has not would be a warning, which is an error here


@given(st.text(alphabet="$\\ab", min_size=1, max_size=30), st.integers(3, 12))
def test_shortening_again_breaks_no_escape(name: str, letters: int) -> None:
    text = shorter(plain(name, 30), letters)
    _, kind = Text(0, 0, text)._preprocess_math(text)  # type: ignore[attr-defined]
    assert kind is False
    assert len(text.replace(r"\$", "$")) <= letters


def test_wide_letters_are_fewer() -> None:
    def inches(text: str) -> float:
        with styled():
            figure = Figure(dpi=1000)  # so that no letter is rounded to whole pixels
            figure.draw_without_rendering()
            return float(figure.text(0, 0, text, fontsize=7).get_window_extent().width) / figure.dpi

    narrow, usual, wide = (plain(letter * 100, 30) for letter in "iaW")
    assert len(narrow) == len(usual) == 30 > len(wide)
    assert inches(wide) <= 30 * 0.0583 * 1.1


def test_names_keep_what_tells_them_apart() -> None:
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)]
    assert len(set(plain_names(names, 24))) == 3


def test_a_kind_stands_above_its_layers() -> None:
    assert kind_title("value projections, layers 0-23", 18) == "value\nlayers 0-23"
    assert kind_title("model.embed_tokens.weight", 20) == "…embed_tokens.weight"


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("value projections, layers 0-23", "value"),
        ("value projections, layer 3", "value"),
        ("query projections, decoder layers 0-2, 4-23", "query, decoder"),
        ("convolutions, stage 2 layers 0-5", "convolutions, stage 2"),
        ("MLP up projections, layers 1-47 (24 of them)", "MLP up"),
        ("layers.*.weight", "layers.*.weight"),
    ],
)
def test_beside_an_axis_of_layers_their_numbers_go_without_saying(label: str, short: str) -> None:
    assert without_range([label], 40) == {label: short}


def test_kinds_that_would_read_alike_keep_them() -> None:
    labels = ["value projections, layers 0-3", "value projections, layers 8-9"]
    assert len(set(without_range(labels, 40).values())) == 2
