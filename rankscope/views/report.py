"""What every view is given, of whatever record: tables for people, a document for machines.

Each part is made when a view asks for it, so that JSON costs no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.views.grid import Grid


@dataclass(frozen=True, slots=True)
class Remark:
    """A line below the tables.

    Attributes:
        text: already printable.
        lacking: tells of something that should have been measured and was not.
        strong: tells a result.
    """

    text: str
    lacking: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A record as the views see it.

    Attributes:
        title: of a page.
        grids: the tables for people; all that there is, or what fits a screen.
        remarks: the lines below them; likewise.
        document: the JSON document.
        rows: headings and rows of one flat table; cells are numbers, text or None.
        part: the key of the document's rows that this table is of.
    """

    title: str
    grids: Callable[[bool], Sequence[Grid]]
    remarks: Callable[[bool], Sequence[Remark]]
    document: Callable[[], dict[str, Any]]
    rows: Callable[[], tuple[Sequence[str], Iterable[Sequence[Any]]]]
    part: str = "matrices"
