"""A model, a baseline or none, and rules -> a verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePath

from rankscope.errors import InputRejected
from rankscope.gate.baseline import METRICS, Baseline
from rankscope.gate.comparison import BROKEN, Sides, compare
from rankscope.gate.rules import (
    RuleBook,
    level_of,
    levels_in,
    metrics_in,
    parse_rule,
    refuse_readings,
    rule_book,
)
from rankscope.gate.verdict import Verdict
from rankscope.how import How
from rankscope.inventory import take_inventory
from rankscope.matrices import VECTOR, Selection, check_globs, tensor_of
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.pairing import pair, stored_as
from rankscope.places import place
from rankscope.provenance import made_now
from rankscope.question import Question
from rankscope.rolewords import stands_for
from rankscope.rows import Row
from rankscope.series import on_base, single
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.table import COMPLETE, Table
from rankscope.tabulation import tabulated

# What a model computes from its configuration when it is made. Some releases of transformers save
# the frequencies of rotary embeddings, others do not.
RECOMPUTED = re.compile(r"inv_freq$")


@dataclass(frozen=True, slots=True)
class Demand:
    """What is demanded of a model.

    Attributes:
        rules: as a user writes them, beside the default ones.
        baseline: what it was; None for rules on what it is alone.
        name: where the baseline lies.
        eps: thresholds where there is no baseline; one has its own.
        norm: what eps is relative to, likewise.
        selection: which matrices; None for the baseline's own, or all.
        base: the model that it is an adapter of, to be merged in.
    """

    rules: tuple[str, ...] = ()
    baseline: Baseline | None = None
    name: str | None = None
    eps: tuple[float, ...] = (DEFAULT_EPS,)
    norm: Norm = "frobenius"
    selection: Selection | None = None
    base: PurePath | None = None

    @property
    def question(self) -> Question:
        """What is to be read off the spectra: the baseline's columns, and those of bounds.

        Without a baseline at every eps that a rule names, too; one has its own.
        """
        bounds = metrics_in(self.rules)
        if self.baseline is None:
            levels = dict.fromkeys((*self.eps, *levels_in(self.rules)))
            return Question(bounds or METRICS[:1], tuple(levels), self.norm)
        asked = self.baseline.question
        return replace(asked, metrics=tuple(dict.fromkeys((*asked.metrics, *bounds))))

    @property
    def chosen(self) -> Selection:
        """Which matrices are compared."""
        own = self.baseline.selection if self.baseline is not None else Selection()
        return own if self.selection is None else self.selection

    def book(self) -> RuleBook:
        """The rules; `UsageError` where one makes no sense."""
        columns = [column.key for column in self.question.columns()]
        kept = None if self.baseline is None else self.baseline.columns
        return rule_book(self.rules, columns, kept, spelt=self._spelt())

    def _spelt(self) -> dict[str, str]:
        """The columns' keys by what rules call them: `rank` and `rank@1e-3` may be one column.

        A metric without its eps is meant at the only one that is settled.
        """
        asked = self.question
        settled = set(self.eps if self.baseline is None else asked.eps)
        only = settled.pop() if len(settled) == 1 else None
        found = {}
        for subject in (parse_rule(text).subject for text in self.rules):
            name, at, _ = subject.partition("@")
            eps = level_of(subject) if at else only
            for column in asked.columns():
                if column.metric.name == name and ("eps", eps) in column.parameters:
                    found[subject] = column.key
        return found


def measured(source: PurePath | str, demand: Demand, how: How) -> Table:
    """The table of one checkpoint, a file or a model's directory, that a verdict needs.

    Raises:
        InputRejected: it is not sound, or no single checkpoint.
        UsageError: the demand makes no sense.
    """
    demand.book()  # before any work
    series = on_base([single(source)], demand.base)
    return tabulated(series, demand.question, demand.chosen, replace(how, keyed=True))


def verdict_on(source: str, table: Table, demand: Demand) -> Verdict:
    """What is to be said of a model that is measured.

    Raises:
        UsageError: a rule that is not understood or about nothing.
    """
    return _verdict(demand, _measured(source, table))


def verdict_on_headers(
    source: PurePath | str, demand: Demand, asked: Sequence[str] = ()
) -> Verdict:
    """The same of names, shapes and types only; no weights are read.

    Rules on readings are left out, for a project may have settled them for the whole check.

    Args:
        source: the model.
        demand: what is demanded of it.
        asked: those of its rules that were given for this check: none may be on a reading.

    Raises:
        InputRejected: it is not sound, or no single checkpoint.
        UsageError: a rule that is not understood, about nothing, or asked for and on a reading.
    """
    demand.book()  # what is no rule at all is told first
    refuse_readings(asked)
    return _verdict(demand, _headers(place(source), demand), readings=False)


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of the model itself.

    Attributes:
        source: where it is.
        rows: its matrices by name.
        unread: what else is in it, and why it is no matrix.
        ties: further names of its tensors, and which each is of.
        lacking: what could not be measured, or is missing.
        partial: a part of it is missing that may hold tensors of any name.
        provenance: when and by what this was found.
    """

    source: str
    rows: Mapping[str, Row]
    unread: Mapping[str, str]
    weights: Set[str]
    vectors: Set[str]
    ties: Mapping[str, str]
    lacking: tuple[Row, ...]
    partial: bool
    provenance: Row

    @property
    def absent(self) -> set[str]:
        """The names of what is lacking, and of what it would be decoded to."""
        names = {str(row["name"]) for row in self.lacking}
        return names | set(map(stands_for, names))


