"""Comma-separated values: one line a row, for spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import Any

from rankscope.text import printable
from rankscope.views.report import Report

# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report) -> str:
    """A header line and the rows; undefined values are empty."""
    out = io.StringIO()
    head, rows = report.rows()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def safe(cell: Any) -> Any:
    """A cell that a spreadsheet shows as it is: text cannot act, nor be taken for a formula."""
    if not isinstance(cell, str):
        return cell
    shown = printable(cell)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
