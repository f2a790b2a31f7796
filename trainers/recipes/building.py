"""Panels out of a run and the values that vary in it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainers.imageargs import Args
from trainers.recipes.naming import named
from trainers.recipes.records import Panel

# A field of Args, and its values.
Axis = tuple[str, Sequence[float]]

# Fields of Args that the title of a panel may tell.
B, MU, DECAY, DATA = ("batch_size",), ("mu",), ("weight_decay",), ("data",)

SAID = {"batch_size": "B = {}", "mu": "μ = {:g}", "weight_decay": "weight decay {:g}", "data": "{}"}


def titled(args: Args, told: Sequence[str]) -> str:
    """The title of a panel, of what its runs have in common.

    >>> from pathlib import Path
    >>> titled(Args(Path("any"), mu=0.005, weight_decay=6e-3), MU + DECAY)
    'μ = 0.005, weight decay 0.006'
    """
    return ", ".join(SAID[name].format(getattr(args, name)) for name in told)


def line(told: tuple[str, ...], base: Args, axis: Axis) -> Panel:
    """Runs that differ in one field."""
    name, values = axis
    runs = tuple(with_values(base, {name: value}) for value in values)
    return Panel(titled(base, told), runs, (name,), told)


def grid(told: tuple[str, ...], base: Args, first: Axis, second: Axis) -> Panel:
    """Runs over every pair of values of two fields."""
    names = (first[0], second[0])
    pairs = itertools.product(first[1], second[1])
    runs = (with_values(base, dict(zip(names, pair, strict=True))) for pair in pairs)
    return Panel(titled(base, told), tuple(runs), names, told)


def with_values(base: Args, values: Mapping[str, Any]) -> Args:
    """The same run with some fields set, under the name of its choices."""
    return named(replace(base, **values))


def mu(*values: float) -> Axis:
    """Learning rates."""
    return "mu", values


def decay(*values: float) -> Axis:
    """PyTorch's weight decays."""
    return "weight_decay", values


def batch(*values: int) -> Axis:
    """Batch sizes."""
    return "batch_size", values
