"""A verdict as people read it, and every format of it in what its reader would obey."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rankscope.errors import OutputFailed, UsageError
from rankscope.gate.verdict import Verdict
from rankscope.text import inert
from rankscope.views import gate, html, terminal
from rankscope.views.formats import FORMATS, SUFFIXES, check_suffix, rendered, save_verdict
from rankscope.views.gatewords import headline, next_step
from tests.views.gateverdicts import HOSTILE, finding, hostile, nonfinite, note, verdict
from tests.views.test_views import acting

NAME = "model.language_model.layers.{}.self_attn.v_proj.weight"


def many(count: int) -> Verdict:
    return verdict(*(finding(NAME.format(i)) for i in range(count)))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_name_is_an_order(name: str, case: str) -> None:
    text = rendered(hostile(HOSTILE[case]), name)
    text.encode("utf-8")
    assert not acting(text)
    assert not re.search(r"##\w*\[", text)
    for line in text.splitlines():
        command = re.match(r"\s*::(\S+)", line)
        own = ("error", "warning", "notice", "group", "endgroup::")
        assert command is None or (name == "github" and command[1].startswith(own))


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("case", HOSTILE)
def test_no_line_that_is_broken_becomes_an_order(width: int, case: str) -> None:
    made = hostile(HOSTILE[case])
    for narrow, everything in ((False, False), (True, False), (True, True)):
        shown = gate.report(made, narrow=narrow)
        text = terminal.render(shown, width=width, everything=everything)
        assert not [line for line in text.splitlines() if line.strip().startswith("::")]
        assert not re.search(r"##\w*\[", text)


def test_orders_are_shown_as_they_are_spelt() -> None:
    assert inert("a.weight") == "a.weight"
    assert inert("## a [b]") == "## a [b]"
    assert "::" not in inert(":::::")
    assert inert("a::b") == r"a:\x3ab"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", HOSTILE)
def test_files_hold_nothing_that_acts(suffix: str, case: str, tmp_path: Path) -> None:
    path = tmp_path / f"report{suffix}"
    save_verdict(hostile(HOSTILE[case]), path)
    text = path.read_text("utf-8")
    assert not acting(text)
    if suffix in (".html", ".md", ".xml"):
        assert not re.search(r"(?<!\\)<script", text)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (verdict(names=("a", "b")), "passes: 2 matrices"),
        (verdict(names=("a", "b"), unchanged=1), "passes: 2 matrices, 1 unchanged"),
        (verdict(names=("a", "b"), unchanged=2), "passes: 2 matrices, all unchanged"),
        (verdict(note("a"), names=("a",), unchanged=0), "passes: 1 matrix"),
        (verdict(finding("a"), finding("a", "b")), "fails: 1 of 1 matrix breaks a rule"),
        (
            verdict(finding("a"), nonfinite("b"), names=("a", "b", "c")),
            "fails: 2 of 3 matrices break a rule",
        ),
        (
            verdict(finding("a"), lacking=({"name": "b", "reason": "gone"},)),
            "fails: 1 of 1 matrix breaks a rule, 1 tensor or file is missing",
        ),
        (
            verdict(names=("a", "b"), lacking=({"name": "b", "reason": "gone"},)),
            "incomplete: 1 matrix could not be measured; "
            "no rule is broken by the 1 matrix that was checked",
        ),
        (
            verdict(
                note("z", "removed", after=None),
                names=("a", "b", "z"),
                lacking=tuple({"name": name, "reason": "gone"} for name in ("b", "norm", "bias")),
            ),
            "incomplete: 1 matrix could not be measured, 2 tensors or files are missing; "
            "no rule is broken by the 1 matrix that was checked",
        ),
        (
            verdict(finding("a", "renamed", before="a", after="b"), names=("b", "c", "a")),
            "fails: 1 of 2 matrices breaks a rule",
        ),
        (
            verdict(
                finding("a", "renamed", before="a", after="b"), finding("b"), names=("b", "c", "a")
            ),
            "fails: 1 of 2 matrices breaks a rule",
        ),
        (
            verdict(note("h", "tied", after=None), names=("e", "h"), unchanged=1),
            "passes: 1 matrix, all unchanged",
        ),
        (
            verdict(note("h", "tied", before=None), names=("e", "h"), unchanged=1),
            "passes: 2 matrices, 1 unchanged",
        ),
    ],
)
def test_the_verdict_in_a_sentence(made: Verdict, sentence: str) -> None:
    assert headline(made) == sentence
    remarks = [one for one in gate.report(made).remarks(False) if sentence in one.text]
    assert len(remarks) == 1
    assert remarks[0].strong or remarks[0].lacking
    for name in ("text", "github", "sarif", "junit"):
        assert sentence in " ".join(rendered(made, name).split())


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_layers_stay_apart_and_fit(width: int) -> None:
    text = terminal.render(gate.report(many(12), narrow=True), width=width)
    rows = [line.split()[0] for line in text.splitlines() if "self_attn" in line and "8" in line]
    assert len(set(rows)) == 12
    assert max(map(len, text.splitlines())) <= width


def test_the_number_of_a_single_layer_is_seen_at_80_columns() -> None:
    made = verdict(finding("model.layers.12.mlp.experts.117.down_proj.weight"))
    text = terminal.render(gate.report(made, narrow=True), width=80)
    assert "12.mlp.experts.117.down_proj " in text
    assert "model.layers.*.weight" in text
    assert " 8 " in text
    assert "-50.0%" in text


@pytest.mark.parametrize(
    ("names", "frame"),
    [
        (["a.weight", "b.weight"], ("", ".weight")),
        (["m.a.weight", "m.b.bias"], ("m.", "")),
        (["m.1.a.weight", "m.1.b.weight"], ("m.", ".weight")),
        (["m.h7.a.weight", "m.h7.b.weight"], ("m.", ".weight")),
        (["m", "m.a"], ("", "")),
        (["weight"], ("", "")),
        ([".weight"], ("", "")),
        (["m.m.m"], ("m.m.", "")),
    ],
)
def test_only_words_that_tell_nothing_are_left_out(
    names: list[str], frame: tuple[str, str]
) -> None:
    assert gate.shared(names) == frame
    assert all(name.removeprefix(frame[0]).removesuffix(frame[1]) for name in names)


def test_the_worst_are_shown_and_all_on_request() -> None:
    made = many(50)
    (grid,) = gate.report(made).grids(False)
    assert len(grid.rows) == 20
    assert "the 20 worst of 50" in grid.title
    (grid,) = gate.report(made).grids(True)
    assert [row[0] for row in grid.rows] == [one.name for one in made.findings]
    assert NAME.format(49) in html.page(gate.report(made))


def test_markdown_has_whole_names_and_the_verdict_first() -> None:
    text = rendered(many(2), "markdown")
    assert text.startswith("### fails: 2 of 2 matrices break a rule\n")
    assert NAME.format(1).replace("_", r"\_") in text
    long = "w" * 100_000
    failures = [finding(f"{long}{i}", "renamed", sentence=long) for i in range(20)]
    lost = tuple({"name": f"{long}{i}", "reason": long} for i in range(20))
    assert len(rendered(verdict(*failures, note(long), lacking=lost), "markdown")) < 1 << 20


def test_markdown_is_whole_on_request(tmp_path: Path) -> None:
    made = many(50)
    last = NAME.format(49).replace("_", r"\_")
    for everything in (False, True):
        text = rendered(made, "markdown", everything=everything)
        assert (last in text) == everything
        assert ("worst of 50" in text) != everything
        assert text.startswith("### fails: 50 of 50")
        save_verdict(made, tmp_path / "a.md", everything=everything)
        assert (tmp_path / "a.md").read_text("utf-8") == text


def test_markdown_fits_a_step_summary_whatever_is_asked_for() -> None:
    """A character of these is four bytes, and the limit is one of bytes."""
    failures = [finding(f"{i}.{chr(0x1F600) * 200}") for i in range(2_000)]
    half = rendered(verdict(*failures[:1_000]), "markdown", everything=True)
    assert f"\n| 999.{chr(0x1F600)}" in half
    lost = tuple({"name": f"x{i}", "reason": "lost"} for i in range(30))
    text = rendered(verdict(*failures, lacking=lost), "markdown", everything=True)
    assert len(text.encode("utf-8")) <= 1 << 20
    assert "### fails: 2000 of 2000 matrices" in text
    where = r"\(every one would be more than the 1 MiB of a step summary: .html and .json have them"
    assert f"the 20 worst of 2000 findings {where}" in text
    assert f"20 more that could not be measured {where}" in text
    assert r"\-\-all" not in text  # which was asked for


@pytest.mark.parametrize("name", ["text", "markdown", "github", "junit"])
def test_rules_that_were_not_looked_at_are_counted(name: str) -> None:
    made = verdict(names=("a",), readings=False, left_out=("rank >= 3", "effective_rank >= 2"))
    text = rendered(made, name)
    assert text.count("2 rules on readings were not looked at: no weights were read") == 1
    assert "on readings" not in rendered(replace(made, left_out=()), name)


def test_notes_are_summed_up_by_kind() -> None:
    types = [note(f"l.{i}.w") for i in range(291)]
    other = note("o.w", before="float64")
    added = [note(f"n.{i}.w", "added", sentence="added: not in the baseline") for i in range(3)]
    made = verdict(*types, other, *added)
    texts = [one.text for one in gate.report(made).remarks(False)]
    assert "retyped: 291 matrices, float32 -> bfloat16" in texts
    assert "o.w: type was float32, is bfloat16" in texts
    assert "added: 3 matrices: n.0.w and 2 more" in texts
    assert len(texts) == 5
    assert len(gate.report(made).remarks(True)) == 297


def test_kinds_of_layers_are_told_with_their_worst() -> None:
    found = [finding(NAME.format(i), excess=i + 1.0, after=8 - i) for i in (0, 1, 2, 5)]
    found += [finding(NAME.format(1), "removed", after=None), finding("odd.thing")]
    lines = [one.text for one in gate.report(verdict(*found)).remarks(False)]
    told = [line for line in lines if "projection" in line]
    assert told == ["value projections, layers 0-2, 5: rank -62.5%, removed"]
    assert not [line for line in lines if line.startswith("odd")]  # nothing is known of it


def test_reasons_and_what_is_lacking_are_told() -> None:
    renamed = finding("a", "renamed", before="a", after="b", sentence="renamed to b, content equal")
    made = verdict(nonfinite("n"), renamed, lacking=({"name": "x", "reason": "worker lost"},))
    text = rendered(made, "text")
    assert "n: not measured: holds NaN (rule: status: all measured)" in text
    assert "a: renamed to b, content equal" in text
    assert "incomplete: x: worker lost" in text
    lost = tuple({"name": f"x{i}", "reason": "lost"} for i in range(30))
    assert "20 more that could not be measured" in rendered(verdict(lacking=lost), "text")


def test_close_numbers_are_told_apart() -> None:
    made = verdict(finding("a", before=123.401, after=123.399))
    (grid,) = gate.report(made).grids(False)
    assert grid.rows[0][2:4] == ("123.401", "123.399")


def test_what_to_do_next_can_be_typed() -> None:
    made = verdict(finding(), source="my model/x", baseline="it's.json")
    step = next_step(made)
    assert step is not None
    command = "rankscope check 'my model/x' --baseline 'it'\"'\"'s.json' --update"
    assert step.endswith(command)
    assert next_step(verdict(names=("a",))) is None
    assert next_step(verdict(finding(), baseline=None)) is None
    assert next_step(replace(made, accepted=True)) is None  # it is being done
    low = finding("low", rule="rank >= 6")
    assert next_step(verdict(low)) is None  # it would not help
    assert next_step(verdict(low, finding())) is not None
    assert next_step(verdict(finding(), nonfinite("b"))) is None  # it would be refused


def test_a_bound_is_not_about_a_change() -> None:
    (grid,) = gate.report(verdict(finding(NAME.format(3), rule="rank >= 6"))).grids(False)
    assert dict(zip(grid.headings, grid.rows[0], strict=True))["change"] == "-"


def test_json_has_what_it_promises(tmp_path: Path) -> None:
    made = verdict(finding("a##[b]"), nonfinite("b"))
    document = json.loads(rendered(made, "json"))
    assert document["verdict"] == "fail"
    first = {key: document["findings"][0][key] for key in ("name", "metric", "before", "after")}
    assert first == {"name": "a##[b]", "metric": "rank", "before": 8, "after": 4}
    assert document["findings"][1]["excess"] is None


def test_csv_is_a_row_a_finding() -> None:
    shape = finding("s", "reshaped", before=[4, 3], after=[3, 4])
    text = SUFFIXES[".csv"](verdict(shape, note("=w")), False)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["before"] for row in rows] == ["4x3", "float32"]
    assert [row["name"] for row in rows] == ["s", "'=w"]


def test_csv_has_what_is_lacking() -> None:
    lost = ({"name": "x", "reason": "shard 2 is missing"},)
    text = SUFFIXES[".csv"](verdict(lacking=lost), False)
    empty = dict.fromkeys(("before", "after", "rule", "excess"), "")
    told = {"name": "x", "metric": "status", "failure": "False", "sentence": "shard 2 is missing"}
    assert list(csv.DictReader(io.StringIO(text))) == [empty | told]
    rows = list(csv.DictReader(io.StringIO(SUFFIXES[".csv"](verdict(note(), lacking=lost), False))))
    assert [row["name"] for row in rows] == ["w", "x"]


def test_suffixes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\.txt' names no format, expected one of .json, .csv"):
        check_suffix(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="format 'yaml' is unknown, expected one of text, json"):
        rendered(verdict(), "yaml")
    with pytest.raises(OutputFailed):
        save_verdict(verdict(), tmp_path / "none" / "a.json")
    save_verdict(verdict(), tmp_path / "A.JSON")
    assert [one.name for one in tmp_path.iterdir()] == ["A.JSON"]
