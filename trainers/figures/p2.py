"""P2's figures, from what `python -m trainers curves` leaves."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rankscope.errors import InputRejected
from trainers.completion import curves, samples
from trainers.completion.cell import Cell
from trainers.completion.groups import PARTIAL, group_name, place
from trainers.completion.history import Moment, read_history
from trainers.figures import bands, house, p2samples

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIMISERS = {"gd": "gradient descent", "adam": "Adam"}

HEADINGS = (bands.ERROR, "effective rank", "singular values")

# Of singular values: P2 has the first solid and that of the target's rank dotted.
STYLES: tuple[bands.LineStyle, ...] = ("-", ":", "--")

WIDEST = 2.0  # points, of a row's first line, which can so be seen under those that agree with it

Seeds: TypeAlias = Sequence[Sequence[Moment]]


def draw_dynamics(name: str, directory: Path) -> Figure:
    """P2-F1 to F3 and F6 to F8: error, effective rank and singular values by iteration.

    Args:
        name: which.
        directory: that of all runs.

    Raises:
        InputRejected: none of its runs is there, or one is damaged.
    """
    choices, shown = bands.chosen(name, directory), curves.FIGURES[name]
    rows = curves.rows(shown, choices)
    lines = {
        cell: seeds
        for row in rows
        for cell in row.cells
        if (seeds := _seeds(cell, choices.seeds, directory / name))
    }
    if not lines:
        reason = f"has none of the runs; {bands.command(name, directory)}"
        raise InputRejected(directory / name, reason)
    first = rows[0].cells
    numbers, looks = _sigma_numbers(shown, first[0]), _looks(first)
    title = bands.title(name, shown.title, first[0], choices)
    figure = house.blank(bands.WIDTH, 0.8 + house.HEIGHT * len(rows), title)
    grid = figure.subplots(len(rows), 3, sharex=True, sharey="col", squeeze=False)
    for row, axes in zip(rows, grid, strict=True):
        _draw_row(axes, {cell: lines[cell] for cell in row.cells if cell in lines}, numbers, looks)
        _finish_row(axes, row.cells[0])
    for index, words in enumerate(HEADINGS):
        grid[0][index].set_title(words)
        grid[-1][index].set_xlabel("iteration")
    house.legend_below(figure, _entries(looks, numbers, max(map(len, lines.values()))))
    return figure


FIGURES: Mapping[str, Callable[[Path], Figure]] = {
    **{name: partial(draw_dynamics, name) for name in curves.FIGURES},
    **{name: partial(p2samples.draw, name) for name in samples.FIGURES},
}


def _seeds(cell: Cell, seeds: int, directory: Path) -> Seeds:
    """The records of a cell with every seed that is there, finished or not."""
    found = []
    group = directory / curves.observed_place(cell) / group_name(cell)
    for seed in range(seeds):
        run = place(replace(cell, seed=seed))
        there = [base / run for base in (group, group.with_name(group.name + PARTIAL))]
        existing = [path for path in there if path.exists()]
        if not existing:
            print(f"missing: {there[0]}", file=sys.stderr)
            continue
        history = read_history(existing[0])
        if history and not math.isfinite(history[-1].error_all):
            print(f"{existing[0]}: diverged; drawn so far", file=sys.stderr)
        found.append(history)
    return found


def _sigma_numbers(shown: curves.Dynamics, cell: Cell) -> tuple[int, ...]:
    """Which singular values are shown."""
    numbers = (1, cell.rank, cell.rank + 1) if shown.beyond else (1, cell.rank)
    return tuple(dict.fromkeys(numbers))  # at rank 1 one of them is twice there


def _line_name(cell: Cell) -> str:
    """What a line of a row is called."""
    if cell.depth > 1:
        return f"depth {cell.depth}"
    return f"λ = {house.shown(cell.strength if cell.penalty != 'none' else 0)}"


def _looks(cells: Sequence[Cell]) -> dict[str, bands.Look]:
    """Of the lines of every row, by their names."""
    narrower = (WIDEST - bands.NARROW) / max(1, len(cells) - 1)
    return {
        _line_name(cell): bands.Look(colour, "-", WIDEST - narrower * index)
        for index, (cell, colour) in enumerate(zip(cells, house.shades(len(cells)), strict=True))
    }


def _draw_row(
    axes: Sequence[Axes],
    lines: Mapping[Cell, Seeds],
    numbers: Sequence[int],
    looks: Mapping[str, bands.Look],
) -> None:
    """The cells of a row that are there."""
    for cell, seeds in lines.items():
        look = looks[_line_name(cell)]
        # A logarithmic axis cannot show step 0.
        moments = [moment for history in seeds for moment in history if moment.step]
        bands.plot(axes[0], bands.band((one.step, one.error_all) for one in moments), look)
        bands.plot(axes[1], bands.band((one.step, one.effective_rank) for one in moments), look)
        for number, style in zip(numbers, STYLES, strict=False):
            values = bands.band((one.step, one.sigma.get(number, math.nan)) for one in moments)
            bands.plot(axes[2], values, replace(look, style=style))
    if not lines:
        for one in axes:
            house.without_runs(one)


def _finish_row(axes: Sequence[Axes], cell: Cell) -> None:
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_ylabel(f"{OPTIMISERS[cell.optimiser]}\n{cell.observed} observed")
    bands.rank_line(axes[1], cell.rank)


def _entries(
    looks: Mapping[str, bands.Look], numbers: Sequence[int], seeds: int
) -> dict[str, Artist]:
    found = {words: bands.sample(look) for words, look in looks.items()}
    for number, style in zip(numbers, STYLES, strict=False):
        found[rf"$\sigma_{{{number}}}$"] = bands.sample(bands.Look(house.GREY, style, bands.NARROW))
    return found | bands.common_entries(seeds)
