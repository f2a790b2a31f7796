"""What a release must keep: rules as text, and what each says of a matrix.

    rule    = metric ":" ("drop" | "rise" | "change") "<=" allowed
            | metric ("<=" | ">=") bound
            | metric ":" "any"
            | "status" ":" ("all measured" | "any")
            | ("removed" | "renamed" | "added" | "reshaped" | "retyped") ":" ("none" | "any")
    allowed = share | number | share "+" number        share of the value before; 2%
    bound   = number ["*" side]                        side of the matrix; 0.4 * min(shape)

each followed, where it is about some matrices only, by "for" and a glob over their names.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from rankscope.errors import UsageError

Direction = Literal["drop", "rise", "change"]
Comparison = Literal["<=", ">="]

# What may become of a tensor between two releases, beside what becomes of its spectrum.
STRUCTURE = ("removed", "renamed", "added", "reshaped", "retyped")
STATUS = "status"

NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
ALLOWED = re.compile(rf"(?:({NUMBER})\s*(%))?\s*(\+)?\s*({NUMBER})?")
BOUND = re.compile(rf"({NUMBER})(?:\s*\*\s*(min\(shape\)|max\(shape\)|rows|columns))?")

SIDES: dict[str, Callable[[Sequence[int]], int]] = {
    "": lambda _: 1,
    "min(shape)": min,
    "max(shape)": max,
    "rows": lambda shape: shape[0],
    "columns": lambda shape: shape[1],
}

HELP = (
    "expected such as 'rank: drop <= 2%', 'effective_rank >= 0.4 * min(shape)', "
    "'status: all measured' or 'added: none'"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        text: as it was written, without the glob.
        subject: a column's key, `status`, or one of `STRUCTURE`.
        glob: of the names of the matrices that it is about.
    """

    text: str
    subject: str
    glob: str

    def concerns(self, name: str) -> bool:
        """Whether it is about a matrix of this name; brackets in a name match themselves too."""
        return name == self.glob or fnmatch.fnmatchcase(name, self.glob)

    @property
    def on_reading(self) -> bool:
        """Whether it is about what is measured, and not about names, shapes and types."""
        return self.subject not in (STATUS, *STRUCTURE)


@dataclass(frozen=True, slots=True)
class ChangeRule(Rule):
    """How far a reading may move from what it was: share * |before| + absolute."""

    direction: Direction
    share: float
    absolute: float

    def excess(self, before: float, after: float) -> float:
        """By what factor the change goes beyond what is allowed; 0 where it does not.

        A change where none is allowed is infinitely beyond.
        """
        moved = after - before
        size = {"drop": -moved, "rise": moved, "change": abs(moved)}[self.direction]
        allowed = self.share * abs(before) + self.absolute
        # The last digit of a product of shares is nobody's regression: 0.02 * 50 is 1 + 2e-16.
        if size <= allowed * (1 + 1e-12):
            return 0.0
        return size / allowed if allowed else math.inf


@dataclass(frozen=True, slots=True)
class BoundRule(Rule):
    """What a reading must be, whatever it was: at most or at least factor * side."""

    comparison: Comparison
    factor: float
    side: str

    def bound(self, shape: Sequence[int]) -> float:
        """The number for a matrix of this shape."""
        return self.factor * SIDES[self.side](shape)

    def excess(self, value: float, shape: Sequence[int]) -> float:
        """By what factor a value is beyond the bound; 0 where it keeps it."""
        bound = self.bound(shape)
        low, high = (value, bound) if self.comparison == ">=" else (bound, value)
        if low >= high:
            return 0.0
        return high / low if low > 0 else math.inf


@dataclass(frozen=True, slots=True)
class StateRule(Rule):
    """Whether a state of a matrix is a failure: not measured, removed, ...; `any` allows it."""

    forbidden: bool


