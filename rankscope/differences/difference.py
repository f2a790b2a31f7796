"""The record of a comparison of two checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rankscope.rows import Row
from rankscope.table import COMPLETE

SCHEMA = "rankscope/diff/1"

STRUCTURE = ("removed", "added", "renamed", "tied", "reshaped", "retyped")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two checkpoints A and B side by side. Made of plain JSON values.

    Attributes:
        before: A: path, format.
        after: B.
        columns: keys of the metrics, in the order asked.
        delta_columns: keys of what was read off B - A, without `delta_`; () where nobody asked.
        matrices: one row a matrix that stands in both, the worst first: name, name_before; shape,
            dtype, kind and status, each also with `_before`; equal (in every entry; None where
            one could not be read), loss (the largest relative fall of rank and effective rank;
            where neither is asked, of any metric), loss_of (whose); for each column `key`,
            `{key}_before` and `{key}_change`; notes. Of B - A: relative_change (its Frobenius norm
            over A's), delta_status, delta_noise (the spectral norm that the rounding of A and B may
            have), and `delta_{key}`.
        removed: name, shape, dtype, status, reason (why B has it and it is not measured, or "").
        added: likewise; the reason is why A's was not measured.
        renamed: before, after; equal in content.
        tied: name, side (before or after), to: stored once more, or not any more, beside its twin.
        reshaped: name, before, after.
        retyped: name, before, after.
        skipped: what was not measured of either: name, reason, source, missing.
        summary: how many matrices are unchanged, changed and so on.
        provenance: what made it: versions, sources, the question.
    """

    before: Row
    after: Row
    columns: tuple[str, ...]
    delta_columns: tuple[str, ...]
    matrices: tuple[Row, ...]
    removed: tuple[Row, ...]
    added: tuple[Row, ...]
    renamed: tuple[Row, ...]
    tied: tuple[Row, ...]
    reshaped: tuple[Row, ...]
    retyped: tuple[Row, ...]
    skipped: tuple[Row, ...]
    summary: Row
    provenance: Row

    @property
    def incomplete(self) -> bool:
        """Whether something that should have been measured was not."""
        statuses = {row[key] for row in self.matrices for key in ("status", "status_before")}
        statuses |= {row["status"] for row in (*self.removed, *self.added)}
        statuses |= {row.get("delta_status") or "ok" for row in self.matrices}
        return not statuses <= COMPLETE or any(row["missing"] for row in self.skipped)

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "before": self.before,
            "after": self.after,
            "provenance": self.provenance,
            "summary": self.summary,
            "matrices": list(self.matrices),
            **{key: list(getattr(self, key)) for key in (*STRUCTURE, "skipped")},
        }
