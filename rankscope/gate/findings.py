"""What a check finds: one record a matrix and rule, and the sentence that people read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rankscope.gate.rules import BoundRule, ChangeRule, StateRule
from rankscope.rows import Row, json_number


@dataclass(frozen=True, slots=True)
class Finding:
    """Something of a matrix that a rule is about.

    Attributes:
        name: the matrix.
        metric: a column's key, `status`, `removed`, `renamed`, `added`, `tied`, `reshaped` or
            `retyped`.
        before: what it was; None where there is nothing to compare with.
        after: what it is; None where it is not any more.
        rule: as it was written.
        failure: whether the rule forbids it.
        excess: by what factor it is beyond what the rule allows.
        sentence: all of this but the name in words, the rule apart.
    """

    name: str
    metric: str
    before: Any
    after: Any
    rule: str
    failure: bool
    excess: float
    sentence: str

    def to_row(self) -> Row:
        """The finding in the JSON document."""
        return {
            "name": self.name,
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            "rule": self.rule,
            "failure": self.failure,
            "excess": json_number(self.excess),
            "sentence": self.sentence,
        }


def moved(name: str, rule: ChangeRule, before: float, after: float) -> Finding | None:
    """What a rule on change finds of two readings."""
    excess = rule.excess(before, after)
    if not excess:
        return None
    way = "fell" if after < before else "rose"
    share = f" ({100 * (after / before - 1):+.3g}%)" if before else ""
    sentence = f"{rule.subject} {way} from {brief(before)} to {brief(after)}{share}"
    return Finding(name, rule.subject, before, after, rule.text, True, excess, sentence)


def beyond(name: str, rule: BoundRule, row: Row, before: float | None) -> Finding | None:
    """What a rule on a reading itself finds."""
    after = row[rule.subject]
    excess = rule.excess(after, row["shape"])
    if not excess:
        return None
    way = "above" if rule.comparison == "<=" else "below"
    limit = brief(rule.bound(row["shape"]))
    sentence = f"{rule.subject} is {brief(after)}, {way} {limit}"
    return Finding(name, rule.subject, before, after, rule.text, True, excess, sentence)


def undefined(name: str, rule: ChangeRule | BoundRule, before: Any, note: str) -> Finding:
    """A reading that a rule is about and that has no value."""
    was = "" if before is None else f", was {brief(before)}"
    sentence = f"{rule.subject} is undefined ({note or 'no value'}){was}"
    return Finding(name, rule.subject, before, None, rule.text, True, math.inf, sentence)


def of_state(name: str, rule: StateRule, before: Any, after: Any, sentence: str) -> Finding:
    """A state that a rule forbids, or that it allows and people should hear of."""
    excess = math.inf if rule.forbidden else 0.0
    return Finding(name, rule.subject, before, after, rule.text, rule.forbidden, excess, sentence)


def brief(value: float) -> str:
    """A reading in as many digits as tell two apart, for a sentence."""
    return f"{value:.6g}"
