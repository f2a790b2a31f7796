"""What a person is shown of a table: which rows, which columns, and how numbers read.

Shared by the views for people; machines get everything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.metrics import METRICS
from rankscope.table import INFINITE, Row, Table, averages, by_pattern
from rankscope.text import printable

# More rows than this are summed up: a terminal shows some 50 lines.
MANY_MATRICES = 48
MANY_STEPS = 48
MANY_LACKING = 10

LACK = "incomplete: "  # how a remark about something missing begins

SHORT_TYPES = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8e4",
    "float8_e5m2": "fp8e5",
}

LACKING = "lacking"  # the column of matrices that an average is without

# Columns of a run's log, as headings.
LOG_HEADINGS = {
    "epoch": "epoch",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "train_accuracy": "train acc.",
    "test_accuracy": "test acc.",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A titled table of text.

    Attributes:
        title: what it shows.
        headings: of the columns; each may be broken at its spaces.
        rows: cells, already printable, one per heading.
        labels: how many of the leading columns are words; the rest are numbers.
        optional: how many of the trailing columns may be left out where there is no room.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    optional: int


def grids(table: Table, *, everything: bool) -> list[Grid]:
    """The tables to show: per step when there are several, then the matrices of the last one."""
    shown: list[Grid] = []
    for source, summary in by_source(table.summary).items():
        rows = [row for row in table.matrices if row["source"] == source]
        if len(summary) > 1:
            shown.append(_steps(table, source, summary, everything=everything))
            if not everything:
                rows = _last_step(rows)
        shown.append(_matrices(table, source, rows, everything=everything))
    return [grid for grid in shown if grid.rows]


def by_source(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the path they came from, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["source"], []).append(row)
    return groups


def _last_step(rows: Sequence[Row]) -> list[Row]:
    last = max((row["step"] for row in rows if row["step"] is not None), default=None)
    return [row for row in rows if row["step"] == last]


def _steps(table: Table, source: str, summary: Sequence[Row], *, everything: bool) -> Grid:
    chosen = summary if everything else spaced(summary, MANY_STEPS)
    logged = [key for key in LOG_HEADINGS if any(row.get(key) is not None for row in summary)]
    front = ["epoch"] if "epoch" in logged else []
    if any(_lacking(row) for row in summary):
        front.append(LACKING)  # an average over part of the matrices says so
    back = [key for key in logged if key != "epoch"]
    accuracy = [key for key in back if key.endswith("accuracy")] or back
    keys = [*front, *accuracy[-1:], *table.columns, *(k for k in back if k not in accuracy[-1:])]
    left_out = len(summary) - len(chosen)
    title = f"{printable(source)}: average over {summary[-1]['matrices']} matrices"
    if left_out:
        title += f" ({len(chosen)} of {len(summary)} snapshots; --all shows every one)"
    return Grid(
        title,
        ("step", *(heading(key) for key in keys)),
        tuple(
            (_step(row), *(number({LACKING: _lacking(row), **row}.get(key)) for key in keys))
            for row in chosen
        ),
        labels=0,
        optional=len(keys) - len(front) - 1,
    )


def _lacking(row: Row) -> int:
    """How many matrices a snapshot's averages are without."""
    return int(row["unmeasured"]) + int(row["missing"])


def _matrices(table: Table, source: str, rows: Sequence[Row], *, everything: bool) -> Grid:
    steps = {row["step"] for row in rows}
    title = printable(source)
    several = len(steps) > 1
    if len(steps) == 1 and None not in steps:
        title += f" at step {next(iter(steps))}"
    if everything or len(rows) <= MANY_MATRICES:
        head = ("step", "matrix") if several else ("matrix",)
        cells = [
            (*((_step(row),) if several else ()), printable(row["name"]), *_measures(table, row))
            for row in rows
        ]
        labels = len(head)
    else:
        head, labels = ("matrices", "n"), 1
        title += ": means over layers (--all shows every matrix)"
        cells = [
            (printable(pattern), _size(group), *_measures(table, _mean(table, group)))
            for pattern, group in by_pattern(rows).items()
        ]
    headings = (*head, "shape", "type", *(heading(key) for key in table.columns))
    return Grid(title, headings, tuple(cells), labels, optional=len(table.columns))


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
        **averages(group, table.columns),
        "shape": group[0]["shape"] if len(shapes) == 1 else None,
        "dtype": group[0]["dtype"] if len(types) == 1 else None,
        "status": "ok" if "ok" in statuses else sorted(statuses)[0],
        "notes": {},
    }


def _measures(table: Table, row: Row) -> tuple[str, ...]:
    """The cells of a matrix after its name."""
    shape = "x".join(map(str, row["shape"])) if row["shape"] else "various"
    dtype = SHORT_TYPES.get(row["dtype"], row["dtype"]) if row["dtype"] else "various"
    if row["status"] != "ok":
        blank = ("",) * (len(table.columns) - 1)
        return (shape, str(dtype), row["status"].replace("_", " "), *blank)
    return (shape, str(dtype), *(cell(row, key) for key in table.columns))


def cell(row: Row, key: str) -> str:
    """A value as a person reads it; `~` marks one that is not exact."""
    note = row["notes"].get(key, "")
    if note.startswith(INFINITE):
        return "inf"
    return ("~" if "not exact" in note else "") + number(row[key])


def number(value: Any) -> str:
    """A number in at most seven characters, or a dash; equal magnitudes have equal decimals."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        return f"{value:.2g}"
    # Four digits, but no more than four decimals.
    decimals = 4 if size < 1 else max(0, 3 - math.floor(math.log10(size)))
    return f"{value:.{decimals}f}"


def heading(key: str) -> str:
    """The heading of a column: the metric's own, with its parameters."""
    if key == LACKING:
        return "left out"
    if key in LOG_HEADINGS:
        return LOG_HEADINGS[key]
    match = re.match(r"(\w+)(.*)", key)
    name, rest = match.groups() if match else (key, "")
    heads = {metric.name: metric.heading for metric in METRICS}
    return " ".join(part for part in (heads.get(name, name), rest) if part)


def spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, the first and the last among them, at even distances."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]


def remarks(skipped: Sequence[Row], *, everything: bool) -> list[str]:
    """Lines about what is not in the tables: left out on purpose, then what is lacking."""
    reasons: dict[str, set[str]] = {}
    for row in skipped:
        if not row["missing"]:
            reasons.setdefault(row["reason"], set()).add(row["name"])
    plain_first = sorted(reasons, key=lambda reason: reason not in PLAIN)
    parts = [_left_out(reason, reasons[reason]) for reason in plain_first]
    lines = [f"not measured: {'; '.join(parts)}"] if parts else []
    lacking = [row for row in skipped if row["missing"]]
    shown = lacking if everything else lacking[:MANY_LACKING]
    lines += [f"{LACK}{printable(row['name'])}: {printable(row['reason'])}" for row in shown]
    if len(shown) < len(lacking):
        lines.append(f"{LACK}{len(lacking) - len(shown)} more (--all shows every one)")
    return lines


def _left_out(reason: str, names: set[str]) -> str:
    if reason in PLAIN:
        return f"{len(names)} {reason}{'s' if len(names) > 1 else ''}"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{printable(min(names))}{more} ({printable(reason)})"


PLAIN = ("vector", "scalar")  # reasons that need no name


def _step(row: Row) -> str:
    return "-" if row["step"] is None else str(row["step"])
