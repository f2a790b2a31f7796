"""The rank and the bounds on it as marks: over steps, and beside names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn, key_at
from rankscope.figures.dots import FULL, Dots, dot_rows, full_rank
from rankscope.figures.groups import value_of
from rankscope.figures.steps import step_axis
from rankscope.palette import LIGHT
from rankscope.rows import Row
from rankscope.table import Table
from rankscope.trajectory import CLOSED, EXACT, MEASURED

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Each kind of bound: its name, colour and marker.
BOUNDS: Mapping[str, tuple[str, str, str]] = {
    CLOSED: ("bound, closed form", LIGHT.unordered[1], "^"),
    EXACT: ("bound, exact count", LIGHT.unordered[2], "s"),
    MEASURED: ("bound, measured norms", LIGHT.unordered[3], "D"),
}

# Points. What is drawn first is wider: the bounds are often equal, and lie on each other.
WIDE = {CLOSED: 2.4, EXACT: 1.4, MEASURED: 0.7}

# Points, of a bound that says nothing; bounds that lie on each other differ in their dashes.
THIN = 0.5
DASHES = {CLOSED: ":", EXACT: "--", MEASURED: "-."}

# Numbers on the axes of the bounds, the latter as narrow as axes of dots are.
UPWARDS, ACROSS = 8, 4

MANY_MARKERS = 40  # on a line; more would hide it


@dataclass(frozen=True, slots=True)
class Told:
    """What one place of a figure is about: a matrix, a kind of layers, a run, or a step.

    Attributes:
        rank: its rank.
        bounds: by their column's name.
        full: min(rows, columns).
    """

    rank: float
    bounds: Mapping[str, float]
    full: float


def told_of(table: Table, rows: Sequence[Row], column: Drawn, *, mean: bool) -> Told:
    """The mean over the measured matrices, or those of them that are averaged; of all or none."""
    rows = [row for row in rows if row["status"] == "ok"]
    rows = [row for row in rows if not mean or row["averaged"] is not False]

    def taken(key: str) -> float:
        value = fmean(value_of(row, key) for row in rows) if rows else math.nan
        return value if math.isfinite(value) else math.nan

    bounds = {name: taken(key_at(table, name, column.eps or 0)) for name in BOUNDS}
    full = [min(row["shape"]) for row in rows]
    return Told(taken(column.key), bounds, fmean(full) if full else math.nan)


def steps_of(
    axes: Axes, steps: Sequence[int], told: Sequence[Told], column: Drawn
) -> dict[str, Artist]:
    """Draws lines over the steps, hollow and thin where vacuous; returns what a legend says."""
    entries: dict[str, Artist] = {}
    (entries[column.words],) = axes.plot(
        steps, [one.rank for one in told], color=LIGHT.unordered[0], marker="o"
    )
    for name, (words, colour, marker) in BOUNDS.items():
        values = [one.bounds[name] for one in told]
        if all(map(math.isnan, values)):
            continue
        speaks = [one.bounds[name] < one.full for one in told]
        (entries[words],) = axes.plot(
            steps,
            values,
            color=colour,
            linewidth=THIN,
            linestyle=DASHES[name],
            marker=marker if len(steps) <= MANY_MARKERS else "",
            markersize=4,
            markerfacecolor="white",
        )
        axes.plot(
            steps,
            [value if says else math.nan for value, says in zip(values, speaks, strict=True)],
            color=colour,
            linewidth=WIDE[name],
            marker=marker if len(steps) <= MANY_MARKERS else "",
            markersize=4,
        )
    (entries[FULL],) = axes.plot(
        steps, [one.full for one in told], color=LIGHT.muted, linewidth=0.8, linestyle=":"
    )
    if has_zero(told):
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        house.whole_log_axis(axes.yaxis, UPWARDS)
    step_axis(axes)
    return entries


def has_zero(told: Sequence[Told]) -> bool:
    """Whether a rank is below 1, as a large eps leaves it: no place on a logarithmic axis."""
    return any(one.rank < 1 for one in told)


def names_of(
    axes: Axes, names: Sequence[str], told: Sequence[Told], column: Drawn
) -> dict[str, Artist]:
    """Draws dots beside names, hollow where vacuous; returns what a legend says."""
    dots = [full_rank([one.full for one in told])]
    for name, (words, colour, marker) in BOUNDS.items():
        values = [one.bounds[name] for one in told]
        hollow = [not one.bounds[name] < one.full for one in told]
        dots.append(Dots(words, colour, marker, values, hollow))
    ranks = [one.rank for one in told]
    dots.append(Dots(column.words, LIGHT.unordered[0], "o", ranks))
    entries = dot_rows(axes, names, dots)
    if has_zero(told):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
    else:
        axes.set_xscale("log")
        house.whole_log_axis(axes.xaxis, ACROSS)
    return entries
