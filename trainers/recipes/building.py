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


def line(title: str, base: Args, axis: Axis) -> Panel:
    """Runs that differ in one field."""
    name, values = axis
    return Panel(title, tuple(with_values(base, {name: value}) for value in values), (name,))


def grid(title: str, base: Args, first: Axis, second: Axis) -> Panel:
    """Runs over every pair of values of two fields."""
    names = (first[0], second[0])
    pairs = itertools.product(first[1], second[1])
    runs = (with_values(base, dict(zip(names, pair, strict=True))) for pair in pairs)
    return Panel(title, tuple(runs), names)


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
