"""The views: from a table to text. The suffix of an output file chooses one.

A new view is one file with a `render(table) -> str`, and one entry in `VIEWS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.table import Table
from rankscope.views import csv, document, html, markdown


@dataclass(frozen=True, slots=True)
class View:
    """How a table becomes a file.

    Attributes:
        suffix: of the files that this view writes.
        render: from the table to the file's text.
    """

    suffix: str
    render: Callable[[Table], str]


VIEWS: tuple[View, ...] = (
    View(".json", document.render),
    View(".csv", csv.render),
    View(".md", markdown.render),
    View(".html", html.page),
)


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
