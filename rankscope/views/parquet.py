"""Parquet: the rows as columns with types, for pandas, Polars, DuckDB and others."""

from __future__ import annotations

from rankscope import parquet
from rankscope.frames import frame
from rankscope.views.report import Report


def render(report: Report) -> bytes:
    """The rows; in the file's metadata, all else that the document holds."""
    document = report.document()
    rest = {key: value for key, value in document.items() if key != report.part}
    return parquet.content(frame(document, report.part), rest)
