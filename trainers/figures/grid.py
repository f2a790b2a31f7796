"""The average rank at the end over pairs of hyperparameters, a map a panel."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from trainers.figures import house
from trainers.figures.measured import Measured, Runs, value_of
from trainers.recipes.manifest import Group, Label, Manifest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

METRICS = ("rank",)

LEAST_WIDTH = 2.9  # inches; six numbers of three digits side by side, and the axis' own
MAP = "viridis"
CELL = 0.24  # inches, the height of a cell
LEAST_HEIGHT = 1.0  # inches of a map, for the name of its vertical axis

UNFINISHED = "*"

Cells = dict[tuple[Label, Label], tuple[float, bool]]  # (x, y) -> the rank, whether it is final


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """Maps of one colour scale; every cell says its number."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    panels = manifest.panels
    cells = [cells_of(panel, runs) for panel in panels]
    ranks = [rank for one in cells for rank, _ in one.values() if not math.isnan(rank)]
    scale = Normalize(min(ranks, default=0), max(ranks, default=1))
    columns = house.columns_of(width, LEAST_WIDTH, len(panels))
    bands = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    rows = [max(len(_levels(panel, 1)) for panel in band) for band in bands]
    heights = [0.6 + max(LEAST_HEIGHT, CELL * count) for count in rows]
    figure = house.blank(width, 0.9 + sum(heights), f"{manifest.recipe}: {manifest.title}")
    grid = figure.add_gridspec(len(bands), columns, height_ratios=heights)
    drawn = []
    for index, (panel, one) in enumerate(zip(panels, cells, strict=True)):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        heat_map(axes, panel, one, scale)
        drawn.append(axes)
    bar = figure.colorbar(
        ScalarMappable(scale, MAP), ax=drawn, location="bottom", shrink=0.5, aspect=35, pad=0.02
    )
    bar.outline.set_visible(False)
    star = any(not final for one in cells for _, final in one.values())
    note = f"  ({UNFINISHED} not finished)" if star else ""
    bar.set_label(f"average rank at the end, ε = {house.shown(manifest.eps[0])}{note}")
    return figure


def cells_of(panel: Group, runs: Runs) -> Cells:
    """The rank of the runs that are there, by what they were trained with; of seeds the mean."""
    across, up = panel.vary
    found: dict[tuple[Label, Label], list[Measured]] = {}
    for member in panel.runs:
        if member.run in runs:
            place = (member.labels[across], member.labels[up])
            found.setdefault(place, []).append(runs[member.run])
    return {
        place: (
            fmean(value_of(run.last, "rank") for run in members),
            all(run.finished for run in members),
        )
        for place, members in found.items()
    }


def heat_map(axes: Axes, panel: Group, cells: Cells, scale: Normalize) -> None:
    """A cell a run, its number in it; empty where there is no run."""
    across, up = _levels(panel, 0), _levels(panel, 1)
    values = [[cells.get((x, y), (math.nan, True))[0] for x in across] for y in up]
    axes.imshow(values, norm=scale, cmap=MAP, origin="lower", aspect="auto")
    for row, y in enumerate(up):
        for column, x in enumerate(across):
            rank, final = cells.get((x, y), (math.nan, True))
            text = "-" if math.isnan(rank) else _number(rank) + UNFINISHED * (not final)
            # White on the dark half of the scale, black on the light half, and where it is white.
            dark = float(scale(rank)) < 0.6
            colour = "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6.5)
    axes.set_xticks(range(len(across)), [house.shown(x) for x in across])
    axes.set_yticks(range(len(up)), [house.shown(y) for y in up])
    axes.set_xlabel(house.axis_name(panel.vary[0]))
    axes.set_ylabel(house.axis_name(panel.vary[1]))
    axes.set_title(panel.title)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _levels(panel: Group, which: int) -> list[Label]:
    return house.levels(run.labels[panel.vary[which]] for run in panel.runs)


def _number(rank: float) -> str:
    """Three digits, which is what a cell has room for."""
    return f"{rank:.0f}" if rank >= 99.95 else f"{rank:.1f}"
