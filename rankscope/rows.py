"""Flat rows of plain JSON values: what a table is made of, and their means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rankscope.records import INFINITE, Reading

Row = dict[str, Any]


def json_number(value: float | None) -> float | int | None:
    """The value, or None where JSON has no number for it; the reading's note says which."""
    return None if value is None or not math.isfinite(value) else value


def write(row: Row, key: str, reading: Reading, inexact: str = "") -> None:
    """Put a reading into a row, and what it says of itself into the row's notes."""
    row[key] = json_number(reading.value)
    note = "; ".join(part for part in (reading.note, "" if reading.exact else inexact) if part)
    if note:
        row["notes"][key] = note


def averages(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    """The mean of each metric over the rows where it is defined, and how many rows there are.

    Rows that the run marks as not averaged are left out of the means. An average over part of the
    matrices is never passed off as one over all: `averaged` says over how many it is meant to be,
    `unmeasured` how many of all have no spectrum. A value that is infinite makes the mean so,
    which is None.
    """
    marked = [row for row in rows if row.get("averaged") is not False]
    ok = [row for row in marked if row["status"] == "ok"]
    unmeasured = sum(row["status"] != "ok" for row in rows)
    result: Row = {"matrices": len(rows), "averaged": len(marked), "unmeasured": unmeasured}
    for key in keys:
        values = [row[key] for row in ok if row[key] is not None]
        infinite = any(row["notes"].get(key, "").startswith(INFINITE) for row in ok)
        result[key] = (
            math.fsum(v / len(values) for v in values) if values and not infinite else None
        )
    return result
