"""Comma-separated values: one line a matrix and snapshot, for spreadsheets."""

from __future__ import annotations

import csv
import io

from rankscope.table import Row, Table
from rankscope.text import printable

# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(table: Table) -> str:
    """A header line and the rows; undefined values are empty, shapes read `rows x columns`."""
    out = io.StringIO()
    head = ("name", "step", "rows", "columns", "dtype", "kind", "status")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, *table.columns, "route", "notes", "source"])
    for row in table.matrices:
        rows, columns = row["shape"]
        front = [_text(row["name"]), row["step"], rows, columns]
        middle = [row["dtype"], row["kind"], row["status"]]
        values = [row[key] for key in table.columns]
        writer.writerow([*front, *middle, *values, row["route"], _notes(row), _text(row["source"])])
    return out.getvalue()


def _notes(row: Row) -> str:
    return _text("; ".join(f"{key}: {note}" for key, note in row["notes"].items()))


def _text(text: str) -> str:
    safe = printable(text)
    return f"'{safe}" if safe.startswith(FORMULA) else safe
