"""The metric at the end of each run against what a sweep varies (P1, Prediction 4.1).

A dot a run, so that seeds are seen; a line through their means, for runs that agree in all else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn
from rankscope.figures.dots import (
    FOOT,
    Dots,
    dot_columns,
    dot_rows,
    linear_values,
    longest_line,
    rows_height,
)
from rankscope.figures.groups import mean, name_letters, undrawn
from rankscope.figures.runs import (
    AXES,
    Look,
    apart,
    described,
    is_number,
    looks_of,
    told_sources,
    varied,
)
from rankscope.figures.words import in_lines, titled
from rankscope.palette import LIGHT
from rankscope.rows import Row
from rankscope.sweeps.trends import PREDICTED
from rankscope.table import Table
from rankscope.views.layout import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

HEIGHT = 2.0  # inches

LEAST_WIDTH = 2.2  # inches

LOGARITHMIC = 4  # the quotient of levels from which on their axis is, as what doubles needs


@dataclass(frozen=True, slots=True)
class Panel:
    """What one hyperparameter does.

    Attributes:
        key: which.
        groups: runs that agree in all else, by what these others are.
        looks: of the groups.
    """

    key: str
    groups: dict[str, list[Row]]
    looks: dict[str, Look]


def over_settings(table: Table, columns: Sequence[Drawn], width: float) -> Figure:
    """Axes a hyperparameter that varies; a row of them a threshold."""
    panels = panels_of(table)
    if not panels:
        return _beside_names(table, columns, width)
    across = house.columns_of(width, LEAST_WIDTH, len(panels))
    bands = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [height for band in bands for height in (*[HEIGHT] * len(columns), _legend(band))]
    shown = {run["source"] for panel in panels for runs in panel.groups.values() for run in runs}
    alone = len({row["source"] for row in table.summary}) - len(shown)
    values = ends_of(table, shown, columns)
    words = _words(columns, values)
    title = titled(table, words + (f"; {alone} that nothing compares to left out" if alone else ""))
    figure = house.blank(width, house.HEAD + sum(heights), title)
    grid = figure.add_gridspec(len(heights), across, height_ratios=heights)
    for index, band in enumerate(bands):
        top = index * (len(columns) + 1)
        for row, column in enumerate(columns):
            places = [grid[top + row, place] for place in range(len(band))]
            _row(figure, places, band, column, values[column.key], last=column is columns[-1])
        for place, panel in enumerate(band):
            _explain(figure.add_subplot(grid[top + len(columns), place]), panel)
    return figure


def ends_of(
    table: Table, sources: Iterable[str], columns: Sequence[Drawn]
) -> dict[str, dict[str, float]]:
    """By column and source the mean at the end, as the table has it; infinite or NaN for none."""
    last = {row["source"]: row for row in table.summary}
    found: dict[str, dict[str, float]] = {column.key: {} for column in columns}
    for source in sources:
        rows = last_step([row for row in table.matrices if row["source"] == source])
        averaged = [row for row in rows if row["averaged"] is not False]
        for key, values in found.items():
            value = last[source][key]
            values[source] = mean(averaged, key) if value is None else float(value)
    return found


def _words(columns: Sequence[Drawn], values: Mapping[str, Mapping[str, float]]) -> str:
    """What is shown, and the runs of which it is not."""
    lacking = undrawn(value for of_run in values.values() for value in of_run.values())
    return f"{columns[0].words} at the end of each run{lacking}"


def _legend(band: Sequence[Panel]) -> float:
    """Inches of the legends below a row of axes; almost none where each has one line."""
    most = max(len(panel.groups) for panel in band)
    return house.LEGEND * most if most > 1 else 0.01


def _row(
    figure: Figure,
    places: Sequence[SubplotSpec],
    band: Sequence[Panel],
    column: Drawn,
    values: Mapping[str, float],
    *,
    last: bool,
) -> None:
    """Axes side by side for one threshold, with one vertical axis."""
    drawn: list[Axes] = []
    for place, panel in zip(places, band, strict=True):
        axes = figure.add_subplot(place, sharey=drawn[0] if drawn else None)
        _panel(axes, panel, values)
        axes.set_ylabel(column.axis)
        axes.set_xlabel(AXES[panel.key] if last else "")
        drawn.append(axes)
    if column.counts:
        house.from_zero(drawn)
    house.only_outer_labels(drawn, len(drawn))


def _explain(axes: Axes, panel: Panel) -> None:
    """What the colours of the axes above mean, where there are several."""
    from matplotlib.lines import Line2D

    axes.set_axis_off()
    if len(panel.looks) > 1:
        lines = [
            Line2D([], [], color=look.colour, linestyle=look.style) for look in panel.looks.values()
        ]
        texts = list(panel.looks)
        axes.legend(lines, texts, loc="upper center", borderaxespad=0, handlelength=1.6)


def panels_of(table: Table) -> list[Panel]:
    """Each hyperparameter that varies while all others are the same, with its runs."""
    found = []
    keys = varied(table.runs)
    for key in PREDICTED:
        others = [other for other in keys if other != key]
        groups: dict[str, list[Row]] = {}
        for run in table.runs:
            if is_number(run[key]):
                groups.setdefault(described(run, others), []).append(run)
        several = {text: runs for text, runs in groups.items() if len({r[key] for r in runs}) > 1}
        if several:
            members = [run for runs in several.values() for run in runs]
            looks = looks_of(members, others)
            found.append(Panel(key, {text: several[text] for text in looks}, looks))
    return found


def _panel(axes: Axes, panel: Panel, values: Mapping[str, float]) -> None:
    """Dots and lines of one hyperparameter; a line has a gap where its mean is not finite."""
    levels = sorted({run[panel.key] for runs in panel.groups.values() for run in runs})
    for text, runs in panel.groups.items():
        look = panel.looks[text]
        ends = [(run[panel.key], values[run["source"]]) for run in runs]
        known = [(level, value) for level, value in ends if math.isfinite(value)]
        axes.plot(
            [level for level, _ in known],
            [value for _, value in known],
            linestyle="",
            marker="o",
            markerfacecolor="none",
            color=look.colour,
        )
        there = [level for level in levels if any(level == one for one, _ in ends)]
        means = [_mean([value for one, value in ends if one == level]) for level in there]
        axes.plot(there, means, look.style, color=look.colour)
    _level_axis(axes, levels)


def _mean(values: Sequence[float]) -> float:
    """Of what is defined, NaN where nothing is, or where one is infinite."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known and all(map(math.isfinite, known)) else math.nan


