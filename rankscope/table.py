"""Spectra x metrics -> rows: the record that every view renders and that a file keeps."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.errors import InputRejected
from rankscope.inventory import Inventory
from rankscope.measure import Measured
from rankscope.question import Column
from rankscope.records import Spectrum

SCHEMA = "rankscope/analysis/1"

INFINITE = "infinite"  # how the note of an infinite reading begins

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The result of an analysis, ready to be shown or kept. Made of plain JSON values.

    Attributes:
        columns: keys of the metrics, in the order asked.
        matrices: one row a matrix and snapshot: name, step, shape, dtype, kind, status, then
            one key per metric (None where undefined), notes, route, source.
        skipped: what was not measured: name, reason, source, snapshots (in how many).
        summary: one row a snapshot: source, step, missing, matrices, unmeasured, then for each
            metric its mean over the matrices where it is defined, then what the run's log says.
        provenance: what made it: versions, sources, the question.
    """

    columns: tuple[str, ...]
    matrices: tuple[Row, ...]
    skipped: tuple[Row, ...]
    summary: tuple[Row, ...]
    provenance: Row

    @property
    def incomplete(self) -> bool:
        """Whether something that should have been measured was not."""
        return any(row["status"] not in COMPLETE for row in self.matrices) or any(
            row["missing"] for row in self.skipped
        )

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "provenance": self.provenance,
            "matrices": list(self.matrices),
            "skipped": list(self.skipped),
            "summary": list(self.summary),
        }

    @classmethod
    def from_document(cls, document: Any, path: str = "document") -> Table:
        """The table that a JSON document holds.

        Raises:
            InputRejected: it is not an analysis, or one of another version.
        """
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise InputRejected(path, f"schema is {schema!r}, expected {SCHEMA!r}")
        try:
            provenance = dict(document["provenance"])
            return cls(
                columns=tuple(provenance["columns"]),
                matrices=_rows(
                    document, "matrices", ("name", "shape", "status", "notes", "source")
                ),
                skipped=_rows(document, "skipped", ("name", "reason", "source", "missing")),
                summary=_rows(document, "summary", ("source", "step", "matrices")),
                provenance=provenance,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputRejected(path, f"is not a whole analysis: {error!r}") from error


def _rows(document: dict[str, Any], part: str, needed: Sequence[str]) -> tuple[Row, ...]:
    """A part of a document as rows; raises `TypeError` or `KeyError` when it is not."""
    rows = document[part]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError(f"{part} is no list of objects")
    for row in rows:
        for key in needed:
            row[key]
    return tuple(rows)


# What a matrix may be without making the result incomplete: one without entries has no spectrum
# to miss; one with NaN weights does.
COMPLETE = frozenset({"ok", "empty"})


def build(
    inventory: Inventory,
    measured: Iterable[Measured],
    columns: Sequence[Column],
    logs: Sequence[Mapping[int, Row]],
    provenance: Row,
) -> Table:
    """Draw all measurements and lay them out.

    Args:
        inventory: what there is; gives the order of the rows.
        measured: every matrix once, in any order; each spectrum is read and let go.
        columns: the metrics.
        logs: for each series, what its log says by step.
        provenance: who made it, of what.
    """
    found: dict[tuple[int, str], Row] = {}
    position = {id(entry): index for index, entry in enumerate(inventory.entries)}
    for one in measured:
        found[position[id(one.entry)], one.spec.name] = _row(inventory, one, columns)
    rows: list[Row] = []
    summary: list[Row] = []
    keys = [column.key for column in columns]
    for index, entry in enumerate(inventory.entries):
        own = [found[index, spec.name] for spec in entry.specs if (index, spec.name) in found]
        rows += own
        step = entry.snapshot.step
        head = {"source": _source(inventory, entry.series), "step": step}
        lacking = {"missing": len(entry.listing.missing)}
        row = head | lacking | averages(own, keys)
        log = {} if step is None else logs[entry.series].get(step, {})
        summary.append(row | {key: value for key, value in log.items() if key not in row})
    skipped = _skipped(inventory)
    return Table(tuple(keys), tuple(rows), skipped, tuple(summary), provenance)


def _row(inventory: Inventory, one: Measured, columns: Sequence[Column]) -> Row:
    spec, found = one.spec, one.measurement
    row: Row = {
        "name": spec.name,
        "step": one.entry.snapshot.step,
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "kind": spec.kind,
    }
    notes: dict[str, str] = {}
    if isinstance(found, Spectrum):
        row["status"] = "ok"
        for column in columns:
            reading = column.read(found)
            row[column.key] = json_number(reading.value)
            inexact = "" if reading.exact else f"not exact by the {found.route} route"
            note = "; ".join(part for part in (reading.note, inexact) if part)
            if note:
                notes[column.key] = note
        row["route"] = found.route
    else:
        row["status"] = found.status
        row |= dict.fromkeys((column.key for column in columns), None)
        notes["status"] = found.reason
        row["route"] = None
    row["notes"] = notes
    row["source"] = _source(inventory, one.entry.series)
    return row


def json_number(value: float | None) -> float | int | None:
    """The value, or None where JSON has no number for it; the reading's note says which."""
    return None if value is None or not math.isfinite(value) else value


def averages(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    """The mean of each metric over the rows where it is defined, and how many rows there are.

    An average over part of the matrices is never passed off as one over all: `unmeasured` says
    how many have no spectrum. One that is infinite makes the mean so, which is None.
    """
    ok = [row for row in rows if row["status"] == "ok"]
    result: Row = {"matrices": len(rows), "unmeasured": len(rows) - len(ok)}
    for key in keys:
        values = [row[key] for row in ok if row[key] is not None]
        infinite = any(row["notes"].get(key, "").startswith(INFINITE) for row in ok)
        result[key] = (
            math.fsum(v / len(values) for v in values) if values and not infinite else None
        )
    return result


def _skipped(inventory: Inventory) -> tuple[Row, ...]:
    """Everything not measured, once per source and reason, with the number of snapshots."""
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    for index, series in enumerate(inventory.series):
        for item in series.skipped:
            counts[item.name, item.reason, _source(inventory, index), False] += 1
    for entry in inventory.entries:
        source = _source(inventory, entry.series)
        for item in entry.skipped:
            counts[item.name, item.reason, source, False] += 1
        for item in entry.listing.missing:
            counts[item.name, item.reason, source, True] += 1
    for index, error in inventory.rejected:
        name = ": ".join(part for part in (error.path, error.tensor) if part)
        counts[name, error.reason, _source(inventory, index), True] += 1
    return tuple(
        {"name": name, "reason": reason, "source": source, "snapshots": n, "missing": missing}
        for (name, reason, source, missing), n in counts.items()
    )


def _source(inventory: Inventory, index: int) -> str:
    return str(inventory.series[index].path)


def by_pattern(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows grouped by their name with every number in it written `*`: the layers of a kind."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[re.sub(r"\d+", "*", row["name"])].append(row)
    return dict(groups)
