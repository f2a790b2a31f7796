"""What P2's figures share: bands over the seeds, and what is kept beside the runs.

Lines are medians over the seeds, bands go from the least to the most of them: P2 shows standard
errors, which a logarithmic axis cannot where they reach below 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias

from rankscope.errors import InputRejected
from trainers.completion.cell import Cell
from trainers.completion.choices import Choices, choices_path, read_choices
from trainers.figures import house

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH = 7.0  # inches, a page of the usual two-column papers

NARROW = 1.1  # points, of a line

ERROR = "mean squared error, all entries"

TARGET = "0.65"  # the grey of the line of the target's rank

LineStyle: TypeAlias = Literal["-", ":", "--"]


@dataclass(frozen=True, slots=True)
class Look:
    """That of a line: colour, style, and width in points."""

    colour: str
    style: LineStyle
    width: float


@dataclass(frozen=True, slots=True)
class Band:
    """Values of several seeds.

    Attributes:
        x: where they are taken.
        middle: their medians.
        low: the least of them.
        high: the most of them.
    """

    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def band(values: Iterable[tuple[float, float]]) -> Band:
    """From pairs of x and a value, in any order; what is not finite is left out."""
    found: dict[float, list[float]] = {}
    for x, value in values:
        if math.isfinite(value):
            found.setdefault(x, []).append(value)
    ordered = sorted(found)
    groups = [found[x] for x in ordered]
    return Band(
        ordered,
        [median(group) for group in groups],
        [min(group) for group in groups],
        [max(group) for group in groups],
    )


def command(name: str, directory: Path) -> str:
    """What makes the runs of a figure."""
    return f"python -m trainers curves {name} --out {directory}"


def chosen(name: str, directory: Path) -> Choices:
    """How those of a figure were made.

    Raises:
        InputRejected: there are none.
    """
    path = choices_path(name, directory)
    if not path.exists():
        reason = f"is not there: {name} has not been run; {command(name, directory)}"
        raise InputRejected(path, reason)
    return read_choices(path)


def title(name: str, words: str, cell: Cell, choices: Choices) -> str:
    """A figure's, with what is chosen otherwise than P2 did."""
    size = f"{cell.shape[0]}x{cell.shape[1]}, rank {cell.rank}"
    rate = "" if choices.lr == Choices.lr else f", learning rate {choices.lr:g}"
    start = "" if choices.start is None else f", start {choices.start.name}"
    return f"{name}: completion of {size}; {words}{rate}{start}"


def plot(axes: Axes, values: Band, look: Look) -> None:
    """A line and its band."""
    axes.plot(
        values.x, values.middle, color=look.colour, linestyle=look.style, linewidth=look.width
    )
    axes.fill_between(values.x, values.low, values.high, color=look.colour, alpha=0.15, linewidth=0)


def rank_line(axes: Axes, rank: int) -> None:
    """That of the target's rank, under the others."""
    axes.axhline(rank, color=TARGET, linewidth=1.0, zorder=1)


def sample(look: Look) -> Artist:
    """A line for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look.colour, linestyle=look.style, linewidth=look.width)


def common_entries(seeds: int) -> dict[str, Artist]:
    """What every legend ends with."""
    from matplotlib.patches import Patch

    found: dict[str, Artist] = {"rank of the target": sample(Look(TARGET, "-", 1.0))}
    if seeds > 1:
        words = f"least to most of {seeds} seeds"
        found[words] = Patch(color=house.GREY, alpha=0.3, linewidth=0)
    return found
