"""What is said below the tables: what was left out on purpose, then what is lacking and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rankscope.rows import Row
from rankscope.table import COMPLETE, Table
from rankscope.text import printable
from rankscope.views.report import Remark

MANY_LACKING = 10  # more lines than this are counted only

PLAIN = ("vector", "scalar")  # reasons that need no name


def remarks(table: Table, *, everything: bool) -> list[Remark]:
    """The remarks on an analysis; of many of a kind the first, and how many more."""
    lines = none_found((row["source"] for row in table.summary), table.matrices)
    lines += left_out(table.skipped, everything=everything)
    return lines + _shown(_without_values(table.matrices), everything=everything)


def none_found(sources: Iterable[str], matrices: Sequence[Row]) -> list[Remark]:
    """A line for each source that could be read and holds no matrix."""
    found = {row["source"] for row in matrices}
    empty = [source for source in dict.fromkeys(sources) if source not in found]
    return [Remark(f"{printable(source)}: no weight matrices") for source in empty]


def left_out(skipped: Sequence[Row], *, everything: bool) -> list[Remark]:
    """What is not in the tables: left out on purpose, then what is missing."""
    reasons: dict[str, set[str]] = {}
    for row in skipped:
        if not row["missing"]:
            reasons.setdefault(row["reason"], set()).add(row["name"])
    plain_first = sorted(reasons, key=lambda reason: reason not in PLAIN)
    parts = [_summed_up(reason, reasons[reason]) for reason in plain_first]
    lines = [Remark(f"not measured: {'; '.join(parts)}")] if parts else []
    missing = [
        f"incomplete: {printable(row['name'])}: {printable(row['reason'])}"
        for row in skipped
        if row["missing"]
    ]
    return lines + _shown(missing, everything=everything)


def _summed_up(reason: str, names: set[str]) -> str:
    if reason in PLAIN:
        return f"{len(names)} {reason}{'s' if len(names) > 1 else ''}"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{printable(min(names))}{more} ({printable(reason)})"


def _without_values(rows: Sequence[Row]) -> list[str]:
    """One line for each matrix that was there and could not be measured, and in which steps."""
    several = len({row["source"] for row in rows}) > 1
    groups: dict[tuple[str, str, str, str], list[int | None]] = {}
    for row in rows:
        if row["status"] not in COMPLETE:
            reason = row["notes"].get("status", "no reason is known")
            key = (row["status"], row["source"] if several else "", row["name"], reason)
            groups.setdefault(key, []).append(row["step"])
    return [
        ": ".join(
            printable(part)
            for part in (status.replace("_", " "), source, name + _at(steps), reason)
            if part
        )
        for (status, source, name, reason), steps in groups.items()
    ]


def _at(steps: Sequence[int | None]) -> str:
    known = [step for step in steps if step is not None]
    if not known:
        return ""
    if len(known) == 1:
        return f" at step {known[0]}"
    return f" at {len(known)} steps from {known[0]} to {known[-1]}"


def _shown(lines: Sequence[str], *, everything: bool) -> list[Remark]:
    shown = lines if everything else lines[:MANY_LACKING]
    found = [Remark(line, lacking=True) for line in shown]
    if len(shown) < len(lines):
        more = f"incomplete: {len(lines) - len(shown)} more (--all shows every one)"
        found.append(Remark(more, lacking=True))
    return found