# Without any configuration. The rank counts what is above 1e-3 of the norm and is an integer, so
# that in small matrices a single direction is more than its share. Rounding to bfloat16 adds noise
# and so raises the effective rank of steep spectra (docs/ci.md says by how much); a drop is
# another matter. A norm that moves by a fifth is another scale. `numerical_rank` sees lost
# directions however weak they were, and is compared only where both were stored in one type.
DEFAULT_RULES = (
    "rank: drop <= 2% + 1",
    "numerical_rank: drop <= 2% + 1",
    "effective_rank: drop <= 5%",
    "spectral_norm: change <= 20%",
    "frobenius_norm: change <= 20%",
    "status: all measured",
    "removed: none",
    "renamed: none",
    "reshaped: none",
    "retyped: any",
    "added: any",
)


def parse_rule(text: str) -> Rule:
    """The rule that a text states.

    Raises:
        UsageError: it states none; which metrics there are is not looked at here.

    >>> parse_rule("rank: drop <= 2% + 1 for *.v_proj.weight").glob
    '*.v_proj.weight'
    """
    words, _, glob = text.partition(" for ")
    words, glob = words.strip(), glob.strip() or "*"
    found = _state(words, glob) or _change(words, glob) or _bound(words, glob)
    if found is None:
        raise UsageError(f"rule {text!r} is not understood, {HELP}")
    return found


def _state(words: str, glob: str) -> Rule | None:
    subject, colon, rest = (part.strip() for part in words.partition(":"))
    rest = " ".join(rest.split())
    if not colon:
        return None
    strict = "all measured" if subject == STATUS else "none"
    if rest == "any":
        return StateRule(words, subject, glob, forbidden=False)
    if rest == strict and (subject == STATUS or subject in STRUCTURE):
        return StateRule(words, subject, glob, forbidden=True)
    return None


def _change(words: str, glob: str) -> Rule | None:
    match = re.fullmatch(r"(\S.*?)\s*:\s*(drop|rise|change)\s*<=\s*(\S.*)", words)
    allowed = ALLOWED.fullmatch(match[3]) if match else None
    if match is None or allowed is None or match[1] in (STATUS, *STRUCTURE):
        return None
    share, _, plus, absolute = allowed.groups()
    if bool(plus) != (share is not None and absolute is not None):
        return None
    sizes = float(share or 0) / 100, float(absolute or 0)
    return ChangeRule(words, match[1], glob, cast("Direction", match[2]), *sizes)


def _bound(words: str, glob: str) -> Rule | None:
    match = re.fullmatch(r"(\S.*?)\s*(<=|>=)\s*(\S.*)", words)
    bound = BOUND.fullmatch(match[3]) if match else None
    if match is None or bound is None or ":" in match[1] or match[1] in (STATUS, *STRUCTURE):
        return None
    side = bound[2] or ""
    return BoundRule(words, match[1], glob, cast("Comparison", match[2]), float(bound[1]), side)


# What rounding raises: where the baseline was stored more coarsely, its fall is no loss. Only the
# default rule stands back; a user's own is taken at its word.
RAISED_BY_ROUNDING = "effective_rank"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of a check, later ones winning over earlier ones that say as much of a matrix.

    Attributes:
        given: what the user wrote, in order.
        defaults: what holds of a matrix and subject of which the user says nothing.
    """

    given: tuple[Rule, ...]
    defaults: tuple[Rule, ...]

    def rules_for(self, name: str, *, refined: bool = False) -> list[Rule]:
        """The rules that hold of one matrix, one per subject and kind of requirement.

        Args:
            name: the matrix.
            refined: whether it is stored more finely than it was.
        """
        own = [rule for rule in self.given if rule.concerns(name)]
        told = {rule.subject for rule in own}
        rules = [
            rule
            for rule in self.defaults
            if rule.subject not in told
            if not (refined and rule.subject.startswith(RAISED_BY_ROUNDING))
        ]
        kept: dict[tuple[str, str], Rule] = {}
        for rule in own:
            if isinstance(rule, StateRule) and not rule.forbidden:  # takes back what was said
                kept = {key: one for key, one in kept.items() if key[0] != rule.subject}
            kept[rule.subject, _requirement(rule)] = rule
        return [*rules, *kept.values()]

    def of_headers(self) -> RuleBook:
        """The rules that hold where nothing is measured."""
        given, defaults = (
            tuple(rule for rule in rules if not rule.on_reading)
            for rules in (self.given, self.defaults)
        )
        return RuleBook(given, defaults)


def metrics_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The metrics that bounds are on, as they are asked for, each once.

    Raises:
        UsageError: one is not understood.
    """
    bounds = (rule for rule in map(parse_rule, texts) if isinstance(rule, BoundRule))
    return tuple(dict.fromkeys(rule.subject.partition("@")[0] for rule in bounds))


