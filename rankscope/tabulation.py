"""A question, put to checkpoints: measured, and laid out as a table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from rankscope.how import How
from rankscope.inventory import Inventory
from rankscope.matrices import Selection
from rankscope.measure import measure
from rankscope.provenance import made_now
from rankscope.question import Question
from rankscope.rows import Row
from rankscope.series import Series
from rankscope.solvers import ROUTE_VERSION
from rankscope.table import Run, Table, build


def tabulated(
    all_series: Sequence[Series], question: Question, selection: Selection, how: How
) -> Table:
    """The table of single checkpoints, of which nothing else is asked than their spectra.

    Raises:
        InputRejected: none of them is sound.
        UsageError: the question or the selection makes no sense.
    """
    columns = question.columns()
    inventory, measured = measure(all_series, selection, columns, how)
    with closing(measured):
        runs = [Run() for _ in all_series]
        return build(inventory, measured, columns, runs, provenance(inventory, question, how))


def provenance(inventory: Inventory, question: Question, how: How) -> Row:
    """What made a table, of what, and what was asked."""
    formats: dict[int, str] = {entry.series: entry.listing.format for entry in inventory.entries}
    return {
        **made_now(),
        "sources": [
            {
                "path": str(one.path),
                "format": formats.get(i),
                "snapshots": len(one.snapshots),
                **_base(one),
            }
            for i, one in enumerate(inventory.series)
        ],
        "columns": [column.key for column in question.columns()],
        "eps": list(question.eps),
        "norm": question.norm,
        "route": how.route,
        "route_version": ROUTE_VERSION,
    }


def _base(series: Series) -> Row:
    """The model that a series of adapters is merged into, where it is."""
    base = next((one.base for one in series.snapshots), None)
    return {} if base is None else {"base": str(base)}
