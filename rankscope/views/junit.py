"""JUnit XML: a test case for each matrix, as Jenkins, GitLab and others read it.

Jenkins' xUnit plugin publishes a schema of it (junit-10.xsd). GitLab shows a case's `classname` as
its suite and takes cases of one classname and name for one, so that each has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from rankscope.gate.findings import Finding
from rankscope.gate.verdict import Refusal, Verdict
from rankscope.rows import Row
from rankscope.text import inert
from rankscope.views.cilog import short
from rankscope.views.gatewords import by_matrix, headline, left_out, next_step, subject, told

SUITE = "rankscope"

REASON = 1000  # characters of why no check was made, which names a path beside what is told

MODEL = "the model"  # the case where there is no matrix to name


def render(verdict: Verdict) -> str:
    """The verdict as one suite; broken rules are failures, what could not be measured errors."""
    lines = (f"{subject(verdict)}: {headline(verdict)}", left_out(verdict), next_step(verdict))
    return _document(_cases(verdict), [line for line in lines if line])


def render_refusal(refusal: Refusal) -> str:
    """A suite of one case, an error, which tells why no check was made."""
    case = ET.Element("testcase", {"classname": _class_name(refusal.source), "name": MODEL})
    reason = short(refusal.reason, REASON)
    ET.SubElement(case, "error", {"type": "rejected", "message": reason}).text = reason
    return _document([case], [reason])


def _document(cases: Sequence[ET.Element], lines: Sequence[str]) -> str:
    """One suite with these cases, and what it says beside them."""
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
    }
    written = {key: str(count) for key, count in counts.items()}
    suite = ET.Element("testsuite", {"name": SUITE, **written, "skipped": "0"})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = "\n".join(lines)
    whole = ET.Element("testsuites", {"name": SUITE, **written})
    whole.append(suite)
    ET.indent(whole)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(whole, encoding="unicode")}\n'


def _cases(verdict: Verdict) -> list[ET.Element]:
    """The cases, in the order of the model; at least one, for that none ran is an error to CI."""
    failures, notes = by_matrix(verdict.failures), by_matrix(verdict.notes)
    lacking: dict[str, Row] = {row["name"]: row for row in verdict.lacking}
    every = dict.fromkeys((*verdict.names, *failures, *notes, *lacking))
    names = _apart(every) or {"model": MODEL}
    suite = _class_name(verdict.source)
    return [
        _case(
            {"classname": suite, "name": shown},
            failures.get(name, ()),
            lacking.get(name),
            notes.get(name, ()),
        )
        for name, shown in names.items()
    ]


def _case(
    attributes: dict[str, str],
    failures: Sequence[Finding],
    lacking: Row | None,
    notes: Sequence[Finding],
) -> ET.Element:
    case = ET.Element("testcase", attributes)
    if failures:
        # One element of a kind: GitLab reads the first only.
        kinds = {"type": inert(failures[0].metric), "message": told(failures[0])}
        ET.SubElement(case, "failure", kinds).text = "\n".join(map(told, failures))
    elif lacking is not None:
        reason = short(lacking["reason"])
        ET.SubElement(case, "error", {"type": "incomplete", "message": reason}).text = reason
    if notes:
        ET.SubElement(case, "system-out").text = "\n".join(map(told, notes))
    return case


def _class_name(source: str) -> str:
    """A suite for each model; Jenkins takes what stands before the last dot for a package."""
    return f"{SUITE}.{short(source).replace('.', '_')}"


def _apart(names: Iterable[str]) -> dict[str, str]:
    """What each name is shown as; two that would look the same are numbered."""
    shown: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        text = base = short(name)
        count = 1
        while text in taken:
            count += 1
            text = f"{base} ({count})"
        taken.add(text)
        shown[name] = text
    return shown
