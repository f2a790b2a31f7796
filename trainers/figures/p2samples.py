"""P2's figures 4 and 5: every method over the number of observed entries."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.errors import InputRejected
from trainers.completion import samples
from trainers.figures import bands, house

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is shown of each method: its name, its colour among `house.UNORDERED` and its line. What is
# as P2 ran it, and stops early, is dashed.
METHODS: Mapping[str, tuple[str, int, bands.LineStyle]] = {
    "adam-1-ratio": ("Adam, depth 1, ratio penalty", 1, "-"),
    "gd-3": ("gradient descent, depth 3", 0, "-"),
    "nuclear": ("minimum nuclear norm", 2, "-"),
    "optspace": ("OptSpace", 3, "-"),
    "optspace-as-p2": ("OptSpace as in P2", 3, "--"),
    "softimpute": ("SoftImpute", 4, "-"),
    "softimpute-as-p2": ("SoftImpute as in P2", 4, "--"),
}


def draw(name: str, directory: Path) -> Figure:
    """P2-F4 and F5: error and effective rank of every method over the number of observed entries.

    Args:
        name: which.
        directory: that of all runs.

    Raises:
        InputRejected: none of its points is there.
    """
    choices = bands.chosen(name, directory)
    points = samples.read_points(directory / name / samples.POINTS)
    if not points:
        raise InputRejected(directory / name, f"has no points; {bands.command(name, directory)}")
    wanted = samples.pieces(samples.FIGURES[name], choices)
    _tell("missing", {piece.key for piece in wanted} - {point.key for point in points})
    _tell("diverged", {point.key for point in points if point.error_all is None})
    cell = wanted[0].cell
    figure = house.blank(bands.WIDTH, 3.3, bands.title(name, "by observed entries", cell, choices))
    errors, ranks = figure.subplots(1, 2, sharex=True)
    entries: dict[str, Artist] = {}
    for method, (words, colour, line) in METHODS.items():
        own = [point for point in points if point.method == method]
        if own:
            look = bands.Look(house.UNORDERED[colour], line, bands.NARROW)
            _draw_method(errors, own, "error_all", look)
            _draw_method(ranks, own, "effective_rank", look)
            entries[words] = bands.sample(look)
    errors.set_yscale("log")
    errors.set_ylabel(bands.ERROR)
    ranks.set_ylabel("effective rank")
    bands.rank_line(ranks, cell.rank)
    for axes in (errors, ranks):
        axes.set_xlabel(f"observed entries of {cell.shape[0]}x{cell.shape[1]}")
    if not all(point.converged for point in points):
        entries["not all seeds converged"] = _hollow()
    entries |= bands.common_entries(len({point.seed for point in points}))
    house.legend_below(figure, entries)
    return figure


def _tell(what: str, keys: Iterable[samples.Key]) -> None:
    """A line for each method and number of observed entries."""
    for (method, observed), some in itertools.groupby(sorted(keys), key=lambda key: key[:2]):
        seeds = ", ".join(str(seed) for _, _, seed in some)
        print(f"{what}: {method}, {observed} observed, seed {seeds}", file=sys.stderr)


def _draw_method(axes: Axes, points: Sequence[samples.Point], name: str, look: bands.Look) -> None:
    """A method's line; a hollow marker where some seed has not converged."""
    values = bands.band(
        (one.observed, math.nan if getattr(one, name) is None else getattr(one, name))
        for one in points
    )
    bands.plot(axes, values, look)
    open_at = {one.observed for one in points if not one.converged}
    for x, y in zip(values.x, values.middle, strict=True):
        face = "white" if x in open_at else look.colour
        axes.plot([x], [y], "o", color=look.colour, markerfacecolor=face, zorder=3)


def _hollow() -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", color=house.GREY, markerfacecolor="white")
