"""Rows of a model, before and after, under rules: what there is to say of each matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from rankscope.dtypes import FLOATS
from rankscope.gate.baseline import rounded
from rankscope.gate.findings import Finding, beyond, moved, of_state, undefined
from rankscope.gate.rules import (
    STATUS,
    BoundRule,
    ChangeRule,
    Rule,
    RuleBook,
    StateRule,
)
from rankscope.matrices import VECTOR, tensor_of
from rankscope.pairing import Pairing, pair, stored_as
from rankscope.rows import Row

# What the model itself is to blame for. A process that was killed, or a disk that failed, leaves
# the check incomplete instead.
BROKEN = "nonfinite"

# Counts what stands above the rounding of the stored type: two types are two measures.
OF_ONE_TYPE = "numerical_rank"


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared.

    Attributes:
        before: the baseline's matrices by name; None without one.
        after: the model's rows by name.
        unread: tensors of the model that are no matrices to it, and why.
        weights: which of these are weight matrices nevertheless.
        vectors: names of vectors that the baseline has and the model has not.
        ties: further names of the model's tensors, as its files tell, and which each is of.
        former_ties: the same of the baseline's.
        readings: whether the rows hold readings, or headers only.
    """

    before: Mapping[str, Row] | None
    after: Mapping[str, Row]
    unread: Mapping[str, str]
    weights: Set[str]
    vectors: Sequence[str]
    ties: Mapping[str, str]
    former_ties: Mapping[str, str]
    readings: bool


def compare(sides: Sides, book: RuleBook) -> tuple[Finding, ...]:
    """Everything that the rules find: failures first, each group by how far it is beyond."""
    before, after = sides.before, sides.after
    pairing = None if before is None else pair(before, after, (sides.former_ties, sides.ties))
    found: list[Finding] = []
    for name, row in after.items():
        old = None if before is None else before.get(name)
        rules = book.rules_for(name, refined=old is not None and _finer(row, old))
        found += _of_matrix(name, old, row, rules, sides.readings)
    if before is not None and pairing is not None:
        found += _removed(pairing.removed, before, sides.unread, book)
        found += _other_names(pairing, before, after, book)
        for name, stored in _unlike(pairing.tied, before, sides):
            old, row = before[name], after[stored]
            rules = book.rules_for(name, refined=_finer(row, old))
            found += _of_matrix(name, old, row, rules, sides.readings)
        if pairing.common and not pairing.renamed:  # else vectors have other names, too
            found += _without_vectors(sides.vectors, pairing.tied, book)
    found += _unread(sides, book)
    return tuple(sorted(found, key=lambda one: (not one.failure, -one.excess)))


def _unlike(
    tied: Mapping[str, str], before: Mapping[str, Row], sides: Sides
) -> Iterator[tuple[str, str]]:
    """The matrices that a file tells to be another one, and that this one did not equal before.

    A file may tell anything: such a matrix is held against the one that it is said to be.
    """
    kept = {first: further for further, first in sides.former_ties.items()}
    for name, stored in tied.items():
        told = stored in (stored_as(name, sides.ties), stored_as(name, kept))
        if name not in before or not told:
            continue
        content = before[name]["content"]
        others = [rows[stored]["content"] for rows in (before, sides.after) if stored in rows]
        if content is None or content not in others:
            yield name, stored


def _finer(row: Row, old: Row) -> bool:
    """Whether a matrix is rounded less than it was; what is encoded is rounded most."""
    now, then = (
        FLOATS[one["dtype"]].unit_roundoff if one["dtype"] in FLOATS else 1.0 for one in (row, old)
    )
    return now < then


def _of_matrix(
    name: str, old: Row | None, row: Row, rules: Iterable[Rule], readings: bool
) -> Iterator[Finding]:
    """What is found of a matrix that is there."""
    states = {rule.subject: rule for rule in rules if isinstance(rule, StateRule)}
    was = None if old is None else old["status"]
    if row["status"] == BROKEN and states[STATUS].forbidden:
        reason = row["notes"]["status"]
        yield of_state(name, states[STATUS], was, row["status"], f"not measured: {reason}")
    shapes = None if old is None else ("x".join(map(str, one["shape"])) for one in (old, row))
    if old is not None and shapes is not None and old["shape"] != row["shape"]:
        sentence = "shape was {}, is {}".format(*shapes)
        yield of_state(name, states["reshaped"], old["shape"], row["shape"], sentence)
        old = None
    if old is not None and old["dtype"] != row["dtype"]:
        sentence = f"type was {old['dtype']}, is {row['dtype']}"
        yield of_state(name, states["retyped"], old["dtype"], row["dtype"], sentence)
    if readings and row["status"] == "ok":
        yield from _of_readings(name, old, row, rules)


