"""The report of the bound as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Context
from typing import Any

from rankscope.bounds.table import BoundTable, Row
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
# Left out one by one, from the last, where there is no room.
OPTIONAL = {
    "closed_form": "closed form",
    "steps": "steps n*",
    "first_useful_width": "useful from width",
}

DIGITS = 6  # of what was given, or solved for


def report(table: BoundTable) -> Report:
    """One table, with what was typed in its title."""
    return Report(
        title="the bound on the rank",
        grids=lambda _: [_grid(table)],
        remarks=lambda _: _remarks(table),
        document=table.to_document,
        rows=lambda: _rows(table),
        part="rows",
    )


def _grid(table: BoundTable) -> Grid:
    rows, unknown = table.rows, table.question.solve_for
    # lambda and weight decay stand side by side, always, so that neither is taken for the other.
    varied = [key for key in SETTINGS if len({row[key] for row in rows}) > 1]
    columns = [key for key in SETTINGS if key in {*varied, unknown, "lambda", "weight_decay"}]
    solved = {"lambda", "weight_decay"} if unknown == "lambda" else {unknown}
    title = ", ".join(
        f"{SETTINGS[key]} {_setting(rows[0], key)}"
        for key in SETTINGS
        if key not in columns and rows[0][key] != QUIET.get(key, ...)
    )
    if rows[0]["nesterov"]:
        title += " (Nesterov)"
    width = table.question.setting.width
    at_width = () if width is None else (f"at width {width}",)
    cells = tuple(
        (
            *(_setting(row, key, up=key in solved) for key in columns),
            _result(row, "exact"),
            *(("vacuous" if row["vacuous"] else "useful",) if at_width else ()),
            *(_result(row, key) for key in OPTIONAL),
        )
        for row in rows
    )
    heads = (
        *(SETTINGS[key] for key in columns),
        "exact count",
        *at_width,
        *OPTIONAL.values(),
    )
    return Grid(
        f"bound on the rank: {title}", heads, cells, 0, optional=len(OPTIONAL), metrics=False
    )


def _setting(row: Row, key: str, *, up: bool = False) -> str:
    value = row[key]
    if value is None:
        return "inf" if key == "step" else "-"
    if not isinstance(value, float):
        return str(value)
    # What was solved for is the least that will do: rounded down, it would not.
    shown = Context(DIGITS, ROUND_CEILING).create_decimal_from_float(value) if up else value
    return f"{float(shown):.{DIGITS}g}"


def _result(row: Row, key: str) -> str:
    value = row[key]
    return f"{value:.1f}" if isinstance(value, float) and value < 1e7 else number(value)


def _remarks(table: BoundTable) -> list[Remark]:
    lines = [
        "lambda is the theorem's, the factor of ||W||^2 in the loss; "
        "weight decay is PyTorch's, 2 lambda.",
        *_formulas(table),
        *_solved(table),
        "For long training with ||W_(T-1)|| / ||W_T|| -> 1: W_T is within eps ||W_T|| of a matrix "
        "of a rank of at most the exact count.",
    ]
    if any(row["eps"] is not None and row["eps"] >= 1 for row in table.rows):
        lines.append("For eps of 1 and more the zero matrix is near enough: rank 0 will do.")
    notes = dict.fromkeys(row["note"] for row in table.rows if row["note"])
    return [*map(Remark, lines), *(Remark(note, lacking=True) for note in notes)]


def _formulas(table: BoundTable) -> Iterator[str]:
    """What the two numbers are."""
    one = table.question.setting
    if one.momentum:
        left = "updates with momentum leave at most eps / 2 of the weights"
        extra = ", and one update more" if one.nesterov else ""
        yield f"exact count: m B n*, n* the least n after which {left}{extra}."
        yield "closed form: none, Theorem 3.3 of Galanti et al. is for SGD without momentum."
    else:
        factor = "the product of 1 - 2 mu_j lambda over the last n steps"
        left = factor if one.schedule else "(1 - 2 mu lambda)^n"
        last = " with the last mu for all steps" if one.schedule else ""
        yield f"exact count: m B n*, n* the least n with {left} <= eps / 2."
        yield f"closed form: m B log(2/eps) / (2 mu lambda){last}, Theorem 3.3 of Galanti et al."
        if any(_below(row) for row in table.rows):
            why = "all steps as if with the last mu" if one.schedule else "parts of steps"
            yield f"Where it is below the exact count it is no bound: it counts {why}."
    if one.schedule and one.step is None:
        yield "after step inf: long after the last change of mu."
    if one.world_size * one.accumulation > 1:
        yield "The B of both is B x world size x accumulation, the samples of a step."


def _below(row: Row) -> bool:
    return row["closed_form"] is not None and bool(row["closed_form"] < row["exact"])


def _solved(table: BoundTable) -> Iterator[str]:
    """How what was solved for is to be read."""
    unknown, one = table.question.solve_for, table.question.setting
    if unknown in ("lambda", "mu", "eps"):
        yield (
            f"{unknown}: the least that brings the exact count below width {one.width}, rounded up."
        )
        if one.momentum and unknown != "eps":
            yield f"With momentum the count goes up and down, so that a smaller {unknown} may do."
    elif unknown == "B":
        yield f"B: the largest that keeps the exact count below width {one.width}."


def _rows(table: BoundTable) -> tuple[Sequence[str], Iterator[list[Any]]]:
    return tuple(table.rows[0]), (list(row.values()) for row in table.rows)
