"""A metric over the layers of a model, a line a kind of layers; beside names where there are none.

Several checkpoints have axes each; beside names, a colour each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn
from rankscope.figures.dots import (
    FOOT,
    FULL,
    ROW,
    Dots,
    dot_columns,
    dot_rows,
    full_rank,
    linear_values,
)
from rankscope.figures.groups import beside_names, explained, last_rows, mean, named_rows
from rankscope.figures.runs import Look, Told, told_sources, unordered
from rankscope.figures.words import plain, titled, without_range
from rankscope.layerkinds import by_layer_kind
from rankscope.palette import LIGHT
from rankscope.rows import Row
from rankscope.table import Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpecBase, SubplotSpec

HEIGHT = 1.9  # inches, of axes over depth

LETTERS = 36  # of a kind of layers in the legend

Rows = Sequence[Row]

Deep = Mapping[str, Mapping[int, Rows]]  # kind of layers -> depth -> its matrices


def over_depth(table: Table, columns: Sequence[Drawn], width: float) -> Figure:
    """Above what has a depth, over it, a row of axes a threshold; below the rest beside names."""
    sources = last_rows(table)
    deep = {source: deep_kinds(rows) for source, rows in sources.items()}
    looks = unordered(list(dict.fromkeys(kind for one in deep.values() for kind in one)))
    rest = {source: _without(rows, deep[source]) for source, rows in sources.items()}
    named = beside_names([row for rows in rest.values() for row in rows], width)
    across = dot_columns(width, max(map(len, named), default=0), len(columns))
    upper = HEIGHT * len(columns) * bool(looks)
    lower = (ROW * len(named) + FOOT) * -(-len(columns) // across) * bool(named)
    legend = house.legend_rows(width, [*looks, *(sources if named else ()), FULL])
    height = house.HEAD + upper + lower + house.LEGEND * legend
    points = [rows for lines in deep.values() for at in lines.values() for rows in at.values()]
    points += [named_rows(rows, group) for rows in rest.values() for group in named.values()]
    words = columns[0].words + explained(points, [column.key for column in columns])
    figure = house.blank(width, height, titled(table, words))
    grid = figure.add_gridspec(2 if looks and named else 1, 1, height_ratios=_parts(upper, lower))
    entries: dict[str, Artist] = {}
    if looks:
        entries |= _over_depth(figure, grid[0], deep, columns, looks)
    if named:
        place = grid[-1].subgridspec(-(-len(columns) // across), across)
        entries |= _beside(figure, place, told_sources(table), rest, named, columns)
    house.legend_below(figure, entries)
    return figure


def _parts(*heights: float) -> list[float]:
    return [height for height in heights if height]


def deep_kinds(rows: Rows) -> Deep:
    """The kinds of layers that there are at several depths."""
    found: dict[str, dict[int, Rows]] = {}
    groups = by_layer_kind(rows)
    told = without_range(list(groups), LETTERS)
    for label, group in groups.items():
        depths = sorted({row["depth"] for row in group if row.get("depth") is not None})
        if len(depths) > 1:
            found[told[label]] = {d: [row for row in group if row["depth"] == d] for d in depths}
    return found


def _without(rows: Rows, deep: Deep) -> list[Row]:
    """The rows that no line stands for."""
    inside = {row["name"] for lines in deep.values() for group in lines.values() for row in group}
    return [row for row in rows if row["name"] not in inside]


def _over_depth(
    figure: Figure,
    place: SubplotSpec,
    deep: Mapping[str, Deep],
    columns: Sequence[Drawn],
    looks: Mapping[str, Look],
) -> dict[str, Artist]:
    """A line a kind of layers; of several matrices at one depth (experts) their mean."""
    there = {source: lines for source, lines in deep.items() if lines}
    grid = place.subgridspec(len(columns), len(there))
    entries: dict[str, Artist] = {}
    for row, column in enumerate(columns):
        drawn: list[Axes] = []
        for index, (source, lines) in enumerate(there.items()):
            axes = figure.add_subplot(grid[row, index], sharey=drawn[0] if drawn else None)
            drawn.append(axes)
            entries |= _kinds(axes, lines, column, looks)
            axes.set_ylabel("" if index else column.axis)
            if row == 0 and len(deep) > 1:
                axes.set_title(plain(Path(source).name, LETTERS))
            if row == len(columns) - 1:
                axes.set_xlabel("layer")
        if column.counts:
            house.from_zero(drawn)
    return entries


def _kinds(axes: Axes, lines: Deep, column: Drawn, looks: Mapping[str, Look]) -> dict[str, Artist]:
    from matplotlib.ticker import MaxNLocator

    entries: dict[str, Artist] = {}
    for kind, at in lines.items():
        values = [mean(rows, column.key) for rows in at.values()]
        look = looks[kind]
        (entries[kind],) = axes.plot(
            list(at),
            [value if math.isfinite(value) else math.nan for value in values],
            color=look.colour,
            linestyle=look.style,
            linewidth=1.0,
            marker="o",
            markersize=2,
        )
    if column.counts:
        full = {min(row["shape"]) for at in lines.values() for rows in at.values() for row in rows}
        for one in sorted(full):
            entries[FULL] = axes.axhline(one, color=LIGHT.muted, linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return entries


def _beside(
    figure: Figure,
    grid: GridSpecBase,
    told: Told,
    rest: Mapping[str, Rows],
    named: Mapping[str, Rows],
    columns: Sequence[Drawn],
) -> dict[str, Artist]:
    """Dots beside names, axes a threshold; a colour a checkpoint."""
    entries: dict[str, Artist] = {}
    for index, column in enumerate(columns):
        place = divmod(index, grid.ncols)
        axes = figure.add_subplot(grid[place])
        dots = []
        if column.counts:
            full = [float(max(min(row["shape"]) for row in group)) for group in named.values()]
            dots.append(full_rank(full))
        for source, rows in rest.items():
            text = told.texts[source]
            values = [mean(named_rows(rows, group), column.key) for group in named.values()]
            name = text if len(rest) > 1 else column.words
            dots.append(Dots(name, told.looks[text].colour, "o", values))
        entries |= dot_rows(axes, list(named), dots)
        axes.tick_params(labelleft=place[1] == 0)
        axes.set_xlabel(column.axis.replace("\n", ", "))
        if column.counts:
            linear_values(axes)
    return entries
