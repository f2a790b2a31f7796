"""An overview for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rankscope.overview import Overview
from rankscope.text import printable
from rankscope.views.layout import LACK, MANY_MATRICES, SHORT_TYPES, Grid, by_source, remarks
from rankscope.views.richgrid import grid_lines

STEPS = ("B", "kB", "MB", "GB", "TB", "PB")


def renderable(overview: Overview, width: int, *, everything: bool) -> RenderableType:
    """What is measured, what is not and why, and the cost."""
    parts: list[RenderableType] = []
    for source, rows in by_source(overview.matrices).items():
        shown = rows if everything else rows[:MANY_MATRICES]
        title = printable(source)
        if len(shown) < len(rows):
            title += f": the first {len(shown)} of {len(rows)} matrices (--all shows every one)"
        cells: list[tuple[str, ...]] = [
            (
                "-" if row["step"] is None else str(row["step"]),
                printable(row["name"]),
                "x".join(map(str, row["shape"])),
                str(SHORT_TYPES.get(row["dtype"], row["dtype"])),
                row["kind"],
                f"{row['flops'] / 1e9:.3g}",
            )
            for row in shown
        ]
        heads = ("step", "matrix", "shape", "type", "kind", "GFLOP")
        first = 1 if all(row["step"] is None for row in rows) else 0
        body = tuple(row[first:] for row in cells)
        parts += grid_lines(Grid(title, heads[first:], body, 2 - first, 0), width)
    for remark in remarks(overview.skipped, everything=everything):
        parts.append(Text(remark, style="bold yellow" if remark.startswith(LACK) else "dim"))
    parts.append(Text(cost_line(overview), style="bold"))
    return Group(*parts)


def cost_line(overview: Overview) -> str:
    """The totals in one line."""
    cost = overview.cost
    workers = cost["workers"]
    return (
        f"{cost['matrices']} matrices, {size(cost['bytes'])} to read, "
        f"{cost['flops'] / 1e9:.3g} GFLOP, up to {size(cost['memory_bytes'])} of memory "
        f"with {workers} worker{'s' if workers > 1 else ''}"
    )


def size(count: float) -> str:
    """Bytes with a decimal unit.

    >>> size(1234567)
    '1.23 MB'
    """
    for unit in STEPS:
        if count < 1000 or unit == STEPS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
