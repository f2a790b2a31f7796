"""The part of the page for a run: every value of every matrix over its snapshots.

Only a few of a run's snapshots have their spectra in the page (see `rankscope.scene`); what is
drawn over all of them was read off when they were measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rankscope.errors import RankScopeError
from rankscope.layerkinds import by_layer_kind
from rankscope.matrices import tensor_of
from rankscope.metrics import METRICS
from rankscope.pages.runcolumns import Pool, Value, brief, shortest
from rankscope.pages.section import Subject
from rankscope.records import INFINITE
from rankscope.rows import Row
from rankscope.runrecord import read_run_record
from rankscope.scene import Scene
from rankscope.text import printable
from rankscope.trajectory import EXACT, MEASURED, TOLERANCE
from rankscope.views.cells import LOG_HEADINGS, split_key
from rankscope.views.sweep import SETTINGS, setting_text
from rankscope.views.verdicts import verdicts

# What a run's log says beyond losses and accuracies, and explains what the norms do.
LOGGED = (*LOG_HEADINGS, "lr")


def payload(subject: Subject) -> Row | None:
    """Values by matrix and column over the steps; None where the subject is no run."""
    if not isinstance(subject, Scene) or subject.kind != "run":
        return None
    table, summary = subject.table, subject.table.summary
    steps = [row["step"] for row in summary]
    names = list(dict.fromkeys(row["name"] for row in table.matrices))
    rows = {(row["name"], row["step"]): row for row in table.matrices}
    pool = Pool()
    return {
        "steps": steps,
        "columns": columns(table.columns),
        "matrices": _matrices(subject, names, rows, pool),
        "mean": _mean(summary, table.columns, pool),
        "averaged": [row["averaged"] for row in summary],
        "log": {
            key: [shortest(row.get(key)) for row in summary]
            for key in LOGGED
            if any(row.get(key) is not None for row in summary)
        },
        "series": pool.kept,
        "settings": settings_of(table.runs[0]) if table.runs else [],
        "verdicts": told(subject),
        "gaps": {key: _gaps(table.matrices, key) for key in table.columns},
        "tolerance": TOLERANCE,
        "curves": _places(subject, names, steps),
    }


def columns(keys: Sequence[str]) -> list[Row]:
    """What a script needs to know of each column: its name, its eps where it has one of several.

    `counts` is true of whole numbers, which are shown whole.
    """
    counting = {metric.name for metric in METRICS if metric.integer} | {EXACT, MEASURED}
    found = []
    for key in keys:
        name, rest = split_key(key)
        level = rest.startswith("@")
        title = name.replace("_", " ") + ("" if level else rest)
        eps = rest[1:] if level else None
        found.append(
            {"key": key, "name": name, "title": title, "eps": eps, "counts": name in counting}
        )
    return found


def told(scene: Scene) -> list[Row]:
    """What the theory says of runs, as `analyze` prints it."""
    return [
        {"text": one.text, "strong": one.strong, "lacking": one.lacking}
        for one in verdicts(scene.table)
    ]


def _matrices(
    scene: Scene, names: Sequence[str], rows: dict[tuple[str, int | None], Row], pool: Pool
) -> list[Row]:
    """A row a matrix: what it is, and for each column the place of its values in the pool."""
    inputs = _inputs(scene.table.summary[0]["source"])
    steps = [row["step"] for row in scene.table.summary]
    latest = {name: _latest(name, steps, rows) for name in names}
    kinds = {
        row["name"]: label
        for label, group in by_layer_kind(latest.values()).items()
        for row in group
    }
    return [
        {
            "name": printable(name),
            "kind": printable(kinds[name]),
            "depth": latest[name].get("depth"),
            "shape": latest[name]["shape"],
            "averaged": latest[name]["averaged"],
            "inputs": inputs.get(tensor_of(name)),
            "values": [
                pool.put(_value(rows.get((name, step)), key) for step in steps)
                for key in scene.table.columns
            ],
        }
        for name in names
    ]


def _latest(name: str, steps: Sequence[int | None], rows: dict[tuple[str, int | None], Row]) -> Row:
    """The last row of a matrix, which may be in some snapshots only."""
    return next(rows[name, step] for step in reversed(steps) if (name, step) in rows)


def _value(row: Row | None, key: str) -> Value:
    return None if row is None else brief(row, key)


def _mean(summary: Sequence[Row], keys: Sequence[str], pool: Pool) -> list[int]:
    """The means that the table has, of matrices that the run marks as averaged."""
    return [pool.put(shortest(row[key]) for row in summary) for key in keys]


def _inputs(source: str) -> dict[str, int]:
    """m_l by tensor, as the run records it."""
    try:
        record = read_run_record(Path(source))
    except RankScopeError:
        return {}  # gone or changed since it was analysed
    if record is None:
        return {}
    return {
        one.name: one.inputs_per_sample
        for one in record.matrices
        if one.inputs_per_sample is not None
    }


def settings_of(run: Row) -> list[list[str]]:
    """How a run was trained: headings and values, where they are known."""
    found = [
        [SETTINGS[key], setting_text(run[key])] for key in SETTINGS if run.get(key) is not None
    ]
    inputs = sorted(set(_inputs(run["source"]).values()))
    if inputs:
        span = str(inputs[0]) if len(inputs) == 1 else f"{inputs[0]} to {inputs[-1]}"
        found.append(["m_l", span])
    return found


def _gaps(rows: Sequence[Row], key: str) -> list[list[str | int]]:
    """Why a column has no value in some rows: reasons, and of how many rows each is true."""
    reasons = Counter(
        printable(row["notes"].get(key) or row["notes"].get("status", ""))
        for row in rows
        if row[key] is None and not row["notes"].get(key, "").startswith(INFINITE)
    )
    return [[reason, count] for reason, count in reasons.most_common() if reason]


def _places(
    scene: Scene, names: Sequence[str], steps: Sequence[int | None]
) -> list[tuple[int, int]]:
    """Of which matrix and which snapshot each curve of the scene is."""
    matrix = {name: index for index, name in enumerate(names)}
    snapshot = {step: index for index, step in enumerate(steps)}
    return [(matrix[curve.name], snapshot[curve.step]) for curve in scene.curves]
