"""The rank beside the bounds on it: over the steps of a run, and for each matrix at its end.

Of several runs the means over the matrices of each. Hollow and thin is what is vacuous: a bound
that is no less than min(rows, columns) says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.figures import house
from rankscope.figures.boundmarks import BOUNDS, names_of, steps_of, told_of
from rankscope.figures.columns import Drawn, drawn_columns, key_at, measured_rows
from rankscope.figures.dots import FOOT, FULL, ROW, dot_columns, longest_line, rows_height
from rankscope.figures.groups import MEANS, beside_names, name_letters, named_rows
from rankscope.figures.runs import apart, told_sources
from rankscope.figures.words import in_lines, titled
from rankscope.palette import LIGHT
from rankscope.scene import Scene
from rankscope.table import Table
from rankscope.views.layout import last_step

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

HEIGHT = 2.0  # inches, of the axes over the steps

MANY_RUNS = 48  # below each other

TITLE = 0.2  # inches, of what stands above axes

VACUOUS = "hollow, thin: vacuous"


def bound_figure(scene: Scene, metric: str | None, width: float) -> Figure:
    """A column of axes a threshold.

    Raises:
        InputRejected: no matrix has a spectrum.
        UsageError: there is no bound, or the metric is none that depends on eps.
    """
    table = scene.table
    columns = drawn_columns(table, metric)
    measured_rows(table, table.matrices)
    if columns[0].eps is None:
        raise UsageError(f"bounds are on the rank at eps, not on the {columns[0].words}")
    sources = list(dict.fromkeys(row["source"] for row in table.matrices))
    if not any(row.get(key) is not None for row in table.matrices for key in _keys(table, columns)):
        reason = _reason(table, columns)
        raise UsageError(f"no bound to draw: {reason}; spectrum, rank and heatmap do without")
    if len(sources) == 1:
        return _of_run(table, columns, width)
    return _of_runs(table, columns, width, sources)


def _keys(table: Table, columns: Sequence[Drawn]) -> list[str]:
    return [key_at(table, name, column.eps or 0) for column in columns for name in BOUNDS]


def _reason(table: Table, columns: Sequence[Drawn]) -> str:
    """Why there is none, as the table says."""
    said = [row["notes"].get(key) for row in table.matrices for key in _keys(table, columns)]
    said += [run["no_bound"] for run in table.runs]
    return next(filter(None, said), "no run that says how it was trained")


def _of_run(table: Table, columns: Sequence[Drawn], width: float) -> Figure:
    """For each threshold the means over the steps, and below them each matrix at the end."""
    steps = sorted({row["step"] for row in table.matrices if row["step"] is not None})
    last = last_step(table.matrices)
    named = beside_names(last, width)
    parts = [HEIGHT, ROW * len(named) + FOOT][len(steps) < 2 :]
    several = MEANS * any(len(group) > 1 for group in named.values())
    figure, places = _blank(table, columns, width, list(named), parts, several)
    entries: dict[str, Artist] = {}
    for column, (*above, below) in zip(columns, places, strict=True):
        for place in above:
            axes = figure.add_subplot(place)
            by_step = [[row for row in table.matrices if row["step"] == step] for step in steps]
            told = [told_of(table, rows, column, mean=True) for rows in by_step]
            entries |= steps_of(axes, steps, told, column)
            axes.set_ylabel(f"mean {column.words}")
            axes.set_title(column.threshold)
        axes = figure.add_subplot(below)
        groups = [named_rows(last, group) for group in named.values()]
        told = [told_of(table, rows, column, mean=False) for rows in groups]
        entries |= names_of(axes, list(named), told, column)
        axes.set_xlabel(f"{column.words} at the end")
        axes.tick_params(labelleft=below.is_first_col())
        axes.set_title("" if above else column.threshold)
    _finish(figure, entries)
    return figure


def _of_runs(
    table: Table, columns: Sequence[Drawn], width: float, sources: Sequence[str]
) -> Figure:
    """For each threshold the means over the matrices of each run at its end."""
    if len(sources) > MANY_RUNS:
        raise UsageError(
            f"bound has room for {MANY_RUNS} runs, and {len(sources)} were given; choose some"
        )
    told_as = apart(table) if len(table.runs) == len(sources) else told_sources(table).texts
    ends = [last_step([row for row in table.matrices if row["source"] == one]) for one in told_as]
    named = in_lines(list(told_as.values()), name_letters(width))
    figure, places = _blank(table, columns, width, named, [rows_height(named) + FOOT])
    entries: dict[str, Artist] = {}
    for column, (place,) in zip(columns, places, strict=True):
        axes = figure.add_subplot(place)
        told = [told_of(table, rows, column, mean=True) for rows in ends]
        entries |= names_of(axes, named, told, column)
        axes.set_xlabel(f"mean {column.words} at the end")
        axes.tick_params(labelleft=place.is_first_col())
        axes.set_title(column.threshold)
    _finish(figure, entries)
    return figure


def _blank(
    table: Table,
    columns: Sequence[Drawn],
    width: float,
    names: Sequence[str],
    parts: Sequence[float],
    more: str = "",
) -> tuple[Figure, list[list[SubplotSpec]]]:
    """The empty figure, and for each threshold its places, as high as `parts` below each other."""
    across = dot_columns(width, longest_line(names), len(columns))
    bands = -(-len(columns) // across)
    told = [columns[0].words, *(name for name, _, _ in BOUNDS.values()), FULL, VACUOUS]
    height = house.HEAD + bands * (sum(parts) + TITLE)
    height += house.LEGEND * (1 + house.legend_rows(width, told))
    title = titled(table, f"{columns[0].words} and the bounds on it{more}")
    figure = house.blank(width, height, title)
    grid = figure.add_gridspec(bands * len(parts), across, height_ratios=list(parts) * bands)
    return figure, [
        [grid[index // across * len(parts) + part, index % across] for part in range(len(parts))]
        for index in range(len(columns))
    ]


def _finish(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """The legend in one order, whatever was drawn first; what is hollow is said at its end."""
    from matplotlib.lines import Line2D

    order = [*(name for name, _, _ in BOUNDS.values()), FULL]
    first = {text: entry for text, entry in entries.items() if text not in order}
    rest = {text: entries[text] for text in order if text in entries}
    hollow = Line2D([], [], linestyle="", marker="s", color=LIGHT.text, markerfacecolor="none")
    house.legend_below(figure, first | rest | {VACUOUS: hollow})
