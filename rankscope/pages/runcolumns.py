"""Values over the snapshots of a run, in few characters: a long run has a million of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rankscope.records import INFINITE
from rankscope.rows import Row
from rankscope.views.numbers import number

# Three more than `rankscope.views.numbers.number` shows; of what it would show otherwise, all.
DIGITS = 7

INF = "inf"  # what JSON has no number for
ROUGH = "~"  # how a value that is not exact begins, as in the terminal

Value = float | int | str | None  # a string: `inf`, or `~` and the number


def brief(row: Row, key: str) -> Value:
    """A value of a row as short as it can be shown: a number, None, `inf`, or `~12.5`."""
    value, note = row.get(key), row["notes"].get(key, "")
    if value is None:
        return INF if note.startswith(INFINITE) else None
    short = shortest(value)
    return f"{ROUGH}{short}" if "not exact" in note else short


def shortest(value: float | None) -> float | int | None:
    """A number in `DIGITS` digits; whole ones as they are, without a point."""
    if value is None or isinstance(value, int):
        return None if value is None else int(value)
    if value.is_integer() and abs(value) < 10**DIGITS:
        return int(value)
    rounded = float(f"{value:.{DIGITS}g}")
    same = number(rounded) == number(value) and not rounded.is_integer()  # scripts know no 1.0
    return rounded if same else value


@dataclass(slots=True)
class Pool:
    """Series of values, each kept once: the bound is the same in many layers.

    Attributes:
        kept: the series.
        places: where each of them stands.
    """

    kept: list[Sequence[Value]] = field(default_factory=list)
    places: dict[tuple[Value, ...], int] = field(default_factory=dict)

    def put(self, values: Iterable[Value]) -> int:
        """The place of a series among those that are kept."""
        series = tuple(values)
        if series not in self.places:
            self.places[series] = len(self.kept)
            self.kept.append(series)
        return self.places[series]
