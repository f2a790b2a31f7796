"""Annotations of a GitHub Actions run: workflow commands on stdout, beside plain text for the log.

GitHub shows ten errors, ten warnings and ten notices of a step, the first ones, and cuts messages
at 4096 characters (`problem-matchers.md` of actions/toolkit; the runner since 2.305).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankscope.gate.verdict import Refusal, Verdict
from rankscope.text import shortened
from rankscope.views.cilog import short
from rankscope.views.gatewords import (
    by_matrix,
    headline,
    left_out,
    next_step,
    subject,
    summed_up,
    told,
)

ANNOTATIONS = 10  # of a kind, a step
MESSAGE = 4000  # characters, a little below the limit
TITLE = 200  # of 255 that the API of checks takes


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation: a title and lines, both inert."""

    title: str
    lines: Sequence[str]


def render(verdict: Verdict) -> str:
    """The verdict in a line, the annotations, worst first, every failure as plain text."""
    errors = [
        Annotation(short(name, TITLE), [told(one) for one in found])
        for name, found in by_matrix(verdict.failures).items()
    ]
    warnings = [
        Annotation(short(row["name"], TITLE), [f"not measured: {short(row['reason'])}"])
        for row in verdict.lacking
    ]
    notices = [Annotation("RankScope", [line]) for line in summed_up(verdict.notes)]
    passed_over = left_out(verdict)
    lines = [
        f"{subject(verdict)}: {headline(verdict)}",
        *([passed_over] if passed_over else []),
        *_commands("error", errors),
        *_commands("warning", warnings),
        *_commands("notice", notices),
    ]
    if errors:
        # What has no annotation of its own is to be found somewhere.
        lines += ["::group::every broken rule", *_plain(errors), "::endgroup::"]
    step = next_step(verdict)
    return "\n".join([*lines, *([step] if step else [])]) + "\n"


def render_refusal(refusal: Refusal) -> str:
    """One annotation: no check was made, and why."""
    error = Annotation(short(refusal.source, TITLE), [short(refusal.reason, MESSAGE)])
    return "\n".join(_commands("error", [error])) + "\n"


def _commands(kind: str, annotations: Sequence[Annotation]) -> list[str]:
    """One line each; of too many the first, and what is left in the last one."""
    shown = list(annotations)
    if len(shown) > ANNOTATIONS:
        rest = shown[ANNOTATIONS - 1 :]
        shown = shown[: ANNOTATIONS - 1]
        shown.append(Annotation(f"{len(rest)} more, see the log", [one.title for one in rest]))
    return [f"::{kind} title={_property(one.title)}::{_data(_cut(one.lines))}" for one in shown]


def _cut(lines: Sequence[str]) -> str:
    """As many lines as a message may have; what follows is counted."""
    text = "\n".join(lines)
    if len(text) <= MESSAGE:
        return text
    room, kept = MESSAGE - len("and 1000000 more"), 0
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    return "\n".join([*lines[:kept], f"and {len(lines) - kept} more"])


def _plain(annotations: Sequence[Annotation]) -> list[str]:
    return [f"{one.title}: {line}" for one in annotations for line in one.lines]


def _data(text: str) -> str:
    """A message as a command carries it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a command, which a colon or comma would end."""
    return _data(shortened(text, TITLE)).replace(":", "%3A").replace(",", "%2C")
