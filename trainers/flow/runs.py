"""What every driver of this folder does with its run directory."""

from __future__ import annotations


def spread(last: int, count: int) -> list[int]:
    """About `count` steps from 0 to `last`, closer at the start: 0 and a geometric series.

    >>> spread(1000, 4)
    [0, 1, 32, 1000]
    """
    growth = last ** (1 / (count - 2)) if count > 2 else 1.0
    return sorted({0, last, *(round(growth**index) for index in range(count - 1))})


def chosen(steps: list[int], count: int) -> set[int]:
    """About `count` of the steps, the first and the last among them."""
    last = len(steps) - 1
    return {steps[round(last * index / (count - 1))] for index in range(count)}
