"""Dots beside names: values of matrices or runs that have no axis of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.groups import LETTER
from rankscope.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ROW = 0.155  # inches, of a name
LINE = 0.12  # inches, of each further line of one

FOOT = 0.55  # inches, of the axis below them

LEAST_WIDTH = 1.15  # inches, of axes of dots

FULL = "full rank"


@dataclass(frozen=True, slots=True)
class Dots:
    """What is drawn for every name.

    Attributes:
        told: what the legend calls it.
        colour: of the dots.
        marker: as matplotlib has them.
        values: one a name; none is drawn where it is not finite.
        hollow: whether a dot is, one a name; empty for none.
    """

    told: str
    colour: str
    marker: str
    values: Sequence[float]
    hollow: Sequence[bool] = ()


def dot_columns(width: float, letters: int, count: int) -> int:
    """How many axes of dots stand side by side to the right of names of so many letters."""
    return house.columns_of(width - letters * LETTER - 0.2, LEAST_WIDTH, count)


def rows_height(names: Sequence[str]) -> float:
    """Inches that names below each other take; each as many as the one of the most lines."""
    return len(names) * (ROW + LINE * max(name.count("\n") for name in names))


def longest_line(names: Sequence[str]) -> int:
    """The letters of the longest line of some names."""
    return max(len(line) for name in names for line in name.split("\n"))


def dot_rows(axes: Axes, names: Sequence[str], dots: Sequence[Dots]) -> dict[str, Artist]:
    """Draws names downwards and the dots beside them; returns what the legend says."""
    entries: dict[str, Artist] = {}
    places = range(len(names))
    for one in dots:
        if not any(map(math.isfinite, one.values)):
            continue
        hollow = one.hollow or [False] * len(names)
        for empty in (False, True):
            shown = [i for i in places if hollow[i] == empty and math.isfinite(one.values[i])]
            if not shown:
                continue
            (artist,) = axes.plot(
                [one.values[i] for i in shown],
                shown,
                linestyle="",
                marker=one.marker,
                markersize=6 if one.marker == "|" else 4,
                color=one.colour,
                markerfacecolor="none" if empty else one.colour,
                clip_on=False,  # whole dots at rank 0
                zorder=3,
            )
            entries.setdefault(one.told, artist)
    axes.set_yticks(list(places), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return entries


def linear_values(axes: Axes) -> None:
    """A horizontal axis of whole numbers from 0 to a little above what is drawn."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    right = float(axes.dataLim.x1)
    axes.set_xlim(0, 1.03 * right if right > 0 else 1)


def full_rank(values: Sequence[float]) -> Dots:
    """A tick where all directions would be used."""
    return Dots(FULL, LIGHT.muted, "|", values)