def _level_axis(axes: Axes, levels: Sequence[float]) -> None:
    """A tick a level; logarithmic where they span a decade."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if levels[0] > 0 and levels[-1] >= LOGARITHMIC * levels[0]:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(levels))
    axes.set_xticks(levels, [house.shown(level) for level in levels])


def _beside_names(table: Table, columns: Sequence[Drawn], width: float) -> Figure:
    """Runs of which nothing is known that varies: dots beside their names."""
    sources = {row["source"] for row in table.summary}
    told = apart(table) if len(table.runs) == len(sources) else told_sources(table).texts
    names = in_lines(list(told.values()), name_letters(width))
    across = dot_columns(width, longest_line(names), len(columns))
    bands = -(-len(columns) // across)
    height = house.HEAD + bands * (FOOT + rows_height(names))
    values = ends_of(table, told, columns)
    figure = house.blank(width, height, titled(table, _words(columns, values)))
    grid = figure.add_gridspec(bands, across)
    for index, column in enumerate(columns):
        place = divmod(index, across)
        axes = figure.add_subplot(grid[place])
        shown = [values[column.key][source] for source in told]
        dot_rows(axes, names, [Dots(column.words, LIGHT.unordered[0], "o", shown)])
        axes.tick_params(labelleft=place[1] == 0)
        axes.set_xlabel(column.axis.replace("\n", ", "))
        if column.counts:
            linear_values(axes)
    return figure
