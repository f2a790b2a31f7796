"""Curves in text, against their values taken one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankscope.views.curves import ASCII, BLOCKS, BRAILLE, DOTS, axis_of, plot, sparkline, values_at

Curve = list[tuple[int, float]]

curves = st.dictionaries(st.integers(0, 10**6), st.floats(-1e6, 1e6), min_size=1, max_size=60).map(
    lambda found: sorted(found.items())
)


def lit(lines: list[str]) -> NDArray[np.bool_]:
    """The dots of braille as booleans, shape (4 lines, 2 columns)."""
    found = np.zeros((4 * len(lines), 2 * len(lines[0])), bool)
    for row, line in enumerate(lines):
        for column, char in enumerate(line):
            for y, pair in enumerate(DOTS):
                for x, bit in enumerate(pair):
                    found[4 * row + y, 2 * column + x] = bool((ord(char) - BRAILLE) & bit)
    return found


@given(curves, st.integers(2, 80))
def test_values_are_those_of_numpy(points: Curve, width: int) -> None:
    """Between points a straight line, as `numpy.interp` draws it; of points on one place a mean."""
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
    found = values_at(points, (first, last), width)
    places: dict[int, list[float]] = {}
    for step, height in points:
        places.setdefault(round((step - first) / (last - first) * (width - 1)), []).append(height)
    known = sorted(places)
    expected = np.interp(range(width), known, [np.mean(places[one]) for one in known])
    for index, value in enumerate(found):
        if known[0] <= index <= known[-1]:
            assert value == pytest.approx(expected[index], rel=1e-9, abs=1e-6)
        else:
            assert value is None


@given(curves, st.integers(1, 60), st.booleans())
def test_a_sparkline_follows_its_values(points: Curve, width: int, blocks: bool) -> None:
    steps = (0, 10**6)
    marks = BLOCKS if blocks else ASCII
    line = sparkline(points, steps, width, blocks=blocks)
    values = values_at(points, steps, width)
    assert len(line) == width
    drawn = [marks.index(mark) for mark in line]
    assert [level == 0 for level in drawn] == [value is None for value in values]
    pairs = [
        (value, level) for value, level in zip(values, drawn, strict=True) if value is not None
    ]
    for high, level in pairs:
        assert all(other <= level for low, other in pairs if low <= high)
    assert max(drawn) == len(marks) - 1


@given(curves, st.integers(1, 40), st.integers(1, 6))
def test_a_plot_has_a_dot_at_every_value(points: Curve, width: int, height: int) -> None:
    steps = (0, 10**6)
    lines = plot(points, steps, width, height)
    assert [len(line) for line in lines] == [width] * height
    values = values_at(points, steps, 2 * width)
    dots = lit(lines)
    known = [value for _, value in points]
    high, low = max(known), min(known)
    span = max(high - low, 0.05 * abs(high)) or 1.0
    assert axis_of(known) == pytest.approx((high - span, high))  # what stands beside it
    for column, value in enumerate(values):
        if value is None:
            assert not dots[:, column].any()
            continue
        row = (high - value) / span * (4 * height - 1)
        assert dots[math.floor(row), column] or dots[min(math.ceil(row), 4 * height - 1), column]


@given(curves, st.integers(1, 40), st.integers(1, 6))
def test_a_plot_has_no_gaps(points: Curve, width: int, height: int) -> None:
    dots = lit(plot(points, (0, 10**6), width, height))
    for left, right in zip(dots.T, dots.T[1:], strict=False):
        if left.any() and right.any():
            a, b = np.flatnonzero(left), np.flatnonzero(right)
            assert np.array_equal(a, np.arange(a[0], a[-1] + 1))
            # The lines touch, at least by a corner.
            assert a[0] - 1 <= b[-1]
            assert b[0] - 1 <= a[-1]


def test_what_hardly_moves_looks_so() -> None:
    assert sparkline([(0, 100.0), (9, 99.9)], (0, 9), 10, blocks=True) == BLOCKS[-1] * 10
    assert sparkline([(0, 100.0), (9, 50.0)], (0, 9), 10, blocks=True).endswith(BLOCKS[1])


@pytest.mark.parametrize("points", [[], [(5, 0.0)], [(5, 0.0), (6, 0.0)], [(5, -3.0)]])
def test_few_points(points: Curve) -> None:
    assert len(sparkline(points, (5, 5), 7, blocks=True)) == 7
    assert [len(line) for line in plot(points, (5, 5), 7, 2)] == [7, 7]


def test_points_outside_of_the_axis_are_left_out() -> None:
    assert values_at([(0, 1.0), (60, 2.0), (200, 9.0)], (40, 100), 4) == [None, 2.0, None, None]
