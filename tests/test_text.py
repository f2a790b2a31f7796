"""Foreign text on its way to a screen."""

from __future__ import annotations

import random
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.text import INVISIBLE, nearest, printable, shortened

# Hypothesis leaves lone surrogates out of text unless asked.
any_text = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]8;;http://x\x07", "\\x1b]8;;http://x\\x07"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte form of ESC [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\u2028b\x85c", "a\\u2028b\\x85c"),
        ("a\u202eb", "a\\u202eb"),  # right-to-left override
        ("a\u2066b", "a\\u2066b"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),  # zero width
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),  # a tag
        ("\0", "\\x00"),
        ("layer.0.weight", "layer.0.weight"),
        ("层.權重 é [/red] <b>", "层.權重 é [/red] <b>"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(any_text)
def test_printable_leaves_nothing_that_acts(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(char) for char in shown} & INVISIBLE
    assert printable(shown) == shown
    shown.encode("utf-8")
    visible = all(unicodedata.category(char) not in INVISIBLE for char in text)
    assert (shown == text) == visible


@given(st.text(), st.integers(1, 60))
def test_shortened_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)
    assert len(short) <= width
    if len(text) <= width:
        assert short == text
    else:
        cut = (width - 1) // 4
        assert short[cut] == "…"
        assert text.startswith(short[:cut])
        assert text.endswith(short[cut + 1 :])
        assert len(short) == width


class TestNearest:
    def test_of_many_names_one_for_all_that_differ_in_numbers(self) -> None:
        names = [f"layers.{i}.{part}_proj.weight" for i in range(2000) for part in "qkv"]
        found = nearest("layers.7.k_prj.weight", names)
        assert found[0] == "layers.0.k_proj.weight"
        assert len(found) == 3

    def test_of_few_the_very_one(self) -> None:
        assert nearest("h.17.q", [f"h.{i}.q.w" for i in range(30)])[0] == "h.17.q.w"

    def test_names_that_nobody_writes_take_no_time(self) -> None:
        rng = random.Random(0)
        names = ["".join(rng.choices("abc.", k=150)) for _ in range(20_000)]
        names += ["x" * 1000 + str(i) for i in range(1000)]
        start = time.perf_counter()
        nearest(names[0][1:], names)
        assert time.perf_counter() - start < 30  # some minutes where each is compared
