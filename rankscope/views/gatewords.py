"""A check's verdict in words, for every format."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from rankscope.gate.findings import Finding, brief
from rankscope.gate.verdict import Verdict
from rankscope.layerkinds import by_layer_kind, role_keys
from rankscope.rows import Row
from rankscope.text import inert
from rankscope.views.cilog import short
from rankscope.views.numbers import counted, number

NOTHING = "-"


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    every = verdict.matrices
    total = counted(len(every))
    if verdict.outcome == "fail":
        return f"fails: {', '.join([*_broken(verdict), *_lacking(verdict)])}"
    if verdict.outcome == "incomplete":
        rest = len(set(every) - _unread(verdict))
        checked = f"{counted(rest)} that {'was' if rest == 1 else 'were'} checked"
        return f"incomplete: {', '.join(_lacking(verdict))}; no rule is broken by the {checked}"
    if not verdict.readings:
        return f"passes: {total}, by their headers alone"
    same = verdict.unchanged
    unchanged = "all unchanged" if same == len(every) else f"{same} unchanged"
    return f"passes: {total}{f', {unchanged}' if same else ''}"


def _broken(verdict: Verdict) -> list[str]:
    """How many matrices break a rule, and how many vectors do, which have no readings."""
    total = counted(len(verdict.matrices))
    broken = len(verdict.broken.intersection(verdict.matrices))
    vectors = len(verdict.broken) - broken
    gone = ["1 vector is gone" if vectors == 1 else f"{vectors} vectors are gone"]
    if not broken:
        return [*gone, f"no rule is broken by {total}"]
    verb = "breaks" if broken == 1 else "break"
    return [f"{broken} of {total} {verb} a rule", *(gone if vectors else [])]


def _lacking(verdict: Verdict) -> list[str]:
    """What is lacking: matrices, and what is known by its name alone and may be a vector."""
    names = {row["name"] for row in verdict.lacking}
    matrices = len(names.intersection(verdict.names))
    others = len(names) - matrices
    lost = [f"{counted(matrices)} could not be measured"] if matrices else []
    if not others:
        return lost
    are = "tensor or file is" if others == 1 else "tensors or files are"
    return [*lost, f"{others} {are} missing"]


def _unread(verdict: Verdict) -> set[str]:
    """The matrices that no rule on what they are was held against."""
    gone = {one.name for one in verdict.findings if one.metric in ("removed", "status")}
    return gone | {row["name"] for row in verdict.lacking}


def left_out(verdict: Verdict) -> str | None:
    """How many rules were not looked at, for headers do not answer them."""
    if not verdict.left_out:
        return None
    one = len(verdict.left_out) == 1
    rules = "1 rule on readings was" if one else f"{len(verdict.left_out)} rules on readings were"
    return f"{rules} not looked at: no weights were read"


def subject(verdict: Verdict) -> str:
    """What was checked against what."""
    source = inert(verdict.source)
    return source if verdict.baseline is None else f"{source} against {inert(verdict.baseline)}"


def next_step(verdict: Verdict) -> str | None:
    """How to make the model the new baseline, where there is something new about it."""
    if verdict.baseline is None or not verdict.findings or verdict.accepted:
        return None
    failures = verdict.failures
    apart = {one.name for one in verdict.findings if one.metric in ("removed", "added")}
    if apart.issuperset(verdict.names):
        return "no name is in both: another model, or one in a format that gives other names?"
    if verdict.lacking or any(one.metric == "status" for one in failures):
        return None  # of what cannot be measured no baseline is made
    if failures and all(map(of_itself, failures)):
        return None  # it would be broken as before
    words = (verdict.source, "--baseline", verdict.baseline, *verdict.options, "--update")
    command = " ".join(shlex.quote(inert(word)) for word in words)
    return f"to accept the new state: rankscope check {command}"


def of_itself(finding: Finding) -> bool:
    """Whether the rule is on the reading itself, whatever it was: `rank >= 8` has no colon."""
    return ":" not in finding.rule


def told(finding: Finding) -> str:
    """A finding, its rule included, without the name."""
    rule = f" (rule: {inert(finding.rule)})" if finding.rule and finding.failure else ""
    return short(finding.sentence) + rule


def by_matrix(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by the matrix that they are of, in the order of each one's first."""
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        groups.setdefault(one.name, []).append(one)
    return groups


def by_kind(failures: Sequence[Finding]) -> list[str]:
    """What broke in which layers, a line for each kind of layer that a name tells.

    Of a metric the largest change is told: `value projections, layers 3, 17: rank -33.3%`.
    """
    rows: list[Row] = [{"name": one.name, "finding": one} for one in failures]
    lines = []
    for label, group in by_layer_kind(rows).items():
        if role_keys(group[0]["name"], "linear")["role"] is not None:
            found: dict[str, list[Finding]] = {}
            for row in group:
                found.setdefault(row["finding"].metric, []).append(row["finding"])
            worst = [max(of_one, key=lambda one: one.excess) for of_one in found.values()]
            told = (
                f"{inert(one.metric)} {change(one)}".removesuffix(f" {NOTHING}") for one in worst
            )
            lines.append(f"{short(label)}: {', '.join(told)}")
    return lines


def summed_up(notes: Sequence[Finding]) -> list[str]:
    """A line for each kind of note: what happened, to how many, and to which one first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in notes:
        # What happened to a type is worth a line of its own; shapes and names are all different.
        way = f"{state(one.before)} -> {state(one.after)}" if one.metric == "retyped" else ""
        groups.setdefault((one.metric, way), []).append(one)
    lines = []
    for (metric, way), group in groups.items():
        names = [short(one.name) for one in group]
        if len(group) == 1:
            lines.append(f"{names[0]}: {told(group[0])}")
            continue
        which = f", {way}" if way else f": {names[0]} and {len(names) - 1} more"
        lines.append(f"{inert(metric)}: {counted(len(group))}{which}")
    return lines


def state(value: object) -> str:
    """What something was or is: a reading, a shape, a type, a status."""
    if value is None or isinstance(value, int | float):
        return number(value)
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return short(str(value), 40)


def pair(before: object, after: object) -> tuple[str, str]:
    """The same of two, in as many digits as tell them apart."""
    if isinstance(before, float) and isinstance(after, float) and number(before) == number(after):
        return brief(before), brief(after)
    return state(before), state(after)


def change(finding: Finding) -> str:
    """By which share of what it was a reading has changed."""
    before, after = finding.before, finding.after
    if not (isinstance(before, int | float) and isinstance(after, int | float)) or not before:
        return NOTHING
    if of_itself(finding):  # how it compares is not what is wrong with it
        return NOTHING
    return f"{100 * (after / before - 1):+.1f}%"
