"""The matrices of single checkpoints, or of a run's last snapshot: what the model sections show."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from rankscope.layerkinds import by_layer_kind
from rankscope.metrics import METRICS
from rankscope.pages.section import Subject
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.text import printable
from rankscope.views.cells import SHORT_TYPES, heading, headings, split_key
from rankscope.views.layout import by_source, last_step

THRESHOLDED = {metric.name: metric for metric in METRICS if metric.thresholded}
BY_NAME = {metric.name: metric for metric in METRICS}


def payload(subject: Subject) -> Row | None:
    """The rows of the last snapshot of each source, grouped by layer kind; None for a sweep.

    Beside several runs: of the checkpoints that are of no run, since the sweep's part has the runs.
    """
    if not isinstance(subject, Scene) or subject.kind == "sweep":
        return None
    table = subject.table
    beside = len(table.runs) > 1
    told = {run["source"] for run in table.runs} if beside else set()
    own = [row for row in table.matrices if row["source"] not in told]
    rows = [row for found in by_source(own).values() for row in last_step(found)]
    places = {(one.source, one.name, one.step): place for place, one in enumerate(subject.curves)}
    labels, groups = _groups(rows)
    keys = [key for key in table.columns if split_key(key)[0] in BY_NAME]
    return {
        "step": rows[0]["step"] if rows and subject.kind == "run" else None,
        "columns": _columns(keys),
        "groups": labels,
        "sources": [source for source in by_source(table.summary) if source not in told],
        "beside": beside,
        "rows": [
            {
                **_facts(row),
                "group": groups[id(row)],
                "curve": places.get((row["source"], row["name"], row["step"])),
                "values": [row[key] for key in keys],
                "notes": [row["notes"].get(key, "") for key in keys],
            }
            for row in rows
        ],
    }


def _facts(row: Row) -> Row:
    """What a matrix is; its status, and why it could not be measured."""
    return {
        "source": printable(row["source"]),
        "name": printable(row["name"]),
        "shape": row["shape"],
        "dtype": SHORT_TYPES.get(row["dtype"], row["dtype"]),
        "kind": row["kind"],
        "role": row.get("role"),
        "depth": row.get("depth"),
        "status": row["status"].replace("_", " "),
        "reason": row["notes"].get("status", ""),
        "route": row["route"],
    }


def _groups(rows: Sequence[Row]) -> tuple[list[str], dict[int, int]]:
    """Labels of layer kinds, and for each row which of them; of several sources each by itself."""
    labels: list[str] = []
    places: dict[int, int] = {}
    sources = by_source(rows)
    for source, own in sources.items():
        for label, members in by_layer_kind(own).items():
            places |= {id(row): len(labels) for row in members}
            labels.append(f"{source}: {label}" if len(sources) > 1 else label)
    return labels, places


def _columns(keys: Sequence[str]) -> list[Row]:
    """What each column is: its heading, its meaning, whether it counts directions.

    `live` names the metric that the page reads again at another eps: of several thresholds that
    were asked for the first one's column, since those of the others stay what they are.
    """
    live: set[str] = set()
    found: list[Row] = []
    for key, words in zip(keys, headings(keys), strict=True):
        name = split_key(key)[0]
        metric = BY_NAME[name]
        follows = metric.thresholded and name not in live
        live.add(name)
        found.append(
            {
                "key": key,
                "name": name,
                "heading": heading(name) if follows else words,
                "help": (inspect.getdoc(metric.function) or "").partition("\n")[0],
                "counts": metric.integer,
                "live": follows,
            }
        )
    return found
