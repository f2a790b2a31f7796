"""The views: from a report to a file. Its suffix chooses one.

A new view is one file with a `render(report)`, and one entry in `VIEWS`. Beside them stand
the modules that make a report of a record. Only the view that is asked for is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.views.report import Report
from rankscope.writing import atomic_write


@dataclass(frozen=True, slots=True)
class View:
    """How a report becomes a file.

    Attributes:
        suffix: of the files that this view writes.
        render: from the report to the file's content.
        check: raises `UsageError` where what it needs is not installed.
    """

    suffix: str
    render: Callable[[Report], bytes]
    check: Callable[[], None] = lambda: None


def _document(report: Report) -> bytes:
    from rankscope.views import document

    return document.render(report).encode("utf-8")


def _csv(report: Report) -> bytes:
    from rankscope.views import csv

    return csv.render(report).encode("utf-8")


def _markdown(report: Report) -> bytes:
    from rankscope.views import markdown

    return markdown.render(report).encode("utf-8")


def _page(report: Report) -> bytes:
    from rankscope.views import html

    return html.page(report).encode("utf-8")


def _parquet(report: Report) -> bytes:
    from rankscope.views import parquet

    return parquet.render(report)


def _check_parquet() -> None:
    from rankscope.parquet import check_installed

    check_installed()


VIEWS: tuple[View, ...] = (
    View(".json", _document),
    View(".csv", _csv),
    View(".md", _markdown),
    View(".html", _page),
    View(".parquet", _parquet, _check_parquet),
)


def save(report: Report, path: Path) -> None:
    """Write to a file, whole or not at all; its suffix chooses the view.

    Raises:
        UsageError: no view has this suffix, or what it needs is not installed.
        OutputFailed: it could not be written; an old file is intact.
    """
    content = view_for(path).render(report)
    with atomic_write(path) as file:
        file.write(content)


def view_for(path: Path) -> View:
    """The view that a file's suffix asks for.

    Raises:
        UsageError: no view has this suffix, or what it needs is not installed.
    """
    for view in VIEWS:
        if path.suffix.lower() == view.suffix:
            view.check()
            return view
    known = ", ".join(view.suffix for view in VIEWS)
    raise UsageError(f"{path}: suffix {path.suffix!r} names no view, expected one of {known}")
