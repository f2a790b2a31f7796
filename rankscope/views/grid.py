"""A titled table of text: what the views for people arrange numbers in."""

from __future__ import annotations

from dataclasses import dataclass

MIN_NAME = 26  # characters of a matrix's name that must stay, before columns are left out


@dataclass(frozen=True, slots=True)
class Grid:
    """A titled table of text.

    Attributes:
        title: what it shows.
        headings: of the columns; each may be broken at its spaces.
        rows: cells, already printable, one per heading.
        labels: how many of the leading columns are words; the rest are numbers.
        optional: how many of the trailing columns may be left out where there is no room.
        metrics: whether these are metrics, which a reader can choose.
        filler: what the last label goes without, in every row, where there is no room for all.
        kept: how many characters of it must stay, before columns are left out.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    optional: int
    metrics: bool = True
    filler: str = ""
    kept: int = MIN_NAME
