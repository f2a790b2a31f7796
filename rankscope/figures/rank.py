"""A rank, or another metric: over a run's steps, a model's depth, or what a sweep varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn, drawn_columns, measured_rows
from rankscope.figures.depth import over_depth
from rankscope.figures.groups import explained
from rankscope.figures.settings import over_settings
from rankscope.figures.steps import (
    DOT,
    THICK,
    alone,
    heights,
    step_axis,
    track_bar,
    track_lines,
    track_points,
    tracks_of,
)
from rankscope.figures.words import titled
from rankscope.scene import Scene
from rankscope.table import Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

HEIGHT = 1.9  # inches, of the axes of one threshold


def rank_figure(scene: Scene, metric: str | None, width: float) -> Figure:
    """The metric's columns, each in axes of its own.

    Raises:
        InputRejected: no matrix has a spectrum.
        UsageError: the table has no such metric.
    """
    table = scene.table
    columns = drawn_columns(table, metric)
    measured_rows(table, table.matrices)
    if scene.kind == "model":
        return over_depth(table, columns, width)
    if scene.kind == "sweep":
        return over_settings(table, columns, width)
    return _over_steps(table, columns, width)


def _over_steps(table: Table, columns: Sequence[Drawn], width: float) -> Figure:
    """A line a matrix and their mean, as the table has it."""
    tracks = tracks_of(table.matrices)
    mean = _mean_words(table)
    height = house.HEAD + HEIGHT * len(columns) + heights(tracks, [mean], width)
    points = [one for line in track_points(tracks, table.matrices).values() for one in line]
    words = f"{columns[0].words} over training"
    words += explained(points, [column.key for column in columns])
    figure = house.blank(width, height, titled(table, words))
    drawn = list(figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0])
    entries: dict[str, Artist] = {}
    for axes, column in zip(drawn, columns, strict=True):
        found = track_lines(axes, tracks, table.matrices, column.key)
        steps = [row["step"] for row in table.summary]
        values = [
            float("nan") if row[column.key] is None else row[column.key] for row in table.summary
        ]
        (line,) = axes.plot(
            steps,
            values,
            color="black",
            linewidth=THICK,
            marker=DOT if any(alone(values)) else "",
            markevery=alone(values),
        )
        entries |= {mean: line} | found
        axes.set_ylabel(column.axis)
        if column.counts:
            house.from_zero([axes])
    step_axis(drawn[-1])
    track_bar(figure, drawn, tracks)
    house.legend_below(figure, entries)
    return figure


def _mean_words(table: Table) -> str:
    """What the mean is over."""
    last = table.summary[-1]
    averaged, matrices = last.get("averaged", last["matrices"]), last["matrices"]
    return "mean" if averaged == matrices else f"mean over {averaged} of {matrices}"
