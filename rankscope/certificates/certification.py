"""The record of a check of the theorem's proof: a row for every pair, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankscope.rows import Row
from rankscope.runrecord import RunRecord
from rankscope.training import Given

SCHEMA = "rankscope/certificate/1"


@dataclass(frozen=True, slots=True)
class Certification:
    """The result of `certify`. Made of plain JSON values.

    Attributes:
        source: the run.
        pairs: one row a matrix and pair of steps, by name, step and n: name, step (T), n, shape,
            dtype, inputs_per_sample, samples, allowed_rank, rank, sigma_next, threshold, margin
            (sigma_next / threshold), contrast, lhs, rhs, slack, holds, possible; as `Certificate`
            has them.
        skipped: what was not checked: name, step, reason, missing.
        remarks: what was taken for granted, contradicts itself, or was stated by the user.
        provenance: versions, the command, and the dynamics that were assumed.
    """

    source: str
    pairs: tuple[Row, ...]
    skipped: tuple[Row, ...]
    remarks: tuple[str, ...]
    provenance: Row

    @property
    def holds(self) -> bool | None:
        """Whether every pair that decides holds; None where none decides, or there is none."""
        found = {row["holds"] for row in self.pairs} - {None}
        return None if not found else found == {True}

    @property
    def incomplete(self) -> bool:
        """Whether something that should have been checked was not, or nothing was decided."""
        return any(row["missing"] for row in self.skipped) or self.holds is None

    @property
    def failed(self) -> list[Row]:
        """The pairs that do not hold, the worst first."""
        bad = [row for row in self.pairs if row["holds"] is False]
        return sorted(bad, key=lambda row: -row["margin"])

    @property
    def tightest(self) -> Row | None:
        """The pair that comes nearest to failing, or fails by most."""
        return max(self.pairs, key=lambda row: row["margin"], default=None)

    def summary(self) -> list[Row]:
        """One row a matrix: how many pairs, over which n, and the extremes."""
        groups: dict[str, list[Row]] = {}
        for row in self.pairs:
            groups.setdefault(row["name"], []).append(row)
        return [_summary(name, rows) for name, rows in groups.items()]

    def to_document(self) -> Row:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "holds": self.holds,
            "provenance": self.provenance,
            "remarks": list(self.remarks),
            "summary": self.summary(),
            "pairs": list(self.pairs),
            "skipped": list(self.skipped),
        }


def _summary(name: str, rows: Sequence[Row]) -> Row:
    worst = max(rows, key=lambda row: row["margin"])
    slacks = [row["slack"] for row in rows if row["slack"] is not None]
    return {
        "name": name,
        "shape": worst["shape"],
        "dtype": worst["dtype"],
        "pairs": len(rows),
        "failed": sum(row["holds"] is False for row in rows),
        "undecided": sum(row["holds"] is None for row in rows),
        "decisive": sum(row["contrast"] > 1 for row in rows),
        "n_min": min(row["n"] for row in rows),
        "n_max": max(row["n"] for row in rows),
        "rank": worst["rank"],
        "allowed_rank": worst["allowed_rank"],
        "margin": worst["margin"],
        "slack": min(slacks, default=None),
    }


def overrides(given: Given, run: RunRecord | None) -> tuple[str, ...]:
    """What the user states that the run records otherwise, a line each."""
    if run is None:
        return ()
    pairs: list[tuple[str, float | None, float | None]] = []
    if run.hyperparameters is not None:
        known = run.hyperparameters
        whole = known.samples_per_update
        pairs += [
            ("B", given.batch, whole),
            ("mu", given.mu, known.lr),
            ("weight decay", given.weight_decay, known.weight_decay),
        ]
        if given.mu == known.lr and known.schedule:
            pairs.append(("schedule's last mu", given.mu, known.schedule[-1][1]))
    if run.optimiser is not None:
        pairs += [
            ("momentum", given.momentum, run.optimiser.momentum),
            ("Nesterov", given.nesterov, run.optimiser.nesterov),
        ]
    return tuple(
        f"{what} is {_text(stated)} as stated, not {_text(recorded)} as in run.json"
        for what, stated, recorded in pairs
        if stated is not None and recorded is not None and stated != recorded
    )


def _text(value: float) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"
