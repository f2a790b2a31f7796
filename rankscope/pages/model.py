"""The matrices of single checkpoints, or of a run's last snapshot: what the model sections show."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from rankscope.layerkinds import by_layer_kind
from rankscope.metrics import METRICS
from rankscope.pages.section import Subject
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.text import printable
from rankscope.trajectory import CLOSED, EXACT, MEASURED, VACUOUS
from rankscope.views.cells import SHORT_TYPES, heading, headings, split_key
from rankscope.views.layout import by_source, last_step
from rankscope.views.sweep import run_names

BY_NAME = {metric.name: metric for metric in METRICS}

# Of a run's only snapshot, what the columns of its bounds say.
BOUNDS = {
    CLOSED: "The bound on the rank of Theorem 3.3, in its closed form.",
    EXACT: "The bound on the rank with the steps counted.",
    MEASURED: "The bound of Lemma 3.2 on the rank, by the run's own norms.",
    VACUOUS: "Whether the bound is at full rank or above, and says nothing.",
}


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
    called = _called([source for source in by_source(table.summary) if source not in told])
    labels, groups = _groups(rows, called)
    keys = [key for key in table.columns if split_key(key)[0] in BY_NAME]
    keys += _bounds(subject, rows)
    return {
        "step": rows[0]["step"] if rows and subject.kind == "run" else None,
        "columns": _columns(keys),
        "groups": labels,
        "beside": beside,
        "rows": [
            {
                **_facts(row),
                "of": called.get(row["source"]),
                "group": groups[id(row)],
                "curve": places.get((row["source"], row["name"], row["step"])),
                "values": [_shown(row[key]) for key in keys],
                "notes": [row["notes"].get(key, "") for key in keys],
            }
            for row in rows
        ],
    }


def _bounds(scene: Scene, rows: Sequence[Row]) -> list[str]:
    """The bounds on the rank that have a value, where no other part of the page shows them."""
    if scene.kind != "model":
        return []
    keys = [key for key in scene.table.columns if split_key(key)[0] in BOUNDS]
    return [key for key in keys if any(row[key] is not None for row in rows)]


def _shown(value: float | bool | None) -> float | str | None:
    """A value as a script has it: what is true or false in words."""
    return ("yes" if value else "no") if isinstance(value, bool) else value


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


def _called(sources: Sequence[str]) -> dict[str, str]:
    """What each of several sources is called beside the names of its matrices, which may be equal.

    Nothing where there is one, and nothing has to be told apart.
    """
    if len(sources) < 2:
        return {}
    return dict(zip(sources, run_names([{"source": one} for one in sources]), strict=True))


def _groups(rows: Sequence[Row], called: Mapping[str, str]) -> tuple[list[str], dict[int, int]]:
    """Labels of layer kinds, and for each row which of them; of several sources each by itself."""
    labels: list[str] = []
    places: dict[int, int] = {}
    for source, own in by_source(rows).items():
        for label, members in by_layer_kind(own).items():
            places |= {id(row): len(labels) for row in members}
            labels.append(f"{called[source]}: {label}" if called else label)
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
        if name in BOUNDS:
            found.append(_bound(key, words))
            continue
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
                "words": False,
                "live": follows,
            }
        )
    return found


def _bound(key: str, words: str) -> Row:
    """The column of a bound, which stays as it was analysed."""
    name = split_key(key)[0]
    counts = name in (EXACT, MEASURED)
    return {
        "key": key,
        "name": name,
        "heading": words,
        "help": f"{BOUNDS[name]} The threshold above does not move it.",
        "counts": counts,
        "words": name == VACUOUS,
        "live": False,
    }
