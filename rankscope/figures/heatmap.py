"""A map of a metric: kinds of layers downwards, their depth to the right.

What counts directions is shown as a share of min(rows, columns), so that matrices of all shapes
compare. What could not be measured is crossed out, what is infinite or undefined says so in a cell
without a colour of the scale; where there is no matrix, there is no cell.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn, drawn_columns, measured_rows
from rankscope.figures.groups import (
    LETTER,
    OTHERS,
    check_sources,
    depth_of,
    largest_kinds,
    mean,
    name_letters,
)
from rankscope.figures.runs import told_sources
from rankscope.figures.words import titled, without_range
from rankscope.palette import LIGHT, VIRIDIS, ink
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.views.layout import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.2  # inches, the height of a row

FOOT = 0.55  # inches, of the title of a map and the axis below it

MANY_KINDS = 32  # rows of a map

ROOM = 0.26  # inches, the least width of a cell that its number, "0.87", fits into

TICK = 0.2  # inches, that the number of a layer takes; where there is less, some have none

Ends = tuple[float, float]  # of the scale of colours

INFINITE, UNDEFINED = "inf", "n/a"  # in cells

GREY = "0.88"  # of those, which is no colour of the scale

OUTSIDE = "-"  # the column of what is in no layer


@dataclass(frozen=True, slots=True)
class Grid:
    """A map as it is drawn.

    Attributes:
        kinds: the names of its rows.
        depths: the names of its columns.
        values: a row a kind; NaN where there is none, infinite where one of its values is.
        lacking: the cells, as (row, column), in which a matrix was not measured.
        undefined: the cells in which what was measured has no value.
    """

    kinds: Sequence[str]
    depths: Sequence[str]
    values: Sequence[Sequence[float]]
    lacking: Sequence[tuple[int, int]]
    undefined: Sequence[tuple[int, int]]


def heatmap_figure(scene: Scene, metric: str | None, width: float) -> Figure:
    """A map a checkpoint and threshold, below each other, in one scale of colours.

    Raises:
        InputRejected: no matrix has a spectrum.
        UsageError: the table has no such metric; more checkpoints than there is room for.
    """
    table = scene.table
    columns = drawn_columns(table, metric)
    measured_rows(table, table.matrices)
    told = told_sources(table).texts
    maps = {}
    for source in check_sources(table):
        rows = last_step([row for row in table.matrices if row["source"] == source])
        for column in columns:
            parts = [told[source]] if len(told) > 1 else []
            parts += [column.threshold] if len(columns) > 1 else []
            maps[", ".join(parts)] = grid_of(rows, column, name_letters(width))
    heights = [CELL * len(grid.kinds) + FOOT for grid in maps.values()]
    height = house.HEAD + sum(heights) + house.BAR
    figure = house.blank(width, height, titled(table, _words(columns)))
    ends = _ends(list(maps.values()), columns[0])
    drawn = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, grid) in zip(drawn, maps.items(), strict=True):
        room = width - LETTER * max(map(len, grid.kinds)) - 0.2
        _draw(axes, grid, ends, room / len(grid.depths))
        axes.set_title(title)
    drawn[-1].set_xlabel("layer" if any(grid.depths != [OUTSIDE] for grid in maps.values()) else "")
    _bar(figure, list(drawn), ends, _scale_words(columns, _marks(list(maps.values()))))
    return figure


def _bar(figure: Figure, drawn: Sequence[Axes], ends: Ends, words: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    scale = ScalarMappable(Normalize(*ends), ListedColormap(list(VIRIDIS)))
    bar = figure.colorbar(
        scale, ax=drawn, location="bottom", shrink=0.5, aspect=35, pad=house.bar_pad(figure)
    )
    bar.outline.set_visible(False)
    bar.set_label(textwrap.fill(words, int(figure.get_figwidth() * house.LETTERS / 2)))


def _words(columns: Sequence[Drawn]) -> str:
    share = " as a share of the full rank" if columns[0].counts else ""
    return f"{columns[0].words}{share}"


def _scale_words(columns: Sequence[Drawn], marks: Sequence[str]) -> str:
    words = columns[0].words + (" / min(rows, columns)" if columns[0].counts else "")
    threshold = f", {columns[0].threshold}" if len(columns) == 1 and columns[0].threshold else ""
    return words + threshold + (f"   ({', '.join(marks)})" if marks else "")


def _marks(maps: Sequence[Grid]) -> list[str]:
    """What the marks in cells mean that there are."""
    infinite = any(math.isinf(value) for grid in maps for row in grid.values for value in row)
    found = {
        f"{INFINITE}: infinite": infinite,
        f"{UNDEFINED}: undefined": any(grid.undefined for grid in maps),
        "crossed out: not measured": any(grid.lacking for grid in maps),
    }
    return [words for words, there in found.items() if there]


def grid_of(rows: Sequence[Row], column: Drawn, letters: int) -> Grid:
    """The map of one snapshot; what shares a cell (experts of a layer) by its mean."""
    groups = largest_kinds(rows, MANY_KINDS)
    cells: dict[tuple[str, int | None], list[Row]] = {}
    for label, group in groups.items():
        for index, row in enumerate(group):
            depth = None if label == OTHERS else depth_of(row, index, len(group))
            cells.setdefault((label, depth), []).append(row)
    depths = sorted({depth for _, depth in cells if depth is not None})
    places: list[int | None] = [None] * any(depth is None for _, depth in cells) + [*depths]
    values, lacking, undefined = [], [], []
    for up, label in enumerate(groups):
        for across, depth in enumerate(places):
            here = cells.get((label, depth), [])
            if any(row["status"] != "ok" for row in here):
                lacking.append((up, across))
            elif here and math.isnan(_value(here, column)):
                undefined.append((up, across))
        values.append([_value(cells.get((label, depth), []), column) for depth in places])
    kinds = list(without_range(list(groups), letters).values())
    told = [OUTSIDE if one is None else str(one) for one in places]
    return Grid(kinds, told, values, lacking, undefined)


def _value(rows: Sequence[Row], column: Drawn) -> float:
    """The mean, of what counts directions that of the shares."""
    if not column.counts:
        return mean(rows, column.key)
    known = [row for row in rows if row[column.key] is not None]
    shares = [row[column.key] / min(row["shape"]) / len(known) for row in known]
    return math.fsum(shares) if shares else math.nan


def _ends(maps: Sequence[Grid], column: Drawn) -> Ends:
    """From 0 to 1 for shares; else from the least value to the largest."""
    known = [v for grid in maps for row in grid.values for v in row if math.isfinite(v)]
    return (0.0, 1.0) if column.counts else (min(known, default=0.0), max(known, default=1.0))


def _colour(value: float, ends: Ends) -> str:
    share = (value - ends[0]) / ((ends[1] - ends[0]) or 1.0)
    return VIRIDIS[min(int(share * len(VIRIDIS)), len(VIRIDIS) - 1)]


def _draw(axes: Axes, grid: Grid, ends: Ends, cell: float) -> None:
    """The cells of a map, each `cell` inches wide."""
    from matplotlib.colors import ListedColormap

    # Rectangles, not pixels, which a viewer of the file would blur.
    axes.pcolormesh(
        grid.values,
        cmap=ListedColormap(list(VIRIDIS)),
        vmin=ends[0],
        vmax=ends[1],
        edgecolor="white",
        linewidth=0.4,
    )
    for up, row in enumerate(grid.values):
        for across, value in enumerate(row):
            here, place = (up, across), (across + 0.5, up + 0.5)
            text = _text(value, undefined=here in grid.undefined)
            colour = ink(_colour(value, ends)) if math.isfinite(value) else LIGHT.text
            if text and not math.isfinite(value):
                _ground(axes, across, up)
            if here in grid.lacking:
                axes.plot(*place, "x", color=colour, markersize=4, markeredgewidth=0.8)
            elif text and (cell >= ROOM or not math.isfinite(value)):
                turned = 0 if cell >= ROOM else 90
                axes.text(
                    *place, text, ha="center", va="center", color=colour, size=6, rotation=turned
                )
    _name_cells(axes, grid, math.ceil(TICK / cell))


def _text(value: float, *, undefined: bool) -> str:
    """What a cell says where it has room."""
    if math.isinf(value):
        return INFINITE
    if math.isnan(value):
        return UNDEFINED if undefined else ""
    return house.digits(value)


def _ground(axes: Axes, across: int, up: int) -> None:
    """The grey of a cell whose value has no colour."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((across, up), 1, 1, facecolor=GREY, edgecolor="white", linewidth=0.4))


def _name_cells(axes: Axes, grid: Grid, every: int) -> None:
    places = range(0, len(grid.depths), every)
    numbers = [grid.depths[place] for place in places]
    axes.set_xticks([place + 0.5 for place in places], [] if numbers == [OUTSIDE] else numbers)
    axes.set_yticks([place + 0.5 for place in range(len(grid.kinds))], list(grid.kinds))
    axes.set_ylim(len(grid.kinds), 0)
    axes.set_xlim(0, len(grid.depths))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
