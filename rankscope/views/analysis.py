"""The report of an analysis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.rows import Row
from rankscope.table import Table
from rankscope.views.layout import grids
from rankscope.views.remarks import remarks
from rankscope.views.report import Report
from rankscope.views.verdicts import verdicts


def report(table: Table) -> Report:
    """What a person and a machine are shown of a table; one flat row a matrix and snapshot."""
    return Report(
        title=", ".join(dict.fromkeys(row["source"] for row in table.summary)),
        grids=lambda everything: grids(table, everything=everything),
        remarks=lambda everything: [
            *remarks(table, everything=everything),
            *verdicts(table),
        ],
        document=table.to_document,
        rows=lambda: _rows(table),
    )


def _rows(table: Table) -> tuple[Sequence[str], Iterator[list[Any]]]:
    head = ("name", "step", "rows", "columns", "dtype", "kind", "role", "depth", "status")
    return (*head, *table.columns, "route", "notes", "source"), (
        [
            *(row["name"], row["step"], *row["shape"], row["dtype"], row["kind"]),
            # Documents of version 0.1 have neither of these.
            *(row.get("role"), row.get("depth"), row["status"]),
            *(row[key] for key in table.columns),
            *(row["route"], _notes(row), row["source"]),
        ]
        for row in table.matrices
    )


def _notes(row: Row) -> str:
    return "; ".join(f"{key}: {note}" for key, note in row["notes"].items())
