"""What a person is shown of a table: which rows, which columns, and how numbers read.

Shared by the views for people; machines get everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.layerkinds import by_layer_kind
from rankscope.metrics import METRICS
from rankscope.rows import Row, averages
from rankscope.table import Table
from rankscope.text import printable
from rankscope.views.cells import (
    LACKING,
    LOG_HEADINGS,
    SHORT_TYPES,
    cell,
    headings,
    split_key,
    step,
)
from rankscope.views.columns import in_reading_order
from rankscope.views.grid import Grid
from rankscope.views.numbers import counted, number
from rankscope.views.sweep import is_sweep, sweep_grids

# More rows than this are summed up: a terminal shows some 50 lines.
MANY_MATRICES = 48
MANY_STEPS = 48
MANY_LEAST = 5  # matrices named for using least of their rank

# "cross-attention query projections, decoder layers 0-23": the word that goes without saying, and
# how much of the rest must be there to tell one from another.
FILLER = " projections"
MAX_KEPT = 48


def grids(table: Table, *, everything: bool) -> list[Grid]:
    """The tables to show: per step when there are several, then the matrices of the last one.

    Of several runs a row each, and what they say together; everything of each on request.
    """
    shown: list[Grid] = sweep_grids(table) if is_sweep(table) else []
    if shown and not everything:
        return shown
    for source, summary in by_source(table.summary).items():
        rows = [row for row in table.matrices if row["source"] == source]
        if len(summary) > 1 and rows:
            shown.append(_steps(table, source, summary, everything=everything))
            if not everything:
                rows = last_step(rows)
        shown.append(_matrices(table, source, rows, everything=everything))
        if not everything and len(rows) > MANY_MATRICES:
            shown += _least(table, source, rows)
    return [grid for grid in shown if grid.rows]


def by_source(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the path they came from, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["source"], []).append(row)
    return groups


def last_step(rows: Sequence[Row]) -> list[Row]:
    """The rows of the highest step; all of them where there are no steps."""
    last = max((row["step"] for row in rows if row["step"] is not None), default=None)
    return [row for row in rows if row["step"] == last]


def _steps(table: Table, source: str, summary: Sequence[Row], *, everything: bool) -> Grid:
    chosen = summary if everything else _few(summary)
    logged = [key for key in LOG_HEADINGS if any(row.get(key) is not None for row in summary)]
    front = ["epoch"] if "epoch" in logged else []
    counts = {_counts(row) for row in chosen}
    if len(counts) > 1:
        front.append("matrices")
    if any(_lacking(row) for row in summary):
        front.append(LACKING)  # an average over part of the matrices says so
    back = [key for key in logged if key != "epoch"]
    accuracy = [key for key in back if key.endswith("accuracy")] or back
    keys = [
        *front,
        *accuracy[-1:],
        *in_reading_order(table.columns, summary),
        *(k for k in back if k not in accuracy[-1:]),
    ]
    left_out = len(summary) - len(chosen)
    over = _over(*counts.pop()) if len(counts) == 1 else "the matrices of each step"
    title = f"{printable(source)}: average over {over}"
    if left_out:
        title += f" ({len(chosen)} of {len(summary)} snapshots; --all shows every one)"
    return Grid(
        title,
        ("step", *headings(keys)),
        tuple(
            (step(row), *(number({LACKING: _lacking(row), **row}.get(key)) for key in keys))
            for row in chosen
        ),
        labels=0,
        optional=len(keys) - len(front) - 1,
    )


def _few(summary: Sequence[Row]) -> list[Row]:
    """As many snapshots as fit a screen; of too many, the last and those the log speaks of."""
    logged = [row for row in summary[:-1] if any(row.get(key) is not None for key in LOG_HEADINGS)]
    logged += summary[-1:]
    some = logged if len(summary) > MANY_STEPS and len(logged) > 1 else summary
    return spaced(some, MANY_STEPS)


def _counts(row: Row) -> tuple[int, int]:
    """Over how many matrices a snapshot's means are, and how many it has."""
    matrices = int(row["matrices"])
    return int(row.get("averaged", matrices)), matrices  # version 0.1 averaged over all


def _over(averaged: int, matrices: int) -> str:
    return counted(matrices) if averaged == matrices else f"{averaged} of {counted(matrices)}"


