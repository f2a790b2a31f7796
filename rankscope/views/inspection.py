"""An overview for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.overview import Overview
from rankscope.rows import Row
from rankscope.text import printable
from rankscope.views.cells import SHORT_TYPES, step
from rankscope.views.grid import Grid
from rankscope.views.layout import MANY_MATRICES, by_source, last_step, place
from rankscope.views.numbers import counted
from rankscope.views.planning import plan_grid, plan_remarks, scaled, size
from rankscope.views.remarks import left_out, none_found
from rankscope.views.report import Remark, Report


def report(overview: Overview) -> Report:
    """What is measured, what is not and why, and the cost."""
    return Report(
        title=", ".join(overview.sources),
        grids=lambda everything: [
            *(
                _matrices(source, rows, everything=everything)
                for source, rows in by_source(overview.matrices).items()
            ),
            *([] if overview.plan is None else [plan_grid(overview.plan)]),
        ],
        remarks=lambda everything: [
            *none_found(overview.sources, overview.matrices),
            *left_out(overview.skipped, everything=everything),
            Remark(cost_line(overview), strong=overview.plan is None),
            *([] if overview.plan is None else plan_remarks(overview.plan)),
        ],
        document=overview.to_document,
        rows=lambda: _rows(overview),
    )


def _rows(overview: Overview) -> tuple[Sequence[str], Iterator[list[Any]]]:
    head = (
        *("name", "step", "rows", "columns", "dtype", "kind", "role", "depth"),
        *("flops", "peak_bytes", "source"),
    )
    return head, (
        [row["name"], row["step"], *row["shape"], *(row[key] for key in head[4:])]
        for row in overview.matrices
    )


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
    line = (
        f"{counted(cost['matrices'])}, {scaled(cost['parameters'])} parameters, "
        f"{size(cost['bytes'])} to read, {cost['flops'] / 1e9:.3g} GFLOP"
    )
    if overview.plan is not None:  # which says more of memory
        return line
    memory = f"up to {size(cost['memory_bytes'])} of memory"
    return f"{line}, {memory} with {workers} worker{'s' if workers > 1 else ''}"
