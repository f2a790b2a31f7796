"""SARIF, by its published schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rankscope.gate.verdict import Verdict
from rankscope.views import sarif
from tests.views.gateverdicts import HOSTILE, finding, hostile, nonfinite, note, verdict

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
SCHEMA = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft4Validator(
    SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
)

URI = re.compile(r"(file://)?[A-Za-z0-9._~/%-]*")

VERDICTS = {
    "nothing": verdict(),
    "passes": verdict(names=("a", "b")),
    "fails": verdict(finding("a"), nonfinite("b"), finding("b"), note("c")),
    "incomplete": verdict(names=("a",), lacking=({"name": "x", "reason": "gone"},)),
}


def run(made: Verdict) -> Any:
    document = json.loads(sarif.render(made))
    VALIDATOR.validate(document)
    (found,) = document["runs"]
    return found


@pytest.mark.parametrize("case", VERDICTS)
def test_is_valid(case: str) -> None:
    found = run(VERDICTS[case])
    rules = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in found["results"])
    assert sarif.render(VERDICTS[case]) == sarif.render(VERDICTS[case])


def test_the_schema_refuses_what_is_wrong() -> None:
    document = json.loads(sarif.render(VERDICTS["fails"]))
    document["runs"][0]["results"][0]["level"] = "failure"
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_names(case: str) -> None:
    found = run(hostile(HOSTILE[case]))
    assert len(found["results"]) == 6
    for one in found["results"]:
        (place,) = one["locations"]
        assert URI.fullmatch(place["physicalLocation"]["artifactLocation"]["uri"])
        assert one["message"]["text"]
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # no half of a character


def test_a_result_each_with_its_level() -> None:
    found = run(VERDICTS["fails"])
    names = [one["locations"][0]["logicalLocations"][0] for one in found["results"]]
    assert [name["fullyQualifiedName"] for name in names] == ["a", "b", "b", "c"]
    assert [one["level"] for one in found["results"]] == ["error", "error", "error", "note"]
    assert [one["ruleId"] for one in found["results"]] == ["rank", "status", "rank", "retyped"]
    assert found["results"][0]["message"]["text"].startswith("a: rank fell from 8 to 4")
    prints = {tuple(one["partialFingerprints"].values()) for one in found["results"]}
    assert len(prints) == 4
    lost = run(VERDICTS["incomplete"])
    assert [one["level"] for one in lost["results"]] == ["warning"]
    assert lost["invocations"] == [{"executionSuccessful": False}]


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("a model/m.safetensors", "a%20model/m.safetensors"),
        ("/x/ä#1?", "file:///x/%C3%A4%231%3F"),
        ("../m", "../m"),
        ("c:m", "c%3Am"),
    ],
)
def test_paths_are_uris(source: str, uri: str) -> None:
    (one,) = run(verdict(finding(), source=source))["results"]
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri
