"""The average rank at the end and the bounds on it, over eps; with them the accuracies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainers.figures import house
from trainers.figures.accuracies import accuracy_entries, draw_accuracies, finish_accuracies
from trainers.figures.measured import Measured, Runs, by_title, key_at, value_of
from trainers.recipes.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("rank",)

LEAST_WIDTH = 2.2  # inches

ROOM = 3  # above the largest value, as a factor

DECADES = 50  # the quotient of thresholds from which on their axis is logarithmic

# What is drawn: the column of the analysis, its name, colour and marker. Theorem 3.3 with the last
# update's hyperparameters; the count with the schedule; Lemma 3.2 with the norms of the run.
LINES = (
    ("rank", "average rank", house.UNORDERED[0], "o"),
    ("bound_closed", "bound, closed form", house.UNORDERED[1], "^"),
    ("bound_exact", "bound, exact count", house.UNORDERED[2], "s"),
    ("bound_measured", "bound, measured norms", house.UNORDERED[3], "d"),
)


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """For each run the ranks, and the accuracies beside them, or below where it is narrow."""
    there = by_title(manifest, runs)
    parts = 1 + manifest.accuracies
    most = house.columns_of(width, LEAST_WIDTH, parts * len(there))
    columns = max(1, most - most % parts)
    bands = -(-parts * len(there) // columns)
    title = f"{manifest.recipe}: {manifest.title}"
    figure = house.blank(width, 0.8 + bands * house.HEIGHT * 1.2, title)
    grid = figure.add_gridspec(bands, columns)
    entries: dict[str, Artist] = {}
    for index, (told, members) in enumerate(there.items()):
        axes = figure.add_subplot(grid[divmod(parts * index, columns)])
        for run in members:
            entries |= bounds(axes, run, manifest.eps)
        axes.set_title(told)
        if manifest.accuracies:
            beside = figure.add_subplot(grid[divmod(parts * index + 1, columns)])
            for run in members:
                draw_accuracies(beside, run, "black", "")
            finish_accuracies(beside)
            house.epoch_axis(beside)
            entries |= accuracy_entries()
    house.legend_below(figure, entries)
    return figure


def bounds(axes: Axes, run: Measured, eps: tuple[float, ...]) -> dict[str, Artist]:
    """The lines that there are for one run, and what the legend says of them."""
    entries: dict[str, Artist] = {}
    ascending = sorted(set(eps))
    for metric, name, colour, marker in LINES:
        values = [value_of(run.last, key_at(metric, one, eps)) for one in ascending]
        if not all(math.isnan(value) for value in values):
            inside = colour if metric == "rank" else "white"  # two bounds may lie on each other
            (entries[name],) = axes.plot(
                ascending,
                values,
                color=colour,
                marker=marker,
                markerfacecolor=inside,
                label=name,
                clip_on=False,  # whole markers at rank 0
            )
    entries["full rank"] = axes.axhline(
        run.full_rank, color=house.GREY, linewidth=0.8, linestyle=":", label="full rank"
    )
    if ascending[-1] > DECADES * ascending[0]:
        axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)  # a large eps leaves rank 0
    axes.set_ylim(0, ROOM * axes.dataLim.y1)
    axes.set_xlabel("ε")
    axes.set_ylabel("rank")
    return entries
