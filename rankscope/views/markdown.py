"""Tables for a pull request, a README or a notebook's text cell."""

from __future__ import annotations

import re

from rankscope.views.grid import Grid
from rankscope.views.report import Report

# Everything that CommonMark or GitHub's tables give a meaning to, and what GitHub makes links of.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-!|~@&]|:(?=//)|\.(?<=www\.))")

# What a cell of numbers is made of, which reads as itself: 1e-05, ~3, 128x64, 75%, 1-3.
NUMBER = re.compile(r"~?[0-9][0-9.ex%+-]*|-|yes|no|inf")


def render(report: Report, *, everything: bool = True) -> str:
    """GitHub-flavoured tables, and the remarks."""
    parts = [_grid(grid) for grid in report.grids(everything)]
    parts += [escape(one.text) + "\n" for one in report.remarks(everything)]
    return "\n".join(parts)


def escape(text: str) -> str:
    """Text that reads as itself."""
    return SPECIAL.sub(r"\\\1", text)


def _grid(grid: Grid) -> str:
    rule = ["---" if i < grid.labels else "---:" for i in range(len(grid.headings))]
    lines = [_line([escape(heading) for heading in grid.headings]), _line(rule)]
    lines += [
        _line([cell if NUMBER.fullmatch(cell) else escape(cell) for cell in row])
        for row in grid.rows
    ]
    return f"**{escape(grid.title)}**\n\n" + "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
