"""An overview for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from rankscope.overview import Overview
from rankscope.table import Row
from rankscope.text import printable
from rankscope.views.cells import SHORT_TYPES, counted, step
from rankscope.views.layout import MANY_MATRICES, Grid, by_source, last_step, place
from rankscope.views.remarks import left_out, none_found
from rankscope.views.richgrid import grid_lines, remark_lines

PREFIXES = ("", "k", "M", "G", "T", "P")


def renderable(overview: Overview, width: int, *, everything: bool) -> RenderableType:
    """What is measured, what is not and why, and the cost."""
    parts: list[RenderableType] = []
    for source, rows in by_source(overview.matrices).items():
        parts += grid_lines(_matrices(source, rows, everything=everything), width)
    parts += remark_lines(none_found(overview.sources, overview.matrices))
    parts += remark_lines(left_out(overview.skipped, everything=everything))
    parts.append(Text(cost_line(overview), style="bold"))
    return Group(*parts)


def _matrices(source: str, rows: Sequence[Row], *, everything: bool) -> Grid:
    """What would be measured of one source; of a series its last snapshot, unless everything."""
    last = rows if everything else last_step(rows)
    shown = last if everything else last[:MANY_MATRICES]
    steps = {row["step"] for row in rows}
    title = place(source, last)
    if len(last) < len(rows):
        title += f", the last of {len(steps)} snapshots"
    if len(shown) < len(last):
        title += f": the first {len(shown)} of {len(last)} matrices"
    if len(shown) < len(rows):
        title += " (--all shows every one)"
    cells: list[tuple[str, ...]] = [
        (
            step(row),
            printable(row["name"]),
            "x".join(map(str, row["shape"])),
            str(SHORT_TYPES.get(row["dtype"], row["dtype"])),
            row["kind"],
            f"{row['flops'] / 1e9:.3g}",
        )
        for row in shown
    ]
    heads = ("step", "matrix", "shape", "type", "kind", "GFLOP")
    first = 0 if len({row["step"] for row in shown}) > 1 else 1
    return Grid(title, heads[first:], tuple(row[first:] for row in cells), 2 - first, 0)


def cost_line(overview: Overview) -> str:
    """The totals in one line."""
    cost = overview.cost
    workers = cost["workers"]
    return (
        f"{counted(cost['matrices'])}, {scaled(cost['parameters'])} parameters, "
        f"{size(cost['bytes'])} to read, "
        f"{cost['flops'] / 1e9:.3g} GFLOP, up to {size(cost['memory_bytes'])} of memory "
        f"with {workers} worker{'s' if workers > 1 else ''}"
    )


def size(count: float) -> str:
    """Bytes with a decimal unit.

    >>> size(1234567)
    '1.23 MB'
    """
    text = scaled(count)
    return f"{text}B" if " " in text else f"{text} B"


def scaled(count: float) -> str:
    """A count in three digits with a decimal prefix.

    >>> scaled(242_000_000)
    '242 M'
    """
    for prefix in PREFIXES:
        # What would be rounded to 1000 belongs to the next one.
        if count < 999.5 or prefix == PREFIXES[-1]:
            break
        count /= 1000
    return f"{count:.3g} {prefix}".rstrip()
