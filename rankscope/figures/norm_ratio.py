"""How the norm of each matrix changes from snapshot to snapshot.

Theorem 3.3 has the ratio tend to 1. As in P1's Figures 14 and 15: axes for each run, in them a line
a matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.figures import house
from rankscope.figures.runs import apart
from rankscope.figures.steps import heights, step_axis, track_bar, track_lines, tracks_of
from rankscope.figures.words import RATIO_NAME, kind_title, titled
from rankscope.palette import LIGHT
from rankscope.rows import Row
from rankscope.table import Table
from rankscope.trajectory import RATIO

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

HEIGHT = 1.5  # inches

TALL = 2.4  # inches, where there is one pair of axes

LEAST_WIDTH = 1.7  # inches

MANY_RUNS = 24  # pairs of axes


def norm_ratio_figure(table: Table, width: float) -> Figure:
    """Axes a run that has the ratio of two snapshots at least.

    Raises:
        UsageError: no run has one, or more do than a figure has room for.
    """
    runs = _runs(table)
    tracks = tracks_of(table.matrices)
    columns = house.columns_of(width, LEAST_WIDTH, len(runs))
    bands = -(-len(runs) // columns)
    height = house.HEAD + (TALL if len(runs) == 1 else bands * HEIGHT) + heights(tracks, [], width)
    title = titled(table, "ratio of the norms of consecutive snapshots")
    figure = house.blank(width, height, title)
    drawn = house.multiples(figure, len(runs), columns)
    told = apart(table) if len(runs) > 1 else {}
    entries: dict[str, Artist] = {}
    for axes, (source, rows) in zip(drawn, runs.items(), strict=True):
        entries |= track_lines(axes, tracks, rows, RATIO)
        axes.axhline(1, color=LIGHT.muted, linewidth=0.6)
        axes.set_title(kind_title(told.get(source, ""), int(width / columns * house.LETTERS)))
        axes.set_ylabel(RATIO_NAME)
        step_axis(axes)
    for axes in drawn[:-columns]:
        axes.set_xlabel("")
    house.only_outer_labels(drawn, columns)
    track_bar(figure, drawn, tracks)
    house.legend_below(figure, entries)
    return figure


def _runs(table: Table) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in table.matrices:
        if row.get(RATIO) is not None:
            found.setdefault(row["source"], [])
    if not found:
        raise UsageError(
            "norm-ratio needs two snapshots of a run; spectrum, rank and heatmap do without"
        )
    if len(found) > MANY_RUNS:
        raise UsageError(
            f"norm-ratio has room for {MANY_RUNS} runs, and {len(found)} were given; choose some"
        )
    for row in table.matrices:
        if row["source"] in found:
            found[row["source"]].append(row)
    return found