def levels_in(texts: Iterable[str]) -> tuple[float, ...]:
    """The eps that rules name, as 0.05 in `rank@0.05 >= 10`, each once; what is none is no eps.

    Raises:
        UsageError: one is not understood.
    """
    levels = (level_of(parse_rule(text).subject) for text in texts)
    return tuple(dict.fromkeys(level for level in levels if level is not None))


def level_of(subject: str) -> float | None:
    """The eps in a rule's subject, or None."""
    try:
        return float(subject.partition("@")[2])
    except ValueError:
        return None


def refuse_readings(texts: Iterable[str]) -> None:
    """Refuse rules that headers cannot answer.

    Raises:
        UsageError: one is not understood, or is about what is measured.
    """
    for rule in map(parse_rule, texts):
        if rule.on_reading:
            raise UsageError(
                f"rule {rule.text!r} is on a reading, and headers hold none: "
                "check the weights too, or leave it out"
            )


def _requirement(rule: Rule) -> str:
    """Of two rules of a subject that agree in this, the later one holds."""
    if isinstance(rule, ChangeRule):
        return rule.direction
    return rule.comparison if isinstance(rule, BoundRule) else "state"


def rule_book(
    texts: Iterable[str],
    columns: Sequence[str],
    kept: Sequence[str] | None,
    *,
    spelt: Mapping[str, str] | None = None,
) -> RuleBook:
    """The rules that a user writes, beside the default ones for what there is to be read.

    Args:
        texts: one rule each.
        columns: the keys of the readings.
        kept: those that the baseline has too; None without one, when no change can be told. The
            default rules of a metric hold at every eps.
        spelt: the columns' keys by what else rules call them.

    Raises:
        UsageError: one is not understood, is about a reading that is not among the columns, or
            needs a baseline that is not there.
    """
    given = tuple(
        replace(rule, subject=(spelt or {}).get(rule.subject, rule.subject))
        for rule in map(parse_rule, texts)
    )
    defaults = tuple(map(parse_rule, DEFAULT_RULES))
    for rule in given:
        if kept is None and (isinstance(rule, ChangeRule) or rule.subject in STRUCTURE):
            raise UsageError(f"rule {rule.text!r} compares, and there is no --baseline")
        there = kept if isinstance(rule, ChangeRule) and kept is not None else columns
        if rule.subject not in (*there, STATUS, *STRUCTURE):
            near = difflib.get_close_matches(rule.subject, there, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
            where = "asked for" if kept is None else "in the baseline"
            raise UsageError(f"rule {rule.text!r}: {rule.subject} is not {where}; {hint}")
    if kept is None:
        return RuleBook(given, tuple(rule for rule in defaults if rule.subject == STATUS))
    states = tuple(rule for rule in defaults if isinstance(rule, StateRule))
    changes = tuple(
        replace(rule, subject=key)
        for rule in defaults
        for key in kept
        if isinstance(rule, ChangeRule) and key.partition("@")[0] == rule.subject
    )
    return RuleBook(given, (*changes, *states))
