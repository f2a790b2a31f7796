"""Which matrices a figure shows, and under which names, where they have no axis of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rankscope.errors import UsageError
from rankscope.figures.words import FILLER, distinct, plain, plain_names
from rankscope.layerkinds import by_layer_kind
from rankscope.records import INFINITE
from rankscope.rows import Row
from rankscope.table import Table
from rankscope.views.layout import last_step

MANY_SOURCES = 6  # checkpoints or runs that have axes each

MANY_ROWS = 32  # names below each other; of more matrices, the kinds of layers

LETTERS = 36  # of a name beside dots or cells, at most

LETTER = 0.058  # inches, of a name

OTHERS = "others"

MEANS = ", means where a point stands for several matrices"


def check_sources(table: Table) -> list[str]:
    """The sources.

    Raises:
        UsageError: there are more than a figure has room for.
    """
    sources = list(dict.fromkeys(row["source"] for row in table.matrices))
    if len(sources) > MANY_SOURCES:
        raise UsageError(
            f"this figure has room for {MANY_SOURCES} checkpoints or runs, and {len(sources)} "
            "were given; choose some, or another --kind"
        )
    return sources


def last_rows(table: Table) -> dict[str, list[Row]]:
    """By source, the measured rows of its last snapshot.

    Raises:
        UsageError: more sources than a figure has room for.
    """
    found = {}
    for source in check_sources(table):
        rows = last_step([row for row in table.matrices if row["source"] == source])
        found[source] = [row for row in rows if row["status"] == "ok"]
    return found


def depth_of(row: Row, index: int, count: int) -> int | None:
    """A matrix's layer: as its name says, else its place among `count` named alike, else None."""
    depth: int | None = row.get("depth")
    return index if depth is None and count > 1 else depth


def largest_kinds(rows: Sequence[Row], most: int) -> dict[str, list[Row]]:
    """Rows by kind of layers; the kinds beyond `most`, the smallest, as one."""
    groups = _named(by_layer_kind(rows))
    if len(groups) <= most:
        return groups
    largest = set(sorted(groups, key=lambda label: -len(groups[label]))[: most - 1])
    kept = {label: group for label, group in groups.items() if label in largest}
    rest = [row for label, group in groups.items() if label not in largest for row in group]
    return kept | {OTHERS: rest}


def _named(groups: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """A matrix that is alone and in no layer by its own name, not by the pattern of it."""
    found: dict[str, list[Row]] = {}
    for label, group in groups.items():
        alone = len(group) == 1 and group[0].get("depth") is None
        name = group[0]["name"] if alone else label
        found[label if name in found else name] = group
    return found


def name_letters(width: float) -> int:
    """How long names are that leave more than half of a width in inches to what they name."""
    return min(LETTERS, int(0.45 * width / LETTER))


def beside_names(rows: Sequence[Row], width: float) -> dict[str, list[Row]]:
    """By name, or of many matrices by kind of layers, what one row of dots is about."""
    once = list({row["name"]: row for row in rows}.values())
    letters = name_letters(width)
    if len(once) <= MANY_ROWS:
        names = plain_names([row["name"] for row in once], letters)
        groups = [[row] for row in once]
    else:
        kinds = largest_kinds(once, MANY_ROWS)
        names = [plain(label.replace(FILLER, "", 1), letters) for label in kinds]
        groups = list(kinds.values())
    return dict(zip(distinct(names), groups, strict=True))


def named_rows(rows: Sequence[Row], group: Sequence[Row]) -> list[Row]:
    """Those rows whose names are among a group's."""
    names = {row["name"] for row in group}
    return [row for row in rows if row["name"] in names]


def value_of(row: Row, key: str) -> float:
    """A reading, infinity where its note says so; NaN where there is none."""
    value = row.get(key)
    if value is not None:
        return float(value)
    return math.inf if row["notes"].get(key, "").startswith(INFINITE) else math.nan


def mean(rows: Iterable[Row], key: str) -> float:
    """The mean over the rows where it is defined, as of a table; NaN where it nowhere is.

    One infinite value makes it infinite.
    """
    known = [value for row in rows if not math.isnan(value := value_of(row, key))]
    return math.fsum(value / len(known) for value in known) if known else math.nan


def undrawn(values: Iterable[float]) -> str:
    """What a title says of values that have no place on an axis; NaN is an undefined one.

    >>> undrawn([1.0, math.inf, math.nan, math.inf]), undrawn([1.0])
    ('; not drawn: 2 infinite, 1 undefined', '')
    """
    found = list(values)
    counts = {"infinite": sum(map(math.isinf, found)), "undefined": sum(map(math.isnan, found))}
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"; not drawn: {words}" if words else ""


def means_of(groups: Iterable[Sequence[Row]], keys: Sequence[str]) -> list[float]:
    """The means of the groups in which something was measured, column by column."""
    kept = [group for group in groups if any(row["status"] == "ok" for row in group)]
    return [mean(group, key) for key in keys for group in kept]


def explained(groups: Iterable[Sequence[Row]], keys: Sequence[str]) -> str:
    """What a title says of points that are one group each: that they are means, what is lacking."""
    found = list(groups)
    several = any(len(group) > 1 for group in found)
    return MEANS * several + undrawn(means_of(found, keys))
