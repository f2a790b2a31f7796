"""The result of a check: the record that every output format renders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rankscope.gate.findings import Finding
from rankscope.rows import Row

SCHEMA = "rankscope/check/1"

Outcome = Literal["pass", "fail", "incomplete"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A check that could not be made: the model or the baseline is not sound, or not there.

    Attributes:
        source: the model's path.
        reason: what was found, its place included.
    """

    source: str
    reason: str


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
        left_out: rules on readings that were not looked at, where no weights were read.
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
    left_out: tuple[str, ...] = ()

    @property
    def matrices(self) -> tuple[str, ...]:
        """Every matrix by one name: `names` has both names of one that was renamed.

        And the name of one that is stored no longer, beside the one that it is tied to.
        """
        again = set(self._old_names()) | {
            one.name for one in self.findings if one.metric == "tied" and one.after is None
        }
        return tuple(name for name in self.names if name not in again)

    @property
    def broken(self) -> frozenset[str]:
        """The matrices that break a rule, by the names of `matrices`."""
        old = self._old_names()
        return frozenset(old.get(one.name, one.name) for one in self.failures)

    def _old_names(self) -> dict[str, str]:
        """From the new name of what is renamed to its old one."""
        return {one.after: one.name for one in self.findings if one.metric == "renamed"}

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
            "matrices": len(self.matrices),
            "unchanged": self.unchanged,
            "failures": len(self.failures),
            "findings": [finding.to_row() for finding in self.findings],
            "lacking": list(self.lacking),
            "rules": list(self.rules),
            "left_out": list(self.left_out),
            "provenance": self.provenance,
        }
