"""A grid and its remarks as rich prints them: as many columns as fit, names shortened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from rankscope.text import inert, shortened_names
from rankscope.views.grid import MIN_NAME, Grid
from rankscope.views.report import Remark

GAP = 2  # blanks between columns; the box itself puts one


def grid_lines(grid: Grid, width: int) -> list[RenderableType]:
    """One grid: its title, as many columns as fit, and what was left out."""
    # What is printed may be the log of a CI system.
    rows = tuple(tuple(map(inert, row)) for row in grid.rows)
    grid = replace(grid, title=inert(grid.title), rows=rows)
    widths = [
        max([len(word) for word in heading.split(" ")] + [len(row[i]) for row in grid.rows])
        for i, heading in enumerate(grid.headings)
    ]
    count, names = _fitting(grid, widths, width)
    shown = RichTable(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for i, heading in enumerate(grid.headings[:count]):
        head = Text(heading.replace(" ", "\n"), style="bold")
        shown.add_column(head, justify="left" if i < grid.labels else "right", no_wrap=True)
    for i, row in enumerate(grid.rows):
        cells = list(row[:count])
        if grid.labels:
            cells[grid.labels - 1] = names[i]
        shown.add_row(*(Text(cell) for cell in cells))
    parts: list[RenderableType] = [Text(grid.title, style="bold cyan"), shown]
    left_out = grid.headings[count:]
    if left_out:
        more = ", ".join(left_out)
        choose = ", -m NAME chooses" if grid.metrics else ""
        hint = f"-o FILE or a wider terminal shows all{choose}"
        parts.append(Text(f"{len(left_out)} more ({hint}): {more}", style="dim"))
    parts.append(Text(""))
    return parts


def remark_lines(remarks: Iterable[Remark]) -> list[RenderableType]:
    """Remarks, what is lacking and what is a result to be seen first."""
    return [Text(inert(one.text), style=_style(one)) for one in remarks]


def _style(remark: Remark) -> str:
    if remark.lacking:
        return "bold yellow"
    return "bold" if remark.strong else "dim"


def _fitting(grid: Grid, widths: list[int], width: int) -> tuple[int, list[str]]:
    """How many columns fit, and the last label of each row, shortened to what must stay of it."""
    needed = list(widths)
    least = len(needed) - grid.optional
    if grid.labels:
        needed[grid.labels - 1] = min(needed[grid.labels - 1], grid.kept)
    count = len(needed)
    while count > least and sum(needed[:count]) + GAP * count > width:
        count -= 1
    if not grid.labels:
        return count, []
    distinct = len({row[grid.labels - 1] for row in grid.rows})
    for fewer in range(count, least - 1, -1):  # a column less is better than names that read alike
        names = _names(grid, widths, fewer, width)
        if len(set(names)) == distinct:
            return fewer, names
    return count, _names(grid, widths, count, width)


def _names(grid: Grid, widths: list[int], count: int, width: int) -> list[str]:
    """The last labels, shortened to the room that the first `count` columns leave them."""
    name = grid.labels - 1
    room = width - sum(widths[:count]) - GAP * count + widths[name]
    filler = grid.filler if widths[name] > room else ""
    whole = [row[name].replace(filler, "", 1) for row in grid.rows]
    return shortened_names(whole, max(MIN_NAME, room))
