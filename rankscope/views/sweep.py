"""Several runs beside each other: a row a run, their means, and where their spectra cross."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from rankscope.rows import Row
from rankscope.sweeps.runs import only_runs
from rankscope.table import Table
from rankscope.text import natural, printable, shortened
from rankscope.views.cells import LOG_HEADINGS, headings
from rankscope.views.columns import in_reading_order
from rankscope.views.grid import Grid
from rankscope.views.numbers import number

# How a run was trained, as headings; a column where it varies, in the title where it does not.
SETTINGS = {
    "model": "model",
    "data": "data",
    "optimiser": "optimiser",
    "B": "B",
    "mu": "mu",
    "lambda": "lambda",
    "weight_decay": "weight decay",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "seed": "seed",
}
QUIET = (None, 0.0, False)  # not worth a word in a title

MANY_LETTERS = 20  # of a model or data set in a column; four digits and a name beside it fit 80

ACCURACY = ("test_accuracy", "train_accuracy")


def is_sweep(table: Table) -> bool:
    """Whether there are several runs, one at least says how it was trained, and nothing else."""
    known = any(run[key] is not None for run in table.runs for key in SETTINGS)
    return known and only_runs(table.runs, table.summary)


def sweep_grids(table: Table) -> list[Grid]:
    """The runs, sorted by what varies; the means over runs that differ in nothing but the seed."""
    runs = sorted(table.runs, key=run_order)
    varied = [key for key in SETTINGS if len({run[key] for run in runs}) > 1]
    same = [
        f"{SETTINGS[key]} {_cut(setting_text(runs[0][key]))}"
        for key in SETTINGS
        if key not in varied and runs[0][key] not in QUIET
    ]
    if len({run["step"] for run in runs}) > 1:
        varied.append("step")  # they ended at different ones
    title = f"{len(runs)} runs" + (f": {', '.join(same)}" if same else "")
    grids = [_grid(title, table, runs, varied, names=run_names(runs))]
    shown = [key for key in varied if key not in ("seed", "step")]
    levels = _groups(runs, shown)
    if 1 < len(levels) < len(runs):
        means = [_mean(table, group) for group in levels]
        title = "means over runs that differ in the seed only"
        counts = [str(len(group)) for group in levels]
        grids.append(_grid(title, table, means, shown, names=counts, head="runs"))
    return [*grids, *_crossings(table)]


def run_order(run: Row) -> tuple[object, ...]:
    """What runs are sorted by: how they were trained, then their names."""
    words = ("model", "data", "optimiser")
    numbers = ("B", "mu", "weight_decay", "momentum", "nesterov", "seed")
    return (
        *((run[key] is None, run[key] or "") for key in words),
        *((run[key] is None, run[key] or 0) for key in numbers),
        natural(run["source"]),
    )


def run_names(runs: Sequence[Row]) -> list[str]:
    """The sources without the directory that they share."""
    sources = [run["source"] for run in runs]
    shared = os.path.commonpath(sources) if len(set(map(os.path.isabs, sources))) == 1 else ""
    return [printable(os.path.relpath(one, shared) if shared else one) for one in sources]


def _grid(
    title: str,
    table: Table,
    rows: Sequence[Row],
    varied: Sequence[str],
    names: Sequence[str],
    head: str = "run",
) -> Grid:
    logged = [key for key in ACCURACY if any(row.get(key) is not None for row in rows)][:1]
    others = [key for key in LOG_HEADINGS if key not in (*logged, "epoch")]
    others = [key for key in others if any(row.get(key) is not None for row in rows)]
    keys = [*logged, *in_reading_order(table.columns, rows), *others]
    cells = tuple(
        (
            name,
            *(shortened(setting_text(row[key]), MANY_LETTERS) for key in varied),
            *(number(row.get(key)) for key in keys),
        )
        for name, row in zip(names, rows, strict=True)
    )
    heads = (head, *(SETTINGS.get(key, key) for key in varied), *headings(keys))
    return Grid(title, heads, cells, labels=1, optional=max(0, len(keys) - 2))


def setting_text(value: object) -> str:
    """A setting as a person reads it: a word, or a number in six digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _cut(text: str) -> str:
    """The beginning of what a title has no room for."""
    return text if len(text) <= MANY_LETTERS else f"{text[: MANY_LETTERS - 1]}…"


def _groups(runs: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    return list(groups.values())


def _mean(table: Table, group: Sequence[Row]) -> Row:
    """The means of what was measured and logged; None where a run has none."""
    mean = dict(group[0])
    for key in (*table.columns, *LOG_HEADINGS):
        values = [run.get(key) for run in group]
        known = [value for value in values if value is not None]
        mean[key] = math.fsum(known) / len(known) if len(known) == len(values) else None
    return mean


def _crossings(table: Table) -> list[Grid]:
    """A table for what varies: per layer, how many singular values are large, and their mass."""
    groups: dict[tuple[str, str, tuple[float, ...]], list[Row]] = {}
    for row in table.crossings:
        key = (row["varied"], str(row["fixed"]), tuple(row["levels"]))
        groups.setdefault(key, []).append(row)
    return [
        _crossing(varied, levels, rows, _apart(rows[0]["fixed"], varied, table))
        for (varied, _, levels), rows in groups.items()
    ]


def _apart(fixed: Row, varied: str, table: Table) -> str:
    """What of the fixed settings tells a group of runs from the others that vary the same."""
    others = [row["fixed"] for row in table.crossings if row["varied"] == varied]
    own = [key for key in fixed if any(other.get(key) != fixed[key] for other in others)]
    return ", ".join(f"{SETTINGS.get(key, key)} {setting_text(fixed[key])}" for key in own)


def _crossing(varied: str, levels: Sequence[float], rows: Sequence[Row], at: str) -> Grid:
    cells = tuple(
        (
            printable(row["name"]),
            number(row["crossing"]),
            f"{row['smallest']}-{row['largest']}",
            f"{row['agreement']:.0%}",
            *(f"{mass:.0%}" for mass in row["head_mass"]),
        )
        for row in rows
    )
    word = SETTINGS[varied]
    heads = (
        *("matrix", "crossing", "range", "agree"),
        *(f"mass at {setting_text(level)}" for level in levels),
    )
    ends = f"{word} {setting_text(levels[0])} to {setting_text(levels[-1])}"
    ends += f" at {at}" if at else ""
    title = f"where spectra cross from {ends}: so many values are large, with so much of the mass"
    return Grid(title, heads, cells, labels=1, optional=len(levels))
