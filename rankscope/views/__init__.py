"""The views: from a report to text. The suffix of an output file chooses one.

A new view is one file with a `render(report) -> str`, and one entry in `VIEWS`. Beside them stand
the modules that make a report of a record. Only the view that is asked for is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.files import atomic_write
from rankscope.views.report import Report


@dataclass(frozen=True, slots=True)
class View:
    """How a report becomes a file.

    Attributes:
        suffix: of the files that this view writes.
        render: from the report to the file's text.
    """

    suffix: str
    render: Callable[[Report], str]


def _document(report: Report) -> str:
    from rankscope.views import document

    return document.render(report)


def _csv(report: Report) -> str:
    from rankscope.views import csv

    return csv.render(report)


def _markdown(report: Report) -> str:
    from rankscope.views import markdown

    return markdown.render(report)


def _page(report: Report) -> str:
    from rankscope.views import html

    return html.page(report)


VIEWS: tuple[View, ...] = (
    View(".json", _document),
    View(".csv", _csv),
    View(".md", _markdown),
    View(".html", _page),
)


def save(report: Report, path: Path) -> None:
    """Write to a file, whole or not at all; its suffix chooses the view.

    Raises:
        UsageError: no view has this suffix.
        OutputFailed: it could not be written; an old file is intact.
    """
    text = view_for(path).render(report)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def view_for(path: Path) -> View:
    """The view that a file's suffix asks for.

    Raises:
        UsageError: no view has this suffix.
    """
    for view in VIEWS:
        if path.suffix.lower() == view.suffix:
            return view
    known = ", ".join(view.suffix for view in VIEWS)
    raise UsageError(f"{path}: suffix {path.suffix!r} names no view, expected one of {known}")