def _lacking(row: Row) -> int:
    """How many matrices a snapshot's averages are without."""
    return int(row["unmeasured"]) + int(row["missing"])


def _matrices(table: Table, source: str, rows: Sequence[Row], *, everything: bool) -> Grid:
    if not everything and len(rows) > MANY_MATRICES:
        return _kinds(table, source, rows)
    several = len({row["step"] for row in rows}) > 1
    keys = in_reading_order(table.columns, rows)
    head = ("step", "matrix") if several else ("matrix",)
    cells = [
        (*((step(row),) if several else ()), printable(row["name"]), *_measures(keys, row))
        for row in rows
    ]
    heads = (*head, "shape", "type", *headings(keys))
    return Grid(place(source, rows), heads, tuple(cells), len(head), optional=len(table.columns))


def _kinds(table: Table, source: str, rows: Sequence[Row]) -> Grid:
    """A row for the layers of a kind."""
    keys = in_reading_order(table.columns, rows)
    cells = tuple(
        (printable(label), _size(group), *_measures(keys, _mean(table, group)))
        for label, group in by_layer_kind(rows).items()
    )
    longest = max(len(cell[0].replace(FILLER, "")) for cell in cells)
    return Grid(
        f"{place(source, rows)}: means over layers (--all shows every matrix)",
        ("matrices", "n", "shape", "type", *headings(keys)),
        cells,
        labels=1,
        optional=len(table.columns),
        filler=FILLER,
        kept=min(longest, MAX_KEPT),
    )


def place(source: str, rows: Sequence[Row]) -> str:
    """The source, and the step where all rows are of one."""
    steps = {row["step"] for row in rows}
    single = len(steps) == 1 and None not in steps
    return printable(source) + (f" at step {next(iter(steps))}" if single else "")


def _least(table: Table, source: str, rows: Sequence[Row]) -> list[Grid]:
    """The matrices that use least of what rank their shape allows, which means do not show."""
    counting = {metric.name for metric in METRICS if metric.integer}
    keys = [key for key in table.columns if split_key(key)[0] in counting]
    if not keys:
        return []
    key = keys[0]
    # Only a matrix that was measured has a value.
    shares = [(row[key] / min(row["shape"]), row) for row in rows if row[key] is not None]
    lower = [pair for pair in shares if pair[0] < 1]
    least = sorted(lower, key=lambda pair: pair[0])[:MANY_LEAST]
    cells = [
        (
            printable(row["name"]),
            "x".join(map(str, row["shape"])),
            cell(row, key),
            str(min(row["shape"])),
            number(share),
        )
        for share, row in least
    ]
    title = f"{place(source, rows)}: least of their rank used"
    return [Grid(title, ("matrix", "shape", *headings([key]), "of", "share"), tuple(cells), 1, 0)]


def _size(group: Sequence[Row]) -> str:
    """How many matrices a row stands for, and how many of them its means are over."""
    ok = sum(row["status"] == "ok" for row in group)
    return str(len(group)) if ok == len(group) else f"{ok} of {len(group)}"


def _mean(table: Table, group: Sequence[Row]) -> Row:
    """One row for matrices of a kind: their means, and their shape and type where they agree."""
    shapes = {tuple(row["shape"]) for row in group}
    types = {row["dtype"] for row in group}
    statuses = {row["status"] for row in group}
    return {
        # Which matrices a run averages is no matter here: a label may stand for others only.
        **averages([row | {"averaged": None} for row in group], table.columns),
        "shape": group[0]["shape"] if len(shapes) == 1 else None,
        "dtype": group[0]["dtype"] if len(types) == 1 else None,
        "status": "ok" if "ok" in statuses else sorted(statuses)[0],
        "notes": {},
    }


def _measures(keys: Sequence[str], row: Row) -> tuple[str, ...]:
    """The cells of a matrix after its name."""
    shape = "x".join(map(str, row["shape"])) if row["shape"] else "various"
    dtype = SHORT_TYPES.get(row["dtype"], row["dtype"]) if row["dtype"] else "various"
    if row["status"] != "ok":
        blank = ("",) * (len(keys) - 1)
        return (shape, str(dtype), row["status"].replace("_", " "), *blank)
    return (shape, str(dtype), *(cell(row, key) for key in keys))


def spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, the first and the last among them, at even distances."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]