def _measured(source: str, table: Table) -> _Model:
    """What a table says; of a matrix that is lacking, no fault of the model's is the reason."""
    lost = [row for row in table.matrices if row["status"] not in {*COMPLETE, BROKEN}]
    lacking = [{"name": row["name"], "reason": row["notes"]["status"]} for row in lost]
    told = [{key: row[key] for key in ("name", "reason")} for row in table.skipped]
    missing = [one for one, row in zip(told, table.skipped, strict=True) if row["missing"]]
    return _Model(
        source,
        {row["name"]: row for row in table.matrices},
        {one["name"]: one["reason"] for one in told},
        {row["name"] for row in table.skipped if row["what"] == "weight"},
        {row["name"] for row in table.skipped if row["what"] == "vector"},
        {row["name"]: row["same_as"] for row in table.skipped if row["same_as"]},
        (*lacking, *missing),
        any(row["unnamed"] for row in table.skipped),
        table.provenance,
    )


def _headers(source: PurePath, demand: Demand) -> _Model:
    """Rows without readings, from headers alone."""
    nothing = SpectrumStore(None, ROUTE_VERSION)
    series = on_base([single(source)], demand.base)
    (entry,) = take_inventory(series, demand.chosen, [nothing]).entries
    rows: dict[str, Row] = {
        spec.name: {
            "name": spec.name,
            "shape": list(spec.shape),
            "dtype": spec.encoding or spec.dtype,
            "kind": spec.kind,
            "status": "empty" if 0 in spec.shape else "ok",
            "content": None,
            "notes": {},
        }
        for spec in entry.specs
    }
    return _Model(
        str(source),
        rows,
        {one.name: one.reason for one in entry.skipped},
        {one.name for one in entry.skipped if one.what == "weight"},
        {one.name for one in entry.skipped if one.what == "vector"},
        {one.name: one.same_as for one in entry.skipped if one.same_as},
        tuple({"name": one.name, "reason": one.reason} for one in entry.listing.missing),
        any(one.unnamed for one in entry.listing.missing),
        made_now(),
    )


def _verdict(demand: Demand, model: _Model, *, readings: bool = True) -> Verdict:
    whole = demand.book()
    book = whole if readings else whole.of_headers()
    before = None
    if demand.baseline is not None:
        before = _selected(demand.baseline, demand.chosen, model)
    wanted = {name for name in model.weights if demand.chosen.why_not(name) is None}
    names = tuple(dict.fromkeys((*model.rows, *(before or ()), *sorted(wanted))))
    if not names and not model.lacking:
        raise InputRejected(model.source, "holds no weight matrix to be checked")
    check_globs([rule.glob for rule in book.given], (*names, *_expected(demand)), "rule for")
    findings = compare(
        Sides(
            before,
            model.rows,
            model.unread,
            wanted,
            _gone(demand, model),
            model.ties,
            {} if demand.baseline is None else demand.baseline.ties,
            readings,
        ),
        book,
    )
    pairs = ((row, (before or {}).get(name, {})) for name, row in model.rows.items())
    return Verdict(
        model.source,
        demand.name,
        findings,
        names,
        sum(
            row["content"] is not None and row["content"] == old.get("content")
            for row, old in pairs
        ),
        model.lacking,
        tuple(dict.fromkeys(rule.text for rule in (*book.given, *book.defaults))),
        model.provenance,
        readings,
        options=_options(demand),
        left_out=tuple(rule.text for rule in whole.given if rule not in book.given),
    )


def _gone(demand: Demand, model: _Model) -> tuple[str, ...]:
    """The baseline's vectors that the model has not got in any form, and that are asked for."""
    if demand.baseline is None or model.partial:
        return ()
    there = {tensor_of(name) for name in model.rows} | model.vectors | model.absent
    there |= {name for name, reason in model.unread.items() if reason != VECTOR}
    ties = demand.baseline.ties.items()
    there |= {first for further, first in ties if further in there}
    return tuple(
        name
        for name in demand.baseline.vectors or ()
        if name not in there
        if demand.chosen.why_not(name) is None and not RECOMPUTED.search(name)
    )


def _options(demand: Demand) -> tuple[str, ...]:
    """What a command must say to measure the same again."""
    words = [] if demand.base is None else ["--base", str(demand.base)]
    if demand.selection is not None:
        words += [word for glob in demand.selection.include for word in ("--include", glob)]
        words += [word for glob in demand.selection.exclude for word in ("--exclude", glob)]
    return tuple(words)


def _expected(demand: Demand) -> list[str]:
    """What should be there, and is no mistake of a rule's where it is not."""
    if demand.baseline is None:
        return []
    expected = (*demand.baseline.matrices, *(demand.baseline.vectors or ()))
    return [name for name in expected if demand.chosen.why_not(name) is None]


def _selected(baseline: Baseline, selection: Selection, model: _Model) -> dict[str, Row]:
    """The baseline's matrices that are asked for and whose absence is not accounted for."""
    lacking = model.absent
    asked = {
        name: row
        for name, row in baseline.matrices.items()
        if selection.why_not(name) is None
        # One that is there and could not be read is neither gone nor new.
        and (name in model.rows or lacking.isdisjoint({name, tensor_of(name)}))
        # Of what is left out, neither is a further name asked for.
        and (name in model.rows or selection.why_not(stored_as(name, model.ties) or name) is None)
    }
    if not model.partial:
        return asked
    # Whatever is gone may be in the part that is missing.
    gone = pair(asked, model.rows, ({}, model.ties)).removed
    unknown = {name for name in gone if model.unread.keys().isdisjoint({name, tensor_of(name)})}
    return {name: row for name, row in asked.items() if name not in unknown}
