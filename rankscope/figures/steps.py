"""Lines over the steps of a run: of each matrix, or of a kind of layers where there are many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.groups import largest_kinds, mean
from rankscope.figures.runs import Look, ordered, unordered
from rankscope.figures.words import FILLER, distinct, plain, plain_names
from rankscope.rows import Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 6  # lines that are told apart by their shades, each named in a legend

MANY = 48  # lines in a pair of axes; of more, means over layers of a kind

LETTERS = 44  # of a name in a legend

DOT = "o"  # of a point without neighbours

THIN, THICK = 0.8, 1.8  # points, of the lines of matrices and of their mean


@dataclass(frozen=True, slots=True)
class Tracks:
    """The matrices of a run as lines.

    Attributes:
        members: by what a legend calls a line, the matrices that it is the mean of.
        looks: by the same.
        named: whether the legend lists them; else a bar of colours tells.
    """

    members: Mapping[str, Sequence[str]]
    looks: Mapping[str, Look]
    named: bool


def tracks_of(rows: Sequence[Row]) -> Tracks:
    """The lines for these matrices, whatever the snapshot."""
    once = list({row["name"]: row for row in rows}.values())
    names = [row["name"] for row in once]
    if len(names) <= MANY:
        named = len(names) <= FEW
        told = plain_names(names, LETTERS) if named else names
        return Tracks(dict(zip(told, ([n] for n in names), strict=True)), ordered(told), named)
    kinds = largest_kinds(once, MANY)
    told = distinct([plain(label.replace(FILLER, "", 1), LETTERS) for label in kinds])
    members = [[row["name"] for row in group] for group in kinds.values()]
    groups = dict(zip(told, members, strict=True))
    return Tracks(groups, unordered(list(groups)), named=True)


def track_points(tracks: Tracks, rows: Sequence[Row]) -> dict[str, list[list[Row]]]:
    """By line, what its point at each step is the mean of."""
    steps = sorted({row["step"] for row in rows if row["step"] is not None})
    there = {(row["name"], row["step"]): row for row in rows}
    return {
        told: [[there[name, step] for name in names if (name, step) in there] for step in steps]
        for told, names in tracks.members.items()
    }


def track_lines(axes: Axes, tracks: Tracks, rows: Sequence[Row], key: str) -> dict[str, Artist]:
    """Draws a column over the steps; returns what the legend says."""
    steps = sorted({row["step"] for row in rows if row["step"] is not None})
    entries: dict[str, Artist] = {}
    for told, points in track_points(tracks, rows).items():
        look = tracks.looks[told]
        # What is infinite is no end of an axis, but a gap.
        line = [value if math.isfinite(value := mean(one, key)) else math.nan for one in points]
        (entries[told],) = axes.plot(
            steps,
            line,
            color=look.colour,
            linestyle=look.style,
            linewidth=THIN,
            marker=DOT if any(alone(line)) else "",
            markevery=alone(line),
        )
    return entries if tracks.named else {}


def alone(line: Sequence[float]) -> list[bool]:
    """Which points have gaps or nothing at both sides, so that a line leaves them out."""
    known = [False, *map(math.isfinite, line), False]
    return [
        here and not before and not after
        for before, here, after in zip(known, known[1:], known[2:], strict=False)
    ]


def track_bar(figure: Figure, axes: Sequence[Axes], tracks: Tracks) -> None:
    """The bar of colours of lines that no legend lists."""
    if not tracks.named:
        shades = [look.colour for look in tracks.looks.values()]
        ends = ("1", str(len(shades)))
        name = "matrix, in the order of the table"
        house.colour_bar(figure, axes, shades, ends, name, house.bar_pad(figure))


def step_axis(axes: Axes) -> None:
    """A horizontal axis of training steps, whole ones."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel("step")


def heights(tracks: Tracks, others: Sequence[str], width: float) -> float:
    """Inches that the legend and the bar of colours take; `others` are the legend's other names."""
    names = [*(tracks.members if tracks.named else ()), *others]
    return house.LEGEND * house.legend_rows(width, names) + house.BAR * (not tracks.named)
