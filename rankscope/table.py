"""Spectra x metrics -> rows: the record that every view renders and that a file keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from rankscope.errors import InputRejected
from rankscope.history import History
from rankscope.inventory import Inventory
from rankscope.layerkinds import role_keys
from rankscope.measure import Measured
from rankscope.question import Column, read_all
from rankscope.records import Skipped, Spectrum
from rankscope.rows import Row, averages, write
from rankscope.runrecord import RunRecord
from rankscope.sweeps.runs import (
    SETTINGS,
    Final,
    crossings,
    distinct,
    run_trends,
    settings_row,
    trend_keys,
    trend_row,
)
from rankscope.training import NOTHING_KNOWN
from rankscope.trajectory import Theory

SCHEMA = "rankscope/analysis/1"

CONTENT_DIGITS = 32  # of hexadecimal: 128 bits, at which no two matrices meet by chance

# What the views need of each row.
RUN_KEYS = ("source", "step", "no_bound", "remarks", "assumption", "bound_kept", *SETTINGS)
CROSSING_KEYS = ("name", "varied", "crossing", "smallest", "largest", "agreement", "head_mass")


@dataclass(frozen=True, slots=True)
class Table:
    """The result of an analysis, ready to be shown or kept. Made of plain JSON values.

    Attributes:
        columns: keys of the metrics, in the order asked, then of what needs several snapshots.
        matrices: one row a matrix and snapshot: name, step, shape, dtype, kind, role, depth,
            averaged, status, then one key per column (None where undefined), route, notes,
            content (a digest of the entries, equal for equal matrices; None where nobody asked),
            source.
        skipped: what was not measured: name, reason, source, snapshots (in how many), missing
            (whether it should be there), what (`weight`, `vector` or neither), same_as (the tensor
            whose weights it shares), unnamed (a part of unknown contents).
        summary: one row a snapshot: source, step, missing, matrices, unmeasured, then for each
            metric its mean over the matrices where it is defined, then what the run's log says.
        provenance: what made it: versions, sources, the question.
        runs: one row a run or series: source, how it was trained, its last row of the summary,
            then `assumption` (is the ratio of consecutive norms converging to 1?) and
            `bound_kept` (do the ranks keep the bound of Lemma 3.2?).
        trends: Prediction 4.1 over several runs, one row a hyperparameter and value.
        crossings: where the spectra of a layer cross from run to run.
    """

    columns: tuple[str, ...]
    matrices: tuple[Row, ...]
    skipped: tuple[Row, ...]
    summary: tuple[Row, ...]
    provenance: Row
    runs: tuple[Row, ...] = ()
    trends: tuple[Row, ...] = ()
    crossings: tuple[Row, ...] = ()

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
            "runs": list(self.runs),
            "trends": list(self.trends),
            "crossings": list(self.crossings),
        }

    @classmethod
    def from_document(cls, document: Any, path: str = "document") -> Self:
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
                # Documents of version 0.1 have none of these.
                runs=_rows({"runs": [], **document}, "runs", RUN_KEYS),
                trends=_rows({"trends": [], **document}, "trends", ("sentence",)),
                crossings=_rows({"crossings": [], **document}, "crossings", CROSSING_KEYS),
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


@dataclass(frozen=True, slots=True)
class Run:
    """A series as far as it is more than its files.

    Attributes:
        record: its run.json; None where there is none.
        log: what its log says by step.
        theory: what the theory says of it; None where it is a single checkpoint.
    """

    record: RunRecord | None = None
    log: Mapping[int, Row] = field(default_factory=dict)
    theory: Theory | None = None


def build(
    inventory: Inventory,
    measured: Iterable[Measured],
    columns: Sequence[Column],
    runs: Sequence[Run],
    provenance: Row,
) -> Table:
    """Draw all measurements and lay them out.

    Args:
        inventory: what there is; gives the order of the rows.
        measured: every matrix once, in any order; each spectrum is read and let go.
        columns: the metrics.
        runs: what else is known of each series.
        provenance: who made it, of what.
    """
    found: dict[tuple[int, str], Row] = {}
    position = {id(entry): index for index, entry in enumerate(inventory.entries)}
    steps = [[snapshot.step for snapshot in one.snapshots] for one in inventory.series]
    history = History([run.theory for run in runs], steps)
    for one in measured:
        row = _row(inventory, one, columns, history.keys)
        history.note(one, row)
        found[position[id(one.entry)], one.spec.name] = row
    history.complete()
    keys = (*(column.key for column in columns), *history.keys)
    rows: list[Row] = []
    summary: list[Row] = []
    for index, entry in enumerate(inventory.entries):
        own = [found[index, spec.name] for spec in entry.specs if (index, spec.name) in found]
        rows += own
        step = entry.snapshot.step
        head = {"source": _source(inventory, entry.series), "step": step}
        lacking = {"missing": len(entry.listing.missing)}
        row = head | lacking | averages(own, keys)
        log = {} if step is None else runs[entry.series].log.get(step, {})
        summary.append(row | {key: value for key, value in log.items() if key not in row})
    ends = _ends(inventory, summary, runs, history)
    found_trends = run_trends(list(ends.values()), trend_keys(columns))
    finals = [Final(ends[index], spectra) for index, spectra in history.finals().items()]
    return Table(
        keys,
        tuple(rows),
        _skipped(inventory),
        tuple(summary),
        provenance | {"columns": list(keys)},
        tuple(ends.values()),
        tuple(trend_row(trend) for trend in found_trends),
        tuple(row for trend in distinct(found_trends) for row in crossings(finals, trend)),
    )


def _row(
    inventory: Inventory, one: Measured, columns: Sequence[Column], later: Sequence[str]
) -> Row:
    """A row, with None for what will be known when all snapshots have passed."""
    spec, found = one.spec, one.measurement
    row: Row = {
        "name": spec.name,
        "step": one.entry.snapshot.step,
        "shape": list(spec.shape),
        "dtype": spec.encoding or spec.dtype,
        "kind": spec.kind,
        **role_keys(spec.name, spec.kind),
        "averaged": None,
        "status": "ok" if isinstance(found, Spectrum) else found.status,
    }
    row |= dict.fromkeys((*(column.key for column in columns), *later))
    row["route"] = found.route if isinstance(found, Spectrum) else None
    row["notes"] = {}
    row["content"] = None if one.content is None else one.content.hex()[:CONTENT_DIGITS]
    row["source"] = _source(inventory, one.entry.series)
    if isinstance(found, Spectrum):
        inexact = f"not exact by the {found.route} route"
        readings = read_all(columns, found) if one.readings is None else one.readings
        for column, reading in zip(columns, readings, strict=True):
            write(row, column.key, reading, inexact)
    else:
        row["notes"]["status"] = found.reason
    return row


def _ends(
    inventory: Inventory, summary: Sequence[Row], runs: Sequence[Run], history: History
) -> dict[int, Row]:
    """For each run a row: how it was trained, where it ended, and what the theory says of it."""
    last = {entry.series: row for entry, row in zip(inventory.entries, summary, strict=True)}
    ends: dict[int, Row] = {}
    for index, run in enumerate(runs):
        if run.theory is None or index not in last:
            continue
        training = run.theory.training
        told = {
            "no_bound": training.reason if training else NOTHING_KNOWN,
            "remarks": list(training.remarks) if training else [],
        }
        settings = settings_row(run.record, training.dynamics if training else None)
        final = {key: value for key, value in last[index].items() if key not in settings}
        head = {"source": final["source"]}
        ends[index] = head | settings | final | told | history.verdicts(index)
    return ends


def _skipped(inventory: Inventory) -> tuple[Row, ...]:
    """Everything not measured, once per source and reason, with the number of snapshots."""
    counts: Counter[tuple[Skipped, str, bool]] = Counter()
    for index, series in enumerate(inventory.series):
        counts.update((item, _source(inventory, index), False) for item in series.skipped)
    for entry in inventory.entries:
        source = _source(inventory, entry.series)
        counts.update((item, source, False) for item in entry.skipped)
        counts.update((item, source, True) for item in entry.listing.missing)
    for index, error in inventory.rejected:
        name = ": ".join(part for part in (error.path, error.tensor) if part)
        counts[Skipped(name, error.reason), _source(inventory, index), True] += 1
    return tuple(
        {
            "name": item.name,
            "reason": item.reason,
            "source": source,
            "snapshots": n,
            "missing": missing,
            "what": item.what,
            "same_as": item.same_as,
            "unnamed": item.unnamed,
        }
        for (item, source, missing), n in counts.items()
    )


def _source(inventory: Inventory, index: int) -> str:
    return str(inventory.series[index].path)
