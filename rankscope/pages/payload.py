"""A scene as the document that a page holds; see the package's docstring."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.pages.colours import themes
from rankscope.pages.packing import MOST_EXACT, pack
from rankscope.pages.section import Section, Subject
from rankscope.rows import Row
from rankscope.scene import Curve, DiffScene, Scene, spread
from rankscope.table import COMPLETE
from rankscope.text import printable
from rankscope.views import analysis, difference
from rankscope.views.remarks import left_out
from rankscope.views.report import Report

SCHEMA = "rankscope/page/1"

# Singular values in one page: in float32, some 5 MB. Of a run that has more, fewer snapshots are
# drawn.
MOST_VALUES = 1_500_000
LEAST_SNAPSHOTS = 2  # the first and the last


def document(subject: Subject, sections: Sequence[Section]) -> Row:
    """Everything that the page's scripts know; plain JSON values, foreign text printable."""
    if isinstance(subject, Scene):
        subject = lighter(subject)
    measured = subject.table if isinstance(subject, Scene) else subject.difference
    parts = {one.name: found for one in sections if (found := one.payload(subject)) is not None}
    told = {
        "schema": SCHEMA,
        "kind": subject.kind if isinstance(subject, Scene) else "diff",
        "title": _report(subject).title,
        "eps": measured.provenance["eps"],
        "norm": measured.provenance["norm"],
        "command": command(measured.provenance["command"]),
        "provenance": measured.provenance,
        "skipped": _left_out(subject),
        "palette": themes(),
        "parts": parts,
    }
    return {**shown(told), "spectra": _packs(subject)}


def lighter(scene: Scene) -> Scene:
    """The same, with the spectra of so many snapshots of a run as a page has room for."""
    count = sum(min(one.spectrum.shape) for one in scene.curves)
    if scene.kind != "run" or count <= MOST_VALUES:
        return scene
    steps = list(dict.fromkeys(one.step for one in scene.curves))
    kept = spread(steps, max(LEAST_SNAPSHOTS, MOST_VALUES * len(steps) // count))
    return replace(scene, curves=tuple(one for one in scene.curves if one.step in kept))


def lacking(subject: Subject) -> list[str]:
    """A line for each thing that should have been measured and was not."""
    return [one.text for one in _report(subject).remarks(True) if one.lacking]


def _report(subject: Subject) -> Report:
    if isinstance(subject, DiffScene):
        return difference.report(subject.difference)
    return analysis.report(subject.table)


def _left_out(subject: Subject) -> list[Row]:
    """What was not measured: name, reason, source, and whether it should have been."""
    if isinstance(subject, Scene):
        return [*_skipped(subject.table.skipped), *_unmeasured(subject.table.matrices)]
    skipped = _skipped(subject.difference.skipped)
    told = {one.text for one in left_out(subject.difference.skipped, everything=True)}
    return [
        *skipped,
        *(
            {"name": line, "reason": "", "source": "", "lacking": True}
            for line in lacking(subject)
            if line not in told
        ),
    ]


def _skipped(rows: Sequence[Row]) -> list[Row]:
    return [
        {
            "name": row["name"],
            "reason": row["reason"],
            "source": row["source"],
            "lacking": row["missing"],
        }
        for row in rows
    ]


def _unmeasured(rows: Sequence[Row]) -> list[Row]:
    """Matrices without a spectrum, once a source and reason."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row["status"] != "ok":
            reason = row["notes"].get("status", row["status"].replace("_", " "))
            key = (row["source"], row["name"], reason)
            found[key] = {
                "name": row["name"],
                "reason": reason,
                "source": row["source"],
                "lacking": row["status"] not in COMPLETE,
            }
    return list(found.values())


def _packs(subject: Subject) -> Row:
    """The spectra by the name of their pack; all exact, or none."""
    packs: Mapping[str, Sequence[Curve]] = (
        {"curves": subject.curves}
        if isinstance(subject, Scene)
        else {"before": subject.before, "after": subject.after, "moved": subject.moved}
    )
    count = sum(min(one.spectrum.shape) for curves in packs.values() for one in curves)
    return {name: pack(curves, exact=count <= MOST_EXACT) for name, curves in packs.items()}


def shown(value: Any) -> Any:
    """The same JSON value, every string in it `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(key): shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    return value


def command(arguments: Sequence[str]) -> str:
    """What was typed, as a shell reads it; the program without its folder."""
    return shlex.join([Path(arguments[0]).name, *arguments[1:]]) if arguments else ""
