"""The average rank at the end and the bounds on it, over eps; with them the accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.figures import house
from trainers.figures.accuracies import accuracy_entries, draw_accuracies, finish_accuracies
from trainers.figures.measured import Measured, Row, Runs, by_title, key_at, value_of
from trainers.recipes.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("rank",)

LEAST_WIDTH = 2.2  # inches

ROOM = 3  # above the largest value, as a factor

DECADES = 50  # the quotient of thresholds from which on their axis is logarithmic

CLOSED = "bound, closed form"

# What is drawn: its name, colour and marker.
LINES = (
    ("average rank", house.UNORDERED[0], "o"),
    (CLOSED, house.UNORDERED[1], "^"),
    (f"{CLOSED}, first learning rate", house.UNORDERED[1], "^"),
    (f"{CLOSED}, last learning rate", house.UNORDERED[4], "v"),
    ("bound, exact count", house.UNORDERED[2], "s"),
    ("bound, measured norms", house.UNORDERED[3], "d"),
)


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """For each run the ranks, and the accuracies beside them, or below where it is narrow."""
    there = by_title(manifest, runs)
    parts = 1 + manifest.accuracies
    most = house.columns_of(width, LEAST_WIDTH, parts * len(there))
    columns = max(1, most - most % parts)
    bands = -(-parts * len(there) // columns)
    figure = house.blank(width, 0.8 + bands * house.HEIGHT * 1.2, house.heading(manifest))
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


def lines_of(run: Measured, eps: Sequence[float]) -> dict[str, list[float]]:
    """The rank at the end and the bounds on it, by their names, at each eps; NaN where none is.

    Theorem 3.3 with the first learning rate, which is what P1 prints, and with the last; the count
    with the schedule; Lemma 3.2 with the norms of the run. A bound on the average is the average
    of bounds, and there is none where a matrix has none.
    """

    def values(row: Row, metric: str) -> list[float]:
        return [run.mean(row, key_at(metric, one, eps)) for one in eps]

    closed = values(run.last, "bound_closed")
    # At step 0 the learning rate is that of the first update.
    first = values(run.first, "bound_closed") if run.first["step"] == 0 else []
    apart = {f"{CLOSED}, first learning rate": first, f"{CLOSED}, last learning rate": closed}
    return {
        "average rank": [value_of(run.last, key_at("rank", one, eps)) for one in eps],
        **({CLOSED: closed} if first == closed else apart),
        "bound, exact count": values(run.last, "bound_exact"),
        "bound, measured norms": values(run.last, "bound_measured"),
    }


def bounds(axes: Axes, run: Measured, eps: tuple[float, ...]) -> dict[str, Artist]:
    """The lines that there are for one run, and what the legend says of them."""
    entries: dict[str, Artist] = {}
    ascending = sorted(set(eps))
    found = lines_of(run, ascending)
    for name, colour, marker in LINES:
        values = found.get(name, [])
        if not all(math.isnan(value) for value in values):
            inside = "white" if name.startswith("bound") else colour  # bounds lie on each other
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
