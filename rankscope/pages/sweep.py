"""The part of the page for several runs: where each ended, by how it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rankscope.layerkinds import by_layer_kind
from rankscope.pages.run import columns, told
from rankscope.pages.runcolumns import Pool, shortest
from rankscope.pages.section import Subject
from rankscope.rows import Row
from rankscope.scene import Curve, Scene
from rankscope.sweeps.runs import VARIED
from rankscope.sweeps.trends import PREDICTED
from rankscope.table import Table
from rankscope.views.cells import LOG_HEADINGS
from rankscope.views.sweep import SETTINGS, run_names, run_order, setting_text

# What makes no other setting: replicates have other seeds, and lambda is half of the weight decay.
UNNAMED = ("seed", "lambda")


def payload(subject: Subject) -> Row | None:
    """The runs, what varies between them, trends and crossings; None of other subjects.

    Checkpoints beside them that are of no run are left to the sections of a model.
    """
    if not isinstance(subject, Scene) or len(subject.table.runs) < 2:
        return None
    table, pool = subject.table, Pool()
    runs = sorted(table.runs, key=run_order)
    ends = _ends(table, runs)
    varied = [key for key in SETTINGS if len({run[key] for run in runs}) > 1]
    return {
        "columns": columns(table.columns),
        "varied": [[key, SETTINGS[key]] for key in varied if key not in UNNAMED],
        "same": [
            [SETTINGS[key], setting_text(runs[0][key])]
            for key in SETTINGS
            if key not in varied and runs[0][key] is not None
        ],
        "runs": [
            _run(table, run, name, pool) for run, name in zip(runs, run_names(runs), strict=True)
        ],
        "series": pool.kept,
        "matrices": _matrices(ends),
        "curves": _places(subject.curves, list(ends), runs),
        "groups": [_group(table, runs, list(ends), row) for row in _distinct(table.trends)],
        "trends": [_trend(row) for row in table.trends],
        "verdicts": told(subject),
    }


def _ends(table: Table, runs: Sequence[Row]) -> dict[str, list[Row | None]]:
    """The rows of each matrix at the end of each run; None where a run has it not."""
    place = {(run["source"], run["step"]): index for index, run in enumerate(runs)}
    found: dict[str, list[Row | None]] = {}
    for row in table.matrices:
        index = place.get((row["source"], row["step"]))
        if index is not None:
            found.setdefault(row["name"], [None] * len(runs))[index] = row
    return found


def _run(table: Table, run: Row, name: str, pool: Pool) -> Row:
    """How a run was trained, where it ended, and its means over the steps."""
    summary = [row for row in table.summary if row["source"] == run["source"]]
    logged = [key for key in LOG_HEADINGS if any(row.get(key) is not None for row in summary)]
    return {
        "name": name,
        "settings": {key: run[key] for key in SETTINGS},
        "step": run["step"],
        "final": [shortest(run.get(key)) for key in table.columns],
        "log": {key: shortest(run.get(key)) for key in logged},
        "steps": pool.put(row["step"] for row in summary),
        "means": [pool.put(shortest(row[key]) for row in summary) for key in table.columns],
        "logs": {key: pool.put(shortest(row.get(key)) for row in summary) for key in logged},
    }


def _matrices(ends: Mapping[str, Sequence[Row | None]]) -> list[Row]:
    """Every matrix, and in which of the runs it counts in the average."""
    first = {name: next(row for row in rows if row) for name, rows in ends.items()}
    kinds = {
        row["name"]: label
        for label, group in by_layer_kind(first.values()).items()
        for row in group
    }
    return [
        {
            "name": name,
            "kind": kinds[name],
            "depth": row.get("depth"),
            "shape": row["shape"],
            "averaged": [one is not None and one["averaged"] is not False for one in ends[name]],
        }
        for name, row in first.items()
    ]


def _places(
    curves: Sequence[Curve], names: Sequence[str], runs: Sequence[Row]
) -> list[tuple[int, int] | None]:
    """Of which run and which matrix each curve is; None where a run's row is not known."""
    run = {row["source"]: index for index, row in enumerate(runs)}
    matrix = {name: index for index, name in enumerate(names)}
    return [
        (run[one.source], matrix[one.name]) if one.source in run and one.name in matrix else None
        for one in curves
    ]


def _distinct(trends: Sequence[Row]) -> list[Row]:
    """One trend of each group of runs, whatever value it is about."""
    return list({(row["varied"], str(row["fixed"])): row for row in trends}.values())


def _group(table: Table, runs: Sequence[Row], names: Sequence[str], trend: Row) -> Row:
    """Runs that differ in one setting (and the seed) only: by level, and where spectra cross."""
    told_apart = [key for key in VARIED if key in PREDICTED or len({r[key] for r in runs}) > 1]
    others = [key for key in told_apart if key != trend["varied"]]
    members = [
        index
        for index, run in enumerate(runs)
        if all(run[key] == trend["fixed"].get(key) for key in others)
    ]
    crossings = [
        {key: row[key] for key in ("levels", "crossing", "smallest", "largest", "agreement")}
        | {"matrix": names.index(row["name"]), "mass": [shortest(one) for one in row["head_mass"]]}
        for row in table.crossings
        if (row["varied"], row["fixed"]) == (trend["varied"], trend["fixed"])
        and row["name"] in names
    ]
    levels = [
        [level, [index for index in members if runs[index][trend["varied"]] == level]]
        for level in trend["levels"]
    ]
    return {
        "varied": trend["varied"],
        "heading": SETTINGS[trend["varied"]],
        "fixed": _fixed(trend),
        "levels": levels,
        "crossings": crossings,
    }


def _trend(row: Row) -> Row:
    """A trend as the page's table has it."""
    keys = ("value", "levels", "means", "runs", "seeds", "tau", "tau_p", "page_p", "verdict")
    return {key: row[key] for key in keys} | {
        "varied": SETTINGS[row["varied"]],
        "fixed": _fixed(row),
    }


def _fixed(trend: Row) -> str:
    """The settings that all runs of a trend share, of those that vary at all."""
    return ", ".join(f"{SETTINGS[key]} {setting_text(v)}" for key, v in trend["fixed"].items())
