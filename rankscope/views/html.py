"""A fragment of HTML: what a notebook shows of a result."""

from __future__ import annotations

from html import escape

from rankscope.table import Table
from rankscope.views.layout import Grid, grids, remarks


def render(table: Table, *, everything: bool = False) -> str:
    """Tables without a style of their own, so that the notebook's theme applies."""
    parts = [_grid(grid) for grid in grids(table, everything=everything)]
    parts += [f"<p>{escape(line)}</p>" for line in remarks(table.skipped, everything=everything)]
    return "\n".join(parts)


def _grid(grid: Grid) -> str:
    head = "".join(f"<th scope='col'>{escape(heading)}</th>" for heading in grid.headings)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows
    )
    caption = f"<caption>{escape(grid.title)}</caption>"
    return f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
