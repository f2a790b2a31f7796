"""Curves in text: one line of blocks, or several of braille dots, over an axis of steps.

Where several points fall on one place of the axis, their mean is drawn; between points, a straight
line; outside of them, nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#%"  # where a terminal's encoding has no blocks; as many levels

# Unicode's braille patterns: each of eight dots is a bit. From the top, left and right.
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

# A curve's axis spans at least this share of its largest value, so that what hardly moves looks so.
LEAST_SPAN = 0.05

Point = tuple[int, float]  # (step, value)
Steps = tuple[int, int]  # the first and the last of the axis


def sparkline(points: Sequence[Point], steps: Steps, width: int, *, blocks: bool) -> str:
    """A curve in one line.

    Args:
        points: ascending by step.
        steps: the axis.
        width: in characters.
        blocks: whether block characters can be shown.

    >>> sparkline([(0, 8.0), (50, 6.0), (100, 1.0)], (0, 100), 9, blocks=True)
    '██▇▆▆▅▄▂▁'
    """
    marks = BLOCKS if blocks else ASCII
    # The lowest point is seen too: the first mark is of places without a value.
    values = values_at(points, steps, width)
    axis = axis_of([value for value in values if value is not None])
    levels = _levels(values, len(marks) - 2, axis)
    return "".join(marks[0 if level is None else level + 1] for level in levels)


def plot(points: Sequence[Point], steps: Steps, width: int, height: int) -> list[str]:
    """A curve in `height` lines of braille, the highest first.

    >>> plot([(0, 8.0), (50, 6.0), (100, 1.0)], (0, 100), 6, 2)
    ['⠉⠒⠢⢄⠀⠀', '⠀⠀⠀⠀⠑⢄']
    """
    rows, columns = 4 * height, 2 * width
    axis = axis_of([value for _, value in points])
    levels = _levels(values_at(points, steps, columns), rows - 1, axis)
    dots = [[0] * width for _ in range(height)]
    before: int | None = None
    for column, level in enumerate(levels):
        if level is not None:
            # Steep parts are drawn through.
            start = level if before in (None, level) else before + (1 if level > before else -1)
            for dot in range(min(start, level), max(start, level) + 1):
                row = rows - 1 - dot
                dots[row // 4][column // 2] |= DOTS[row % 4][column % 2]
        before = level
    return ["".join(chr(BRAILLE + bits) for bits in line) for line in dots]


def values_at(points: Sequence[Point], steps: Steps, width: int) -> list[float | None]:
    """The value at each of `width` places along the steps."""
    first, last = steps
    wide = max(last - first, 1)
    places: list[list[float]] = [[] for _ in range(width)]
    for step, value in points:
        if first <= step <= last:
            places[round((step - first) / wide * (width - 1))].append(value)
    found = [sum(values) / len(values) if values else None for values in places]
    there = [(index, value) for index, value in enumerate(found) if value is not None]
    for (left, start), (right, end) in pairwise(there):
        for index in range(left + 1, right):
            found[index] = start + (index - left) / (right - left) * (end - start)
    return found


def axis_of(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest value of a curve's axis: its own, unless it is flat.

    >>> axis_of([8.0, 1.0]), axis_of([100.0, 99.0])
    ((1.0, 8.0), (95.0, 100.0))
    """
    high, low = max(values, default=0.0), min(values, default=0.0)
    return high - (max(high - low, LEAST_SPAN * abs(high)) or 1.0), high


def _levels(
    values: Sequence[float | None], most: int, axis: tuple[float, float]
) -> list[int | None]:
    """Values as levels from 0 to `most`, the axis's largest at the top."""
    low, high = axis
    return [
        None if value is None else most - round(most * (high - value) / (high - low))
        for value in values
    ]
