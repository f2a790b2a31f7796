"""What the drivers of this folder have in common: options of numbers, and chosen steps."""

from __future__ import annotations

import argparse


def add_number(
    parser: argparse.ArgumentParser,
    flag: str,
    kind: type[int | float],
    default: float,
    meaning: str,
) -> None:
    """An option that takes a whole number N, or any number X."""
    words = f"{meaning} (default {default})"
    metavar = "N" if kind is int else "X"
    parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=words)


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
