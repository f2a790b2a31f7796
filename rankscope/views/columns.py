"""In which order a person reads the columns."""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.rows import Row
from rankscope.trajectory import CLOSED, EXACT, MEASURED, RATIO, VACUOUS
from rankscope.views.cells import split_key

# The rank and what bounds it stand side by side; the theorem's assumption next.
FIRST = ("rank", EXACT, RATIO)
LAST = (CLOSED, EXACT, MEASURED, VACUOUS)  # as in the document


def in_reading_order(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The columns as they are shown: a narrow screen leaves out the last ones.

    Bounds that no row has stand last.
    """

    def place(key: str) -> int:
        name = split_key(key)[0]
        empty = name in (EXACT, RATIO) and all(row.get(key) is None for row in rows)
        if name in FIRST and not empty:
            return FIRST.index(name) - len(FIRST)
        return LAST.index(name) + 1 if name in LAST else 0

    return sorted(columns, key=place)
