"""SARIF 2.1.0 (OASIS, 2020): what code scanning services read; a rule for each metric."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rankscope.gate.verdict import Verdict
from rankscope.rows import Row
from rankscope.text import inert
from rankscope.version import __version__
from rankscope.views.cilog import short
from rankscope.views.gatewords import headline, told

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

INCOMPLETE = "incomplete"  # the rule of what could not be measured

# What the rules other than those on a metric say.
STATES = {
    "status": "Every matrix can be measured.",
    "removed": "No matrix of the baseline is gone.",
    "renamed": "Every matrix has the name that it had.",
    "added": "Which matrices are not in the baseline.",
    "tied": "Which matrices share the weights of another one.",
    "reshaped": "Every matrix has the shape that it had.",
    "retyped": "In which type the weights are stored.",
    INCOMPLETE: "Everything that should be there can be read.",
}


def render(verdict: Verdict) -> str:
    """One run, a result for each finding and for all that is lacking."""
    found = [
        (one.metric, "error" if one.failure else "note", one.name, told(one))
        for one in verdict.findings
    ]
    found += [(INCOMPLETE, "warning", row["name"], short(row["reason"])) for row in verdict.lacking]
    rules = list(dict.fromkeys(rule for rule, *_ in found))
    driver = {
        "name": "RankScope",
        "semanticVersion": __version__,
        "rules": [{"id": inert(rule), "shortDescription": {"text": _says(rule)}} for rule in rules],
    }
    uri = _uri(verdict.source)
    run: Row = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not verdict.lacking}],
        "properties": {
            "verdict": verdict.outcome,
            "headline": headline(verdict),
            "left_out": [inert(rule) for rule in verdict.left_out],
        },
        "results": [
            _result(rules.index(rule), rule, level, name, text, uri)
            for rule, level, name, text in found
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _result(index: int, rule: str, level: str, name: str, text: str, uri: str) -> dict[str, Any]:
    where = f"{rule}\0{name}".encode("utf-8", "surrogatepass")
    return {
        "ruleId": inert(rule),
        "ruleIndex": index,
        "level": level,
        "message": {"text": f"{short(name)}: {text}"},
        "locations": [
            {
                # Services that show a place in a file ask for a line; weights have none.
                "physicalLocation": {
                    "artifactLocation": {"uri": uri},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"fullyQualifiedName": inert(name)}],
            }
        ],
        # The same finding of the next release is the same alert.
        "partialFingerprints": {"matrixAndRule/v1": hashlib.sha256(where).hexdigest()},
    }


def _says(rule: str) -> str:
    return STATES.get(rule, f"The {inert(rule)} of a matrix keeps what is asked of it.")


def _uri(source: str) -> str:
    """A path as a URI reference, relative ones to where the check ran."""
    path = Path(source)
    text = quote(os.fsencode(path.as_posix()))
    return f"file://{text}" if path.is_absolute() else text
