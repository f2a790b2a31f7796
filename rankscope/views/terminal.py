"""A table for a terminal: fits its width, says what it left out."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType

from rankscope.table import Table
from rankscope.views.layout import grids
from rankscope.views.remarks import remarks
from rankscope.views.richgrid import grid_lines, remark_lines


def renderable(table: Table, width: int, *, everything: bool = False) -> RenderableType:
    """The table as rich prints it, for a terminal of `width` columns."""
    parts: list[RenderableType] = []
    for grid in grids(table, everything=everything):
        parts += grid_lines(grid, width)
    parts += remark_lines(remarks(table, everything=everything))
    return Group(*parts)


def render(table: Table, *, width: int = 100, everything: bool = False) -> str:
    """The table as plain text."""
    console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable(table, width, everything=everything))
    return capture.get()
