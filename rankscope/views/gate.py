"""A check as the views see it: the failures, worst first, and what there is to know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.gate.findings import Finding
from rankscope.gate.rules import STATUS
from rankscope.gate.verdict import Verdict
from rankscope.text import inert
from rankscope.views.cilog import short
from rankscope.views.gatewords import (
    NOTHING,
    by_kind,
    change,
    headline,
    left_out,
    next_step,
    pair,
    state,
    subject,
    summed_up,
    told,
)
from rankscope.views.grid import Grid
from rankscope.views.report import Remark, Report

MANY_FAILURES = 20  # shown, the worst ones, unless everything is asked for
MANY_REASONS = 10  # what is lacking, and reasons that fit no cell

ON_REQUEST = "--all shows every one"

END = ".weight"  # of most names; the other tensors of a layer are vectors

KEYS = ("name", "metric", "before", "after", "rule", "failure", "excess", "sentence")


def report(verdict: Verdict, *, narrow: bool = False, where: str = ON_REQUEST) -> Report:
    """The verdict in a sentence, a row for each failure, notes summed up, what is lacking.

    Args:
        verdict: of a check.
        narrow: for a terminal, where names find little room: what they share is told once,
            above them, unless everything is asked for.
        where: how to get at what is left out, in words.
    """
    return Report(
        title=verdict.source,
        grids=lambda everything: _grids(
            verdict, everything=everything, narrow=narrow and not everything, where=where
        ),
        remarks=lambda everything: _remarks(verdict, everything=everything, where=where),
        document=verdict.to_document,
        rows=lambda: _rows(verdict),
        part="findings",
    )


def _rows(verdict: Verdict) -> tuple[Sequence[str], Iterator[list[Any]]]:
    """A row a finding, then one for all that is lacking, of which no finding tells."""
    found = [one.to_row() for one in verdict.findings]
    found += [
        {"name": row["name"], "metric": STATUS, "failure": False, "sentence": row["reason"]}
        for row in verdict.lacking
    ]
    return KEYS, ([_flat(row.get(key)) for key in KEYS] for row in found)


def _flat(value: Any) -> Any:
    """What fits into one cell: a shape as text."""
    return state(value) if isinstance(value, list | tuple) else value


def _grids(verdict: Verdict, *, everything: bool, narrow: bool, where: str) -> list[Grid]:
    failures = verdict.failures
    if not failures:
        return []
    shown = failures if everything else failures[:MANY_FAILURES]
    names = [inert(one.name) if everything else short(one.name) for one in shown]
    frame = shared(names) if narrow else ("", "")
    title = subject(verdict)
    if any(frame):
        title += f", matrices {frame[0]}*{frame[1]}"
    if len(shown) < len(failures):
        title += f": the {len(shown)} worst of {len(failures)} findings ({where})"
    return [
        Grid(
            title,
            ("matrix", "metric", "before", "after", "rule", "change"),
            tuple(
                (name.removeprefix(frame[0]).removesuffix(frame[1]), *_cells(one))
                for name, one in zip(names, shown, strict=True)
            ),
            labels=1,
            optional=1,
            metrics=False,
        )
    ]


def shared(names: Sequence[str]) -> tuple[str, str]:
    """What all names begin and end with and need not tell; the numbers of layers stay.

    >>> shared(["model.layers.7.mlp.up_proj.weight", "model.layers.7.mlp.down_proj.weight"])
    ('model.layers.', '.weight')
    """
    end = END if all(name.endswith(END) and name != END for name in names) else ""
    rows = [name.removesuffix(end).split(".")[:-1] for name in names]
    start: list[str] = []
    for words in zip(*rows, strict=False):
        if len(set(words)) > 1 or not words[0] or any(map(str.isdigit, words[0])):
            break
        start.append(f"{words[0]}.")
    return "".join(start), end


def _cells(finding: Finding) -> tuple[str, ...]:
    """What stands behind the name."""
    if finding.metric == "renamed":  # no column has room for two names
        before = after = NOTHING
    else:
        before, after = pair(finding.before, finding.after)
    # The column before names the metric already.
    rule = finding.rule.removeprefix(f"{finding.metric}:").strip()
    return inert(finding.metric), before, after, inert(rule), change(finding)


def _remarks(verdict: Verdict, *, everything: bool, where: str) -> list[Remark]:
    def shown(lines: Sequence[str], what: str) -> list[Remark]:
        return _shown(lines, f"{what} ({where})", everything=everything)

    place = "" if verdict.failures else f"{subject(verdict)}: "
    bad = verdict.outcome == "incomplete"
    lines = [Remark(place + headline(verdict), strong=not bad, lacking=bad)]
    passed_over = left_out(verdict)
    lines += [Remark(passed_over)] if passed_over else []
    lines += shown(by_kind(verdict.failures), "kinds of layers")
    # What became of a reading is in its row; why there is none, or what the new name is, is not.
    reasons = [
        f"{short(one.name)}: {told(one)}"
        for one in verdict.failures
        if one.metric == "renamed"
        or (one.after is None and one.metric != "removed")
        or one.metric == "status"
    ]
    lines += shown(reasons, "such reasons")
    lacking = [
        f"incomplete: {short(row['name'])}: {short(row['reason'])}" for row in verdict.lacking
    ]
    lines += [
        Remark(one.text, lacking=True) for one in shown(lacking, "that could not be measured")
    ]
    notes = [f"{inert(one.name)}: {told(one)}" for one in verdict.notes]
    lines += map(Remark, notes if everything else summed_up(verdict.notes))
    step = next_step(verdict)
    return [*lines, Remark(step)] if step else lines


def _shown(lines: Sequence[str], what: str, *, everything: bool) -> list[Remark]:
    shown = lines if everything else lines[:MANY_REASONS]
    found = [Remark(line) for line in shown]
    if len(shown) < len(lines):
        found.append(Remark(f"{len(lines) - len(shown)} more {what}"))
    return found
