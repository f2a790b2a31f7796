"""The result of a check: the record that every output format renders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rankscope.gate.findings import Finding
from rankscope.rows import Row

SCHEMA = "rankscope/check/1"

Outcome = Literal["pass", "fail", "incomplete"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of a model.

    Attributes:
        source: the model's path.
        baseline: the baseline's path; None where there is none.
        findings: the worst first.
        names: of every matrix that the check was about, those of the baseline that are gone too.
        unchanged: how many of them are equal to the baseline's, entry by entry.
        lacking: what could not be measured, or is missing: name and reason.
        rules: those that hold of anything, as they were written; the user's come first.
        provenance: what made it.
        readings: whether weights were read; without them names, shapes and types were compared.
        accepted: whether the model becomes the new baseline, whatever was found.
        options: of the command that accepts it, beside the model and the baseline.
    """

    source: str
    baseline: str | None
    findings: tuple[Finding, ...]
    names: tuple[str, ...]
    unchanged: int
    lacking: tuple[Row, ...]
    rules: tuple[str, ...]
    provenance: Row
    readings: bool = True
    accepted: bool = False
    options: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that a rule forbids."""
        return tuple(one for one in self.findings if one.failure)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that no rule forbids."""
        return tuple(one for one in self.findings if not one.failure)

    @property
    def outcome(self) -> Outcome:
        """`fail` where a rule is broken; else `incomplete` where something was not measured."""
        if self.failures:
            return "fail"
        return "incomplete" if self.lacking else "pass"

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "verdict": self.outcome,
            "source": self.source,
            "baseline": self.baseline,
            "matrices": len(self.names),
            "unchanged": self.unchanged,
            "failures": len(self.failures),
            "findings": [finding.to_row() for finding in self.findings],
            "lacking": list(self.lacking),
            "rules": list(self.rules),
            "provenance": self.provenance,
        }
