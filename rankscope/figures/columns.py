"""Which columns of a table a figure draws, and what they are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankscope.errors import InputRejected, UsageError
from rankscope.figures.words import metric_words, threshold_words
from rankscope.metrics import METRICS
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.question import eps_key
from rankscope.rows import Row
from rankscope.table import Table
from rankscope.trajectory import CLOSED, EXACT, MEASURED, RATIO, VACUOUS
from rankscope.views.cells import split_key

THEORY = (RATIO, CLOSED, EXACT, MEASURED, VACUOUS)

# Metrics that are at most min(rows, columns), which a heat map shows them as a share of.
AT_MOST_FULL = frozenset(
    {
        "rank",
        "effective_rank",
        "numerical_rank",
        "stable_rank",
        "energy_rank",
        "approximation_rank",
        "participation_ratio",
    }
)

MOST_LEVELS = 4  # thresholds, of which each has axes of its own


@dataclass(frozen=True, slots=True)
class Drawn:
    """A column that is drawn.

    Attributes:
        key: of the rows.
        words: what it is, for an axis: `rank`.
        eps: the threshold that it is for; None where it has none.
        threshold: the same as words: `ε = 0.01`; empty where it has none.
        counts: whether it is at most min(rows, columns).
    """

    key: str
    words: str
    eps: float | None
    threshold: str
    counts: bool

    @property
    def axis(self) -> str:
        """The name of an axis, with its threshold in a second line."""
        return "\n".join(part for part in (self.words, self.threshold) if part)


def eps_of(table: Table) -> list[float]:
    """The thresholds that were asked for."""
    return list(dict.fromkeys(table.provenance.get("eps", (DEFAULT_EPS,))))


def norm_asked(table: Table) -> Norm:
    """What they are relative to."""
    norm: Norm = table.provenance.get("norm", "frobenius")
    return norm


def drawn_columns(table: Table, metric: str | None) -> list[Drawn]:
    """The columns of one metric, one a threshold; of the table's first one where none is named.

    Raises:
        UsageError: the table has no such metric.
    """
    keys = [key for key in table.columns if _base(key) not in THEORY]
    wanted = metric or next(map(_base, keys), None)
    found = [key for key in keys if wanted in (key, _base(key))]
    if not found:
        there = ", ".join(dict.fromkeys(map(_base, keys))) or "none"
        raise UsageError(f"metric {wanted!r} was not measured; there are {there}")
    return [_drawn(table, key) for key in found]


def _drawn(table: Table, key: str) -> Drawn:
    name, level = split_key(key)[0], key.partition("@")[2]
    eps = float(level) if level else eps_of(table)[0]
    thresholded = any(metric.thresholded for metric in METRICS if metric.name == name)
    if not thresholded:
        return Drawn(key, metric_words(key), None, "", name in AT_MOST_FULL)
    return Drawn(
        key, metric_words(key), eps, threshold_words(norm_asked(table), eps), name in AT_MOST_FULL
    )


def _base(key: str) -> str:
    """`rank@0.01` -> `rank`."""
    return key.partition("@")[0]


def key_at(table: Table, name: str, eps: float) -> str:
    """The key of a column that depends on eps."""
    return eps_key(name, eps, eps_of(table))


def measured_rows(table: Table, rows: Sequence[Row]) -> list[Row]:
    """Those that have a spectrum.

    Raises:
        InputRejected: none has.
    """
    found = [row for row in rows if row["status"] == "ok"]
    if not found:
        source = table.summary[0]["source"] if table.summary else "input"
        reasons = [f"; {row['name']}: {row['notes'].get('status', row['status'])}" for row in rows]
        raise InputRejected(
            source, f"nothing to draw: no matrix has a spectrum{''.join(reasons[:1])}"
        )
    return found
