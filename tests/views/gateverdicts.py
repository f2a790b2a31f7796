"""Verdicts made up for the tests of their formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rankscope.gate.findings import Finding
from rankscope.gate.verdict import Verdict
from tests.views.test_views import HOSTILE as NAMES

# What a CI system would obey, XML would stumble over, or a URI would mean something by.
HOSTILE = {
    **NAMES,
    "cdata end": "w]]>x",
    "entity": "&lt;!ENTITY x&gt;",
    "old command": "w##[add-mask]x",
    "older command": "w###[error]x",
    "azure": "##vso[task.complete result=Failed]",
    "teamcity": "##teamcity[buildStatus status='FAILURE']",
    "command in a line": "w ::set-env name=PATH::x",
    "command in a new line": "w\n::set-env name=PATH::x",
    "command after a wrap": "w" * 70 + " " + "::error::" * 30,
    "colons": "w:::error:::x",
    "percent": "w%0A::error::x%25",
    "property": "w,file=/etc/passwd",
    "not a character": "w\ufffe\uffff",
    "very long": "layer." * 2_000,
}


def finding(name: str = "w", metric: str = "rank", **parts: Any) -> Finding:
    """A failure of a rank that fell from 8 to 4."""
    sentence = f"{metric} fell from 8 to 4 (-50%)"
    made: dict[str, Any] = {"before": 8, "after": 4, "rule": f"{metric}: drop <= 2%"}
    made |= {"failure": True, "excess": 25.0, "sentence": sentence}
    return Finding(name, metric, **(made | parts))


def note(name: str = "w", metric: str = "retyped", **parts: Any) -> Finding:
    """A type that changed, which no rule forbids."""
    made: dict[str, Any] = {"before": "float32", "after": "bfloat16", "rule": "retyped: any"}
    made |= {"failure": False, "excess": 0.0, "sentence": "type was float32, is bfloat16"}
    return Finding(name, metric, **(made | parts))


def nonfinite(name: str) -> Finding:
    """A matrix that holds NaN."""
    return finding(
        name,
        "status",
        before="ok",
        after="nonfinite",
        rule="status: all measured",
        excess=math.inf,
        sentence="not measured: holds NaN",
    )


def verdict(*findings: Finding, **parts: Any) -> Verdict:
    """A verdict with these findings, about the matrices that they are of unless told otherwise."""
    names: Sequence[str] = tuple(dict.fromkeys(one.name for one in findings))
    made: dict[str, Any] = {
        "source": "model.safetensors",
        "baseline": "ranks.json",
        "findings": findings,
        "names": names,
        "unchanged": 0,
        "lacking": (),
        "rules": ("rank: drop <= 2%",),
        "provenance": {"rankscope": "0"},
    }
    return Verdict(**(made | parts))


def hostile(text: str) -> Verdict:
    """A verdict whose every text is this one."""
    return verdict(
        finding(text, text, rule=text, sentence=text),
        finding(text, "renamed", before=text, after=text, sentence=f"renamed to {text}"),
        note(text, "retyped", before=text, after=text, sentence=text),
        note("b", text, sentence=text),
        source=text,
        baseline=text,
        lacking=({"name": text, "reason": text}, {"name": f"{text}.b", "reason": text}),
    )
