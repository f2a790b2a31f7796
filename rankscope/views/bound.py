"""The report of the bound as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.boundtable import BoundTable, Row
from rankscope.views.grid import Grid
from rankscope.views.numbers import number
from rankscope.views.report import Remark, Report

# Keys that are columns where they differ between rows, and part of the title where they do not.
SETTINGS = {
    "B": "B",
    "world_size": "world size",
    "accumulation": "accumulation",
    "mu": "mu",
    "lambda": "lambda (theorem)",
    "weight_decay": "weight decay (PyTorch)",
    "momentum": "momentum",
    "m": "m",
    "eps": "eps",
    "step": "after step",
}
QUIET = {"world_size": 1, "accumulation": 1, "momentum": 0.0, "step": None}  # not worth a word
RESULTS = {
    "steps": "steps n*",
    "closed_form": "closed form",
    "exact": "exact count",
    "first_useful_width": "useful from width",
}


def report(table: BoundTable) -> Report:
    """One table, with what was typed in its title."""
    return Report(
        title="the bound on the rank",
        grids=lambda _: [_grid(table)],
        remarks=lambda _: _remarks(table),
        document=table.to_document,
        rows=lambda: _rows(table),
    )


def _grid(table: BoundTable) -> Grid:
    rows, unknown = table.rows, table.question.solve_for
    # lambda and weight decay stand side by side, always, so that neither is taken for the other.
    varied = [key for key in SETTINGS if len({row[key] for row in rows}) > 1]
    columns = [key for key in SETTINGS if key in {*varied, unknown, "lambda", "weight_decay"}]
    title = ", ".join(
        f"{SETTINGS[key]} {_setting(rows[0], key)}"
        for key in SETTINGS
        if key not in columns and rows[0][key] != QUIET.get(key, ...)
    )
    if rows[0]["nesterov"]:
        title += " (Nesterov)"
    width = table.question.setting.width
    last = () if width is None else (f"at width {width}",)
    cells = tuple(
        (
            *(_setting(row, key) for key in columns),
            *(_result(row, key) for key in RESULTS),
            *(("says nothing" if row["vacuous"] else "holds",) if last else ()),
        )
        for row in rows
    )
    heads = (*(SETTINGS[key] for key in columns), *RESULTS.values(), *last)
    return Grid(f"bound on the rank: {title}", heads, cells, 0, 0)


def _setting(row: Row, key: str) -> str:
    value = row[key]
    if value is None:
        return "long after" if key == "step" else "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _result(row: Row, key: str) -> str:
    value = row[key]
    return f"{value:.1f}" if isinstance(value, float) and value < 1e7 else number(value)


def _remarks(table: BoundTable) -> list[Remark]:
    momentum, nesterov = table.rows[0]["momentum"], table.rows[0]["nesterov"]
    lines = [
        Remark(
            "lambda is the theorem's, the factor of ||W||^2 in the loss; "
            "weight decay is PyTorch's, 2 lambda."
        ),
    ]
    if momentum:
        lines.append(
            Remark(
                "exact count: m B n*, n* the least n after which updates with momentum leave at "
                f"most eps / 2 of the weights{', and one update more' if nesterov else ''}; "
                "the closed form (Theorem 3.3) is for plain SGD."
            )
        )
    else:
        lines.append(
            Remark(
                "closed form: m B log(2/eps) / (2 mu lambda), Theorem 3.3 of Galanti et al.; exact "
                "count: m B n*, n* the least n with (1 - 2 mu lambda)^n <= eps / 2."
            )
        )
    lines.append(
        Remark(
            "For long training with ||W_(T-1)|| / ||W_T|| -> 1: W_T is within eps ||W_T|| of a "
            "matrix of that rank."
        )
    )
    notes = dict.fromkeys(row["note"] for row in table.rows if row["note"])
    return [*lines, *(Remark(note, lacking=True) for note in notes)]


def _rows(table: BoundTable) -> tuple[Sequence[str], Iterator[list[Any]]]:
    return tuple(table.rows[0]), (list(row.values()) for row in table.rows)
