"""A comparison of two checkpoints as the views see it: one sentence, then the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.differences.changes import DELTA, LOSS_METRICS, OF_ONE_TYPE
from rankscope.differences.difference import Difference
from rankscope.rows import Row
from rankscope.table import COMPLETE
from rankscope.text import printable
from rankscope.views.cells import SHORT_TYPES, cell, headings, split_key
from rankscope.views.grid import Grid
from rankscope.views.layout import MANY_MATRICES
from rankscope.views.numbers import counted, number
from rankscope.views.remarks import MANY_LACKING, left_out
from rankscope.views.report import Remark, Report

MANY_NAMES = 5  # of a kind that a line names

WORTH_TELLING = 0.01  # a loss; the gate's finest default tolerance

SUFFIX = ".weight"  # left out where every name ends so: what tells them apart needs the room

ARROW = " → "

DELTA_RANK = DELTA + OF_ONE_TYPE

FACTS = ("shape", "dtype", "kind", "status")

EXPLAINED = (
    "delta rank: singular values of B - A above what the rounding of both to their types can make; "
    "moved: its Frobenius norm over A's"
)


def report(found: Difference) -> Report:
    """What changed, and what a machine is told of it; one flat row a matrix."""
    return Report(
        title=_title(found),
        grids=lambda everything: [
            grid for grid in (_matrices(found, everything=everything),) if grid.rows
        ],
        remarks=lambda everything: _remarks(found, everything=everything),
        document=found.to_document,
        rows=lambda: _rows(found),
    )


def _title(found: Difference) -> str:
    return ARROW.join(printable(side["path"]) for side in (found.before, found.after))


def sentence(found: Difference) -> str:
    """The result in one sentence."""
    summary = found.summary
    if not summary["matrices"]:
        return "no matrix stands in both"
    text = f"{summary['unchanged']} of {counted(summary['matrices'])} unchanged"
    if summary["moved"] is None:
        changed = f"; {summary['changed']} changed" if summary["changed"] else ""
        return text + changed + _worst(found)
    if summary["moved"]:
        text += f"; {summary['moved']} moved, by {_percent(summary['relative_change'])} of "
        text += f"{'its' if summary['moved'] == 1 else 'their'} norm{_directions(summary)}"
    if summary["rounded"]:
        verb = "differs" if summary["rounded"] == 1 else "differ"
        text += f"; {summary['rounded']} {verb} by no more than rounding"
    return text + _worst(found)


def _directions(summary: Row) -> str:
    least, median, most = (summary[f"directions_{which}"] for which in ("least", "median", "most"))
    if least is None:
        return ""
    if least == most:
        return f" in {least} direction{'s' if least != 1 else ''}"
    return f" in {least} to {most} directions (median {median})"


def _worst(found: Difference) -> str:
    """The largest loss, where there is one to be told."""
    lost = [row for row in found.matrices if (row["loss"] or 0) >= WORTH_TELLING]
    if not lost:
        return ""
    worst = max(lost, key=lambda row: row["loss"])
    what = worst["loss_of"].replace("_", " ")
    return f"; the largest loss is {_percent(worst['loss'])} of {what}, {printable(worst['name'])}"


def _matrices(found: Difference, *, everything: bool) -> Grid:
    changed = found.matrices if everything else [r for r in found.matrices if not r["equal"]]
    shown = changed if everything else changed[:MANY_MATRICES]
    title = _title(found)
    if len(shown) < len(changed):
        title += f": the worst {len(shown)} of {len(changed)} that changed"
    if len(shown) < len(found.matrices):
        title += " (--all shows every matrix)"
    first = [key for key in found.columns if split_key(key)[0] in LOSS_METRICS]
    others = [key for key in found.columns if key not in first]
    names = dict(zip(found.columns, headings(found.columns), strict=True))
    delta = ("moved", "delta rank") if found.delta_columns else ()
    short = all(row["name"].endswith(SUFFIX) for row in shown)
    heads = (
        f"matrix ({SUFFIX})" if short else "matrix",
        *(names[key] for key in first),
        "change",
        *delta,
    )
    return Grid(
        title,
        (*heads, *(names[key] for key in others)),
        tuple(
            (
                printable(row["name"].removesuffix(SUFFIX) if short else row["name"]),
                *_cells(row, first, others, delta=bool(delta)),
            )
            for row in shown
        ),
        labels=1,
        optional=len(others),
    )


def _cells(
    row: Row, first: Sequence[str], others: Sequence[str], *, delta: bool
) -> tuple[str, ...]:
    if row["status"] != "ok" or row["status_before"] != "ok":
        states = ARROW.join(row[key].replace("_", " ") for key in ("status_before", "status"))
        return (states, *("",) * (len(first) + len(others) + 2 * delta))
    change = "-" if row["loss"] is None else _signed(-row["loss"])
    moved = (_moved(row), cell(row, DELTA_RANK)) if delta else ()
    return (
        *(_both(row, key) for key in first),
        change,
        *moved,
        *(_both(row, k) for k in others),
    )


def _both(row: Row, key: str) -> str:
    return _brief(row, f"{key}_before") + ARROW + _brief(row, key)


def _brief(row: Row, key: str) -> str:
    """A value in three digits from 10 on: there are two of them in a cell."""
    value = row[key]
    if isinstance(value, float) and 10 <= value < 1e5:
        short = f"{value:.0f}" if value >= 100 else f"{value:.1f}"
        return cell(row, key).replace(number(value), short)
    return cell(row, key)


def _moved(row: Row) -> str:
    share = row["relative_change"]
    if share is None:
        return cell(row, "relative_change")
    return _percent(share) if share else "0 %"


def _percent(share: float) -> str:
    """A share that is not negative in two digits, and no more than two decimals.

    >>> _percent(0.339), _percent(0.0212), _percent(0.00012)
    ('34 %', '2.1 %', '0.01 %')
    """
    percent = 100 * share
    decimals = 0 if percent >= 10 else 1 if percent >= 1 else 2
    return f"{percent:.{decimals}f} %"


def _signed(share: float) -> str:
    return f"{'-' if share < 0 else '+'}{_percent(abs(share))}" if share else "0 %"


def _remarks(found: Difference, *, everything: bool) -> list[Remark]:
    lines = [Remark(sentence(found), strong=True)]
    lines += [Remark(line) for line in _structure(found, everything=everything)]
    if found.delta_columns:
        lines += [Remark(line) for line in _without_delta(found)]
        lines.append(Remark(EXPLAINED))
    lacking = _lacking(found)
    shown = lacking if everything else lacking[:MANY_LACKING]
    lines += [Remark(line, lacking=True) for line in shown]
    if len(shown) < len(lacking):
        more = f"incomplete: {len(lacking) - len(shown)} more (--all shows every one)"
        lines.append(Remark(more, lacking=True))
    return lines + left_out(found.skipped, everything=everything)


def _structure(found: Difference, *, everything: bool) -> Iterator[str]:
    """A line for each kind of thing that is not a change of numbers."""
    for kind, texts in structure(found, everything=everything).items():
        shown = texts if everything else texts[:MANY_NAMES]
        more = len(texts) - len(shown)
        if texts:
            rest = f" and {more} more (--all names them)" if more else ""
            yield f"{kind}: {', '.join(map(printable, shown))}{rest}"


def structure(found: Difference, *, everything: bool) -> dict[str, list[str]]:
    """What is not a change of numbers, by kind, each in words; not yet printable."""
    return {
        "removed": [_alone(row) for row in found.removed],
        "added": [_alone(row) for row in found.added],
        "renamed": [row["before"] + ARROW + row["after"] for row in found.renamed],
        "tied": [f"{row['name']} ({row['side']}) to {row['to']}" for row in found.tied],
        "reshaped": [
            f"{row['name']} {_shape(row['before'])}{ARROW}{_shape(row['after'])}"
            for row in found.reshaped
        ],
        "retyped": _retyped(found, everything=everything),
    }


def _retyped(found: Difference, *, everything: bool) -> list[str]:
    """Which types became which others: how many each, or which on request."""
    ways: dict[str, list[str]] = {}
    for row in found.retyped:
        way = f"{_type(row['before'])}{ARROW}{_type(row['after'])}"
        ways.setdefault(way, []).append(row["name"])
    if everything:
        return [f"{name} {way}" for way, names in ways.items() for name in names]
    return [
        f"{names[0] if len(names) == 1 else counted(len(names))} {way}"
        for way, names in ways.items()
    ]


def _alone(row: Row) -> str:
    return f"{row['name']} (not measured there: {row['reason']})" if row["reason"] else row["name"]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _type(name: str) -> str:
    return SHORT_TYPES.get(name, name)


def _without_delta(found: Difference) -> list[str]:
    """Why some matrices that were measured have no B - A, or no rank of it."""
    notes = Counter(
        note
        for row in found.matrices
        for key in (f"{DELTA}status", DELTA_RANK)
        if (note := row["notes"].get(key)) and row[key] is None
    )
    return [f"no delta rank of {counted(n)}: {printable(note)}" for note, n in notes.items()]


def _lacking(found: Difference) -> list[str]:
    """A line for each matrix that was there and could not be measured, or subtracted."""
    lines: dict[str, None] = {}
    for row in found.matrices:
        for key, side in (("status_before", " (before)"), ("status", ""), (f"{DELTA}status", "")):
            status = row.get(key) or "ok"
            if status not in COMPLETE and not (key == f"{DELTA}status" and _told(row)):
                reason = row["notes"].get(key, "no reason is known")
                text = f"{status.replace('_', ' ')}: {row['name']}{side}: {reason}"
                lines[printable(text)] = None
    for row in (*found.removed, *found.added):
        if row["status"] not in COMPLETE:
            lines[printable(f"{row['status'].replace('_', ' ')}: {row['name']}")] = None
    return list(lines)


def _told(row: Row) -> bool:
    """Whether what B - A lacks is lacking in A or B already."""
    return row["status"] not in COMPLETE or row["status_before"] not in COMPLETE


def _rows(found: Difference) -> tuple[Sequence[str], Iterator[list[Any]]]:
    facts = [f"{key}{side}" for key in FACTS[1:] for side in ("_before", "")]
    metrics = [f"{key}{part}" for key in found.columns for part in ("_before", "", "_change")]
    delta = ["relative_change", f"{DELTA}status", f"{DELTA}noise"] if found.delta_columns else []
    keys = [
        *facts,
        "equal",
        "loss",
        *metrics,
        *delta,
        *(DELTA + key for key in found.delta_columns),
    ]
    sides = ["rows_before", "columns_before", "rows", "columns"]
    return ("name", "name_before", *sides, *keys, "notes"), (
        [
            *(row["name"], row["name_before"], *row["shape_before"], *row["shape"]),
            *(row[key] for key in keys),
            "; ".join(f"{key}: {note}" for key, note in row["notes"].items()),
        ]
        for row in found.matrices
    )
