"""How the norm of each matrix changes from snapshot to snapshot.

Theorem 3.3 has the ratio tend to 1. As in P1's Figures 14 and 15: axes for each run, in them a line
a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.figures import house
from rankscope.figures.groups import MEANS
from rankscope.figures.runs import apart, told_sources
from rankscope.figures.steps import heights, step_axis, track_bar, track_lines, tracks_of
from rankscope.figures.words import RATIO_NAME, TITLE, kind_title, shorter, titled
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

NAMED = 3  # in a title, of the sources that have none


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
    words = "ratio of the norms of consecutive snapshots"
    words += MEANS * any(len(names) > 1 for names in tracks.members.values())
    figure = house.blank(width, height, titled(table, words + _left_out(table, list(runs))))
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


def _left_out(table: Table, drawn: Sequence[str]) -> str:
    """What a title says of sources that have no ratio."""
    told = told_sources(table).texts
    rest = [shorter(told[source], TITLE) for source in told if source not in drawn]
    named = ", ".join(rest[:NAMED]) + (f" and {len(rest) - NAMED} more" if rest[NAMED:] else "")
    return f"; not drawn, no ratio of two snapshots: {named}" if rest else ""


def _why_none(table: Table) -> str:
    """Why there is no ratio, as the rows of later snapshots say."""
    first = {row["source"]: row["step"] for row in reversed(table.summary)}
    later = [row for row in table.matrices if row["step"] != first[row["source"]]]
    reason = next(filter(None, (row["notes"].get(RATIO) for row in later)), None)
    if reason is None:
        return "norm-ratio needs two snapshots of a run"
    return f"no ratio of norms to draw: {reason}"


def _runs(table: Table) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in table.matrices:
        if row.get(RATIO) is not None:
            found.setdefault(row["source"], [])
    if not found:
        raise UsageError(f"{_why_none(table)}; spectrum, rank and heatmap do without")
    if len(found) > MANY_RUNS:
        raise UsageError(
            f"norm-ratio has room for {MANY_RUNS} runs, and {len(found)} were given; choose some"
        )
    for row in table.matrices:
        if row["source"] in found:
            found[row["source"]].append(row)
    return found