def _of_readings(name: str, old: Row | None, row: Row, rules: Iterable[Rule]) -> Iterator[Finding]:
    for rule in rules:
        before = None if old is None else old.get(rule.subject)
        found: Finding | None = None
        if isinstance(rule, BoundRule):
            found = _kept(name, rule, row, before)
        elif isinstance(rule, ChangeRule) and before is not None and old is not None:
            retyped = old["dtype"] != row["dtype"] and rule.subject.startswith(OF_ONE_TYPE)
            found = None if retyped else _changed(name, rule, row, before)
        if found is not None:
            yield found


def _kept(name: str, rule: BoundRule, row: Row, before: float | None) -> Finding | None:
    if row[rule.subject] is None:
        return undefined(name, rule, before, row["notes"].get(rule.subject, ""))
    return beyond(name, rule, row, before)


def _changed(name: str, rule: ChangeRule, row: Row, before: float) -> Finding | None:
    after = rounded(row[rule.subject])
    if after is None:
        return undefined(name, rule, before, row["notes"].get(rule.subject, ""))
    return moved(name, rule, before, after)


def _state_rule(book: RuleBook, name: str, subject: str) -> StateRule:
    """The default rules hold one for each state, so that there is one."""
    rules = (rule for rule in book.rules_for(name) if isinstance(rule, StateRule))
    return next(rule for rule in rules if rule.subject == subject)


def _removed(
    names: Iterable[str], before: Mapping[str, Row], unread: Mapping[str, str], book: RuleBook
) -> Iterator[Finding]:
    """What is found of matrices that are gone, or are there in a form that is not measured."""
    for name in names:
        reason = unread.get(name) or unread.get(tensor_of(name))
        shape = before[name]["shape"]
        if reason is None:
            yield of_state(name, _state_rule(book, name, "removed"), shape, None, "removed")
        elif reason == VECTOR:
            rule, was = _state_rule(book, name, "reshaped"), "x".join(map(str, shape))
            yield of_state(name, rule, shape, None, f"shape was {was}, is a vector now")
        else:
            rule = _state_rule(book, name, STATUS)
            was = before[name]["status"]
            yield of_state(name, rule, was, "skipped", f"not measured: {reason}")


def _without_vectors(
    names: Iterable[str], tied: Iterable[str], book: RuleBook
) -> Iterator[Finding]:
    # A layer that shares another one's weights shares its bias, too: BERT's decoder.
    shared = {tensor_of(name).rpartition(".")[0] for name in tied}
    for name in names:
        if name.rpartition(".")[0] in shared:
            continue
        yield of_state(name, _state_rule(book, name, "removed"), VECTOR, None, "removed: a vector")


def _unread(sides: Sides, book: RuleBook) -> Iterator[Finding]:
    """What is found of weights that the baseline does not know either: nothing is left out."""
    known = set() if sides.before is None else {tensor_of(name) for name in sides.before}
    for name, reason in sides.unread.items():
        rule = _state_rule(book, name, STATUS)
        if name in sides.weights and name not in known and rule.forbidden:
            yield of_state(name, rule, None, "skipped", f"not measured: {reason}")


def _other_names(
    pairing: Pairing, before: Mapping[str, Row], after: Mapping[str, Row], book: RuleBook
) -> Iterator[Finding]:
    """What is found of matrices that changed their name, are new, or tied to another one."""
    for name, new in pairing.renamed.items():
        rule = _state_rule(book, name, "renamed")
        yield of_state(name, rule, name, new, f"renamed to {new}, content equal")
    for name in pairing.added:
        rule, shape = _state_rule(book, name, "added"), after[name]["shape"]
        yield of_state(name, rule, None, shape, "added: not in the baseline")
    for name, twin in pairing.tied.items():
        gone = name in before
        old, new_shape = (before[name]["shape"], None) if gone else (None, after[name]["shape"])
        sentence = f"{'no longer' if gone else 'now'} stored beside {twin}, which it is tied to"
        yield Finding(name, "tied", old, new_shape, "", False, 0.0, sentence)
