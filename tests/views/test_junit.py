"""JUnit XML, by the schema that Jenkins' xUnit plugin publishes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from rankscope.gate.verdict import Refusal, Verdict
from rankscope.views import junit
from tests.views.gateverdicts import HOSTILE, finding, hostile, nonfinite, note, verdict

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "data" / "schemas" / "junit-10.xsd")

LOST = ({"name": "lost.w", "reason": "worker killed"},)

VERDICTS = {
    "nothing": verdict(),
    "passes": verdict(names=("a", "b")),
    "fails": verdict(finding("a"), finding("a", "effective_rank"), nonfinite("b"), note("c")),
    "fails and is incomplete": verdict(finding("lost.w"), finding("a"), lacking=LOST),
    "incomplete": verdict(names=("a", "lost.w"), lacking=LOST),
    "a shard is missing": verdict(names=("a",), lacking=({"name": "m-2.st", "reason": "gone"},)),
}


def suite(made: Verdict) -> ET.Element:
    root = ET.fromstring(junit.render(made).encode())
    (found,) = root
    return found


@pytest.mark.parametrize("case", VERDICTS)
def test_is_valid_and_counts(case: str) -> None:
    text = junit.render(VERDICTS[case])
    SCHEMA.validate(text)
    found = suite(VERDICTS[case])
    cases = found.findall("testcase")
    assert found.get("tests") == str(len(cases)) != "0"
    assert found.get("failures") == str(len(found.findall("testcase/failure")))
    assert found.get("errors") == str(len(found.findall("testcase/error")))
    assert junit.render(VERDICTS[case]) == text


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_names_are_valid_and_stand_there(case: str) -> None:
    SCHEMA.validate(junit.render(hostile(HOSTILE[case])))
    cases = suite(hostile(HOSTILE[case])).findall("testcase")
    assert len(cases) == 3
    (failure,) = cases[0].findall("failure")
    assert len(failure.text or "") > 2
    root = suite(hostile(HOSTILE[case]))
    tags = {"testsuite", "testcase", "failure", "error", "system-out"}
    assert {one.tag for one in root.iter()} <= tags


def test_the_schema_refuses_what_is_wrong() -> None:
    text = junit.render(VERDICTS["fails"])
    assert not SCHEMA.is_valid(text.replace("<testcase ", '<testcase result="x" ', 1))
    assert not SCHEMA.is_valid(text.replace("<failure", "<broken").replace("/failure", "/broken"))


def test_a_case_for_each_matrix_with_all_its_findings() -> None:
    cases = {case.get("name"): case for case in suite(VERDICTS["fails"]).iter("testcase")}
    assert list(cases) == ["a", "b", "c"]
    (failure,) = cases["a"]
    assert failure.tag == "failure"
    assert failure.get("type") == "rank"
    assert failure.get("message") == "rank fell from 8 to 4 (-50%) (rule: rank: drop <= 2%)"
    assert (failure.text or "").splitlines()[1].startswith("effective_rank fell from 8 to 4")
    assert cases["b"].find("failure").get("type") == "status"  # type: ignore[union-attr]
    assert cases["c"].findtext("system-out") == "type was float32, is bfloat16"
    assert len(cases["c"]) == 1


def test_what_is_lacking_is_an_error() -> None:
    cases = {case.get("name"): case for case in suite(VERDICTS["incomplete"]).iter("testcase")}
    error = cases["lost.w"].find("error")
    assert error is not None
    assert error.get("message") == "worker killed"
    assert list(cases["a"]) == []
    both = suite(VERDICTS["fails and is incomplete"])
    assert (both.get("failures"), both.get("errors")) == ("2", "0")
    missing = suite(VERDICTS["a shard is missing"])
    assert (missing.get("tests"), missing.get("errors")) == ("2", "1")


def test_an_empty_model_is_a_case_of_its_own() -> None:
    (case,) = suite(verdict()).findall("testcase")
    assert case.get("name") == "the model"


@pytest.mark.parametrize("case", HOSTILE)
def test_a_check_that_could_not_be_made_is_an_error(case: str) -> None:
    text = junit.render_refusal(Refusal(HOSTILE[case], f"no such file: {HOSTILE[case]}"))
    SCHEMA.validate(text)
    (found,) = ET.fromstring(text.encode())
    assert (found.get("tests"), found.get("errors"), found.get("failures")) == ("1", "1", "0")
    (error,) = found.findall("testcase/error")
    assert (error.get("message") or "").startswith("no such file")
    assert error.text == error.get("message")


def test_names_that_look_the_same_stay_apart() -> None:
    made = verdict(names=("a\nb", "a\\nb", "x" * 1000, "x" * 1001))
    names = [case.get("name") for case in suite(made).iter("testcase")]
    assert len(set(names)) == 4
    assert names[1] == "a\\nb (2)"


def test_each_model_is_a_suite_of_its_own() -> None:
    (case,) = suite(verdict(names=("a",), source="out/model.safetensors")).iter("testcase")
    assert case.get("classname") == "rankscope.out/model_safetensors"
