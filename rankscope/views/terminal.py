"""A report for a terminal: fits its width, says what it left out."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType

from rankscope.views.report import Report
from rankscope.views.richgrid import grid_lines, remark_lines


def renderable(report: Report, width: int, *, everything: bool = False) -> RenderableType:
    """The report as rich prints it, for a terminal of `width` columns."""
    parts: list[RenderableType] = []
    for grid in report.grids(everything):
        parts += grid_lines(grid, width)
    parts += remark_lines(report.remarks(everything))
    return Group(*parts)


def render(report: Report, *, width: int = 100, everything: bool = False) -> str:
    """The report as plain text."""
    console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable(report, width, everything=everything))
    return capture.get()
