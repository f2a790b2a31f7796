"""Annotations: what a GitHub runner makes of every line of the output."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from rankscope.gate.verdict import Refusal, Verdict
from rankscope.views import github
from tests.views.gateverdicts import HOSTILE, finding, hostile, nonfinite, note, verdict

PROPERTIES = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ","}


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    data: str


def obey(line: str) -> Command | None:
    """What the runner reads in a line: `::name key=value,key=value::data`, spaces before it aside.

    Escapes are undone as actions/runner does it, `%25` last.
    """
    match = re.fullmatch(r"::([^\s:]+)(?: (.*?))?::(.*)", line.strip(), re.DOTALL)
    if match is None:
        return None
    pairs = [pair.split("=", 1) for pair in (match[2] or "").split(",") if pair]
    properties = {key: undone(value, PROPERTIES) for key, value in pairs}
    return Command(match[1], properties, undone(match[3], {"%0D": "\r", "%0A": "\n"}))


def undone(text: str, escapes: dict[str, str]) -> str:
    for escape, char in escapes.items():
        text = text.replace(escape, char)
    return text.replace("%25", "%")


def commands(made: Verdict) -> list[Command]:
    lines = github.render(made).splitlines()
    return [found for line in lines if (found := obey(line)) is not None]


def of_kind(made: Verdict, kind: str) -> list[Command]:
    return [one for one in commands(made) if one.name == kind]


def test_an_annotation_a_matrix_the_worst_first() -> None:
    made = verdict(nonfinite("b"), finding("a"), finding("a", "effective_rank"), note("c"))
    first, second = of_kind(made, "error")
    assert first.properties == {"title": "b"}
    assert first.data == "not measured: holds NaN (rule: status: all measured)"
    assert second.properties == {"title": "a"}
    assert second.data.splitlines() == [
        "rank fell from 8 to 4 (-50%) (rule: rank: drop <= 2%)",
        "effective_rank fell from 8 to 4 (-50%) (rule: effective_rank: drop <= 2%)",
    ]
    (notice,) = of_kind(made, "notice")
    assert notice.data == "c: type was float32, is bfloat16"
    text = github.render(made)
    assert text.startswith("model.safetensors against ranks.json: fails: 2 of 3 matrices")
    assert "\na: rank fell from 8 to 4 (-50%) (rule: rank: drop <= 2%)\n" in text
    assert "--update" not in text  # of a matrix with NaN no baseline is made
    assert github.render(verdict(finding())).endswith("--update\n")


def test_at_most_ten_of_a_kind_and_the_last_tells_of_the_rest() -> None:
    lost = tuple({"name": f"x{i}", "reason": "lost"} for i in range(30))
    notes = [note(f"n{i}", "retyped", before=f"t{i}", after="u") for i in range(30)]
    made = verdict(*(finding(f"w{i}") for i in range(300)), *notes, lacking=lost)
    for kind, count in (("error", 291), ("warning", 21), ("notice", 21)):
        found = of_kind(made, kind)
        assert len(found) == 10
        assert found[-1].properties["title"] == f"{count} more, see the log"
    assert of_kind(made, "error")[-1].data.startswith("w9\nw10\n")
    assert "\nw299: rank fell" in github.render(made)
    ten = verdict(*(finding(f"w{i}") for i in range(10)))
    assert [one.properties["title"] for one in of_kind(ten, "error")] == [
        f"w{i}" for i in range(10)
    ]


@pytest.mark.parametrize("count", [1, 400, 4_000])
def test_messages_fit(count: int) -> None:
    made = verdict(*(finding(f"{'long' * 60}{i}") for i in range(count)))
    many = verdict(*(finding("w", f"metric{i}") for i in range(count)))
    for one in (*commands(made), *commands(many)):
        assert len(one.data) <= 4096
        assert len(one.properties.get("title", "")) <= 255
    if count > 100:
        assert re.search(r"\nand \d+ more$", of_kind(many, "error")[0].data)


@pytest.mark.parametrize("case", HOSTILE)
def test_no_text_is_a_command(case: str) -> None:
    plain = [one.name for one in commands(hostile("w"))]
    found = commands(hostile(HOSTILE[case]))
    assert [one.name for one in found] == plain
    assert all(set(one.properties) <= {"title"} for one in found)
    text = github.render(hostile(HOSTILE[case]))
    assert not re.search(r"##\w*\[", text)  # a command of old, anywhere in a line
    assert "\r" not in text


@pytest.mark.parametrize("case", HOSTILE)
def test_a_check_that_could_not_be_made_is_one_annotation(case: str) -> None:
    text = github.render_refusal(Refusal(HOSTILE[case], f"no such file: {HOSTILE[case]}" * 9))
    (line,) = text.splitlines()
    found = obey(line)
    assert found is not None
    assert (found.name, set(found.properties)) == ("error", {"title"})
    assert found.data.startswith("no such file: ")
    assert len(found.data) <= 4096
    assert not re.search(r"##\w*\[", text)


def test_the_reader_of_these_tests_sees_commands() -> None:
    assert obey("  ::error title=a%3Ab::c%0Ad%2525") == Command(
        "error", {"title": "a:b"}, "c\nd%25"
    )
    assert obey("a ::error::x") is None
    assert obey("::stop-commands::x") is not None


def test_percent_and_separators_come_back() -> None:
    (error,) = of_kind(verdict(finding("a,b:c%0A=d", sentence="50% %0A")), "error")
    assert error.properties == {"title": "a,b:c%0A=d"}
    assert error.data.startswith("50% %0A (rule")


def test_a_model_that_passes_has_no_annotation() -> None:
    made = verdict(names=("a",), unchanged=1)
    assert commands(made) == []
    assert github.render(made) == (
        "model.safetensors against ranks.json: passes: 1 matrix, all unchanged\n"
    )
