"""Two rows of a matrix -> what changed; and in which order a person should hear of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rankscope.question import Column
from rankscope.rows import Row
from rankscope.table import COMPLETE

# What a loss is a loss of, where they are asked for: directions in use.
LOSS_METRICS = ("rank", "effective_rank")

# Counts what stands above the rounding of the stored type: two types are two measures.
OF_ONE_TYPE = "numerical_rank"

DELTA = "delta_"  # how the keys of what is read off B - A begin


def change_row(before: Row, after: Row, columns: Sequence[Column]) -> Row:
    """What became of a matrix.

    Args:
        before: its row in the table of A.
        after: in that of B.
        columns: what was asked; of each `key` there is `{key}_before`, `key` and `{key}_change`.
    """
    contents = before["content"], after["content"]
    row: Row = {"name": after["name"], "name_before": before["name"]}
    for key in ("shape", "dtype", "kind", "status"):
        row[key] = after[key]
        row[f"{key}_before"] = before[key]
    row["equal"] = None if None in contents else contents[0] == contents[1]
    row |= {"loss": None, "loss_of": None}
    row["notes"] = after["notes"] | {f"{key}_before": note for key, note in before["notes"].items()}
    for column in columns:
        key = column.key
        row[f"{key}_before"], row[key] = before[key], after[key]
        row[f"{key}_change"] = _change(row, column)
    row["loss"], row["loss_of"] = _loss(row, columns)
    return row


def _change(row: Row, column: Column) -> float | int | None:
    before, after = row[f"{column.key}_before"], row[column.key]
    if before is None or after is None:
        return None
    if column.metric.name == OF_ONE_TYPE and row["dtype"] != row["dtype_before"]:
        note = f"{row['dtype_before']} and {row['dtype']} are rounded differently"
        row["notes"][f"{column.key}_change"] = note
        return None
    change: float | int = after - before
    return change


def _loss(row: Row, columns: Sequence[Column]) -> tuple[float | None, str | None]:
    """The largest relative fall of `LOSS_METRICS`, or where none is asked of any metric; of which.

    Below 0 where all of them rose; None where none is defined on both sides.
    """
    keys = [one.key for one in columns if one.metric.name in LOSS_METRICS]
    keys = keys or [one.key for one in columns]
    falls: list[tuple[float, str]] = []
    for key in keys:
        before, change = row[f"{key}_before"], row[f"{key}_change"]
        if before and change is not None and math.isfinite(change / before):
            falls.append((-change / before, key))
    return max(falls, key=lambda fall: fall[0], default=(None, None))


def worst_first(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows by how much a matrix has lost; the order of B where they have lost the same.

    First what could be measured and cannot be any more, then by loss, then what cannot be
    compared, last what is equal. Of equal losses the one that moved further comes first.
    """
    return tuple(sorted(rows, key=_place))


def _place(row: Row) -> tuple[int, float, float]:
    if row["equal"]:
        group = 3
    elif row["status"] not in COMPLETE and row["status_before"] in COMPLETE:
        group = 0
    else:
        group = 2 if row["loss"] is None else 1
    return group, -(row["loss"] or 0.0), -(row.get("relative_change") or 0.0)


def summary_of(rows: Sequence[Row], norms: Mapping[str, float]) -> Row:
    """How many matrices changed and, where B - A was measured, by how much in all.

    Args:
        rows: a row a matrix.
        norms: the Frobenius norms before, by `name_before`.
    """
    measured = [row for row in rows if row["status"] == row["status_before"] == "ok"]
    changed = [row for row in measured if not row["equal"]]
    known = [row for row in changed if row.get("relative_change") is not None]
    counts = [(row, row.get(f"{DELTA}{OF_ONE_TYPE}")) for row in known]
    moved = [row for row, count in counts if count != 0]
    directions = sorted(count for _, count in counts if count)
    whole = math.hypot(*(norms[row["name_before"]] for row in moved))
    part = math.hypot(*(norms[row["name_before"]] * row["relative_change"] for row in moved))
    return {
        "matrices": len(rows),
        "unchanged": sum(row["equal"] is True for row in rows),
        "changed": len(changed),
        "uncompared": sum(row["equal"] is not True for row in rows) - len(changed),
        "moved": len(moved) if known else None,
        "rounded": len(known) - len(moved) if known else None,
        "relative_change": part / whole if moved and whole else None,
        "directions_least": directions[0] if directions else None,
        "directions_median": directions[len(directions) // 2] if directions else None,
        "directions_most": directions[-1] if directions else None,
    }
