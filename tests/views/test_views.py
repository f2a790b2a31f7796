"""What every view must do, and what hostile text becomes in each."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rankscope.sweeps.runs import SETTINGS
from rankscope.table import Table
from rankscope.text import INVISIBLE
from rankscope.views import (
    VIEWS,
    View,
    cells,
    document,
    markdown,
    numbers,
    planning,
    terminal,
    view_for,
)
from rankscope.views import csv as csv_view
from rankscope.views import html as html_view
from rankscope.views.analysis import report
from rankscope.views.columns import in_reading_order
from rankscope.views.grid import Grid
from rankscope.views.report import Remark

HOSTILE = {
    "ansi": "w\x1b[31mred\x1b[0m",
    "osc link": "w\x1b]8;;http://evil\x07click\x1b]8;;\x07",
    "bidi": "w\u202egnp.exe",
    "newline": "w\nforged line",
    "carriage return": "w\rforged",
    "rich markup": "w[/red][bold]x",
    "script": "<script>alert(1)</script>",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+1",
    "at": "@SUM(1)",
    "workflow": "::error::x",
    "null": "w\x00x",
    "table pipe": "a|b`c`**d**",
    "quote": "a\"b'c",
    "surrogate": "w\udc80",
}


def table(*names: str, steps: int = 1, **values: Any) -> Table:
    """A table of made-up rows, one a name and step."""
    columns = ("rank", "effective_rank", "condition_number")
    rows = [
        {
            "name": name,
            "step": step if steps > 1 else None,
            "shape": [4, 3],
            "dtype": "float32",
            "kind": "linear",
            "status": "ok",
            "rank": 3,
            "effective_rank": 2.5,
            "condition_number": None,
            **values,
            "route": "gram",
            "notes": {"condition_number": "infinite: a row or column is zero"},
            "source": names[0],
        }
        for step in range(steps)
        for name in names
    ]
    summary = [
        {"source": names[0], "step": step, "matrices": len(names), "unmeasured": 0, "missing": 0}
        | dict.fromkeys(columns, 2.0)
        for step in range(steps)
    ]
    skipped = [
        {"name": name, "reason": name, "source": name, "snapshots": 1, "missing": True}
        for name in names
    ]
    return Table(columns, tuple(rows), tuple(skipped), tuple(summary), {"columns": list(columns)})


# Of Parquet, which keeps text as it is: nothing of it reaches a screen before another program.
TEXTS = tuple(view for view in VIEWS if view.suffix != ".parquet")


@pytest.mark.parametrize("view", TEXTS, ids=lambda view: view.suffix)
@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_name_acts(view: View, case: str) -> None:
    text = view.render(report(table(HOSTILE[case]))).decode("utf-8")
    assert not acting(text)


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_name_acts_on_a_terminal(case: str) -> None:
    console = Console(width=200, force_terminal=True, color_system="truecolor", record=True)
    with console.capture() as capture:
        console.print(terminal.renderable(report(table(HOSTILE[case])), 200))
    # Rich's own styling is the only escape there may be.
    assert not acting(re.sub(r"\x1b\[[0-9;]*m", "", capture.get()))
    assert "31mred" not in capture.get() or "\\x1b[31mred" in capture.get()
    plain = terminal.render(report(table(HOSTILE[case])), width=200)
    assert plain.count("\n") == terminal.render(report(table("plain")), width=200).count("\n")


def acting(text: str) -> list[str]:
    """Characters that do something other than stand there, line ends aside."""
    import unicodedata

    return [c for c in text if c != "\n" and unicodedata.category(c) in INVISIBLE]


@pytest.mark.parametrize("case", ["rich markup", "table pipe"])
def test_markup_is_shown_as_itself(case: str) -> None:
    assert HOSTILE[case] in terminal.render(report(table(HOSTILE[case])), width=200)


def test_html_holds_no_tag_but_its_own() -> None:
    class Tags(html.parser.HTMLParser):
        seen: set[str] = set()  # noqa: RUF012 - one use

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.seen.add(tag)

    parser = Tags()
    for name in HOSTILE.values():
        parser.feed(html_view.render(report(table(name))))
    assert parser.seen == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    for name in HOSTILE.values():
        parser.feed(html_view.page(report(table(name))))
    page = {"html", "head", "meta", "title", "style", "body"}
    assert parser.seen == page | {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


def test_a_file_is_a_whole_page_and_a_notebook_gets_a_fragment() -> None:
    names = [f"layers.{i}.weight" for i in range(60)]
    made = table(*names, steps=60)
    page = html_view.page(report(made))
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    assert page.index('<meta charset="utf-8">') < page.index("<title>layers.0.weight - RankScope<")
    assert page.endswith("</html>\n")
    assert "src=" not in page
    assert "http" not in page
    assert len(re.findall("<td class=word[^>]*>59</td>", page)) == 60  # every matrix of every step
    fragment = html_view.render(report(made))
    assert fragment.startswith("<table ")
    assert not re.search("<(html|style|body|meta)", fragment)
    assert view_for(Path("x.html")).render(report(made)) == page.encode("utf-8")


def test_html_of_a_value_is_one_line_and_no_tag() -> None:
    grid = Grid("<i>", ("<u>", "of it"), (("<b> x", "<s> 2"),), labels=1, optional=0)
    text = html_view.fragment([grid], [Remark("<em>", strong=True)])
    assert not re.search("<(i|u|b|s|em)>", text)
    assert "&lt;b&gt; x<" in text
    assert "&lt;s&gt;&nbsp;2<" in text
    assert ">of it<" in text


def test_csv_cells_are_no_formulas() -> None:
    for name in HOSTILE.values():
        for row in csv.reader(io.StringIO(csv_view.render(report(table(name))))):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


def test_csv_is_rectangular_and_right() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_view.render(report(table("a", "b,c"))))))
    assert [row["name"] for row in rows] == ["a", "b,c"]
    assert (rows[0]["rows"], rows[0]["columns"], rows[0]["rank"]) == ("4", "3", "3")
    assert rows[0]["condition_number"] == ""


def test_markdown_rows_have_as_many_cells_as_the_head() -> None:
    for name in HOSTILE.values():
        lines = [
            line for line in markdown.render(report(table(name))).splitlines() if line[:1] == "|"
        ]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_json_is_strict_and_round_trips() -> None:
    made = table("a", "b", steps=3)
    text = document.render(report(made))
    parsed = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert Table.from_document(parsed) == made
    with pytest.raises(ValueError, match="JSON"):
        document.render(report(table("a", rank=math.inf)))


@pytest.mark.parametrize("width", [60, 80, 100, 140, 250])
@pytest.mark.parametrize("name", ["w", "encoder.layers.10.self_attention.query_key_value" * 2])
@pytest.mark.parametrize("steps", [1, 5])
def test_no_line_is_wider_than_the_terminal(width: int, name: str, steps: int) -> None:
    text = terminal.render(report(table(name, name + ".b", steps=steps)), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text or len(name) > 26


def test_two_layers_stay_apart_when_their_names_are_shortened() -> None:
    names = [f"model.language_model.layers.{i}.self_attn.q_proj.weight" for i in range(12)]
    text = terminal.render(report(table(*names)), width=80)
    shown = [line.split()[0] for line in text.splitlines() if "…" in line]
    assert len(set(shown)) == len(names)


@pytest.mark.parametrize(
    "names",
    [
        [
            f"model.layers.{i}.{part}.weight"
            for i in range(5)
            for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")
        ],
        [
            f"model.{tower}.encoder.layers.{i}.self_attention.q_proj.weight"
            for tower in ("vision_tower", "language_model")
            for i in range(5)
        ],
        [f"model.layers.{i}.block_sparse_moe.experts.{i}.w1.weight" for i in range(3)],
        [f"one.name.of.{end}.which.the.end.is.what.they.all.share" for end in ("tick", "tock")],
    ],
    ids=["llama", "two towers", "mixture", "no numbers"],
)
@pytest.mark.parametrize("width", [52, 64, 80])
def test_names_are_shortened_so_that_each_is_told_from_the_others(
    names: list[str], width: int
) -> None:
    for others in ([], ["lm_head.weight", "model.embed_tokens.weight"]):
        text = terminal.render(report(table(*others, *names)), width=width)
        assert max(map(len, text.splitlines())) <= width
        shown = [line.split()[0] for line in text.splitlines() if re.search(r" 4x3 +fp32", line)]
        assert len(set(shown)) == len(names) + len(others)
        for name, short in zip([*others, *names], shown, strict=True):
            assert re.findall(r"(?<=\.)\d+(?=\.)", name) == re.findall(r"\b\d+(?=\.|…)", short)


def test_no_column_is_given_up_for_names_that_nothing_tells_apart() -> None:
    alike = [f"{'a' * 100}{end}{'b' * 100}" for end in "xy"]
    text, other = (
        terminal.render(report(table("m", *names)), width=60) for names in (alike, ["a" * 201, "b"])
    )
    assert text.splitlines()[1:3] == other.splitlines()[1:3]


def test_many_matrices_are_summed_up_and_all_are_there_on_request() -> None:
    names = [f"layers.{i}.{part}.weight" for i in range(60) for part in ("q", "k", "v")]
    short = terminal.render(report(table(*names)), width=100)
    assert len(short.splitlines()) < 30
    assert "170 more" in short
    assert "layers.*.q.weight" in short
    assert "60" in short
    full = terminal.render(report(table(*names)), width=100, everything=True)
    assert all(name in full for name in names)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_kinds_of_layers_stay_apart_on_a_narrow_terminal(width: int) -> None:
    blocks = {"encoder": ("self_attn",), "decoder": ("self_attn", "encoder_attn")}
    parts = ("q", "k", "v", "out")
    names = [
        f"model.{tower}.layers.{i}.{block}.{part}_proj.weight"
        for tower, found in blocks.items()
        for i in range(24)
        for block in found
        for part in parts
    ]
    text = terminal.render(report(table("model.shared.weight", *names)), width=width)
    assert max(map(len, text.splitlines())) <= width
    shown = after(text, "means over layers")
    rows = [line for line in shown if re.search(r" 24 +4x3 +fp32 +3", line)]
    cut = [re.sub(" +24 +4x3.*", "", line) for line in rows]
    assert len(set(cut)) == len(rows) == 12
    filler = " projections" if width > 80 else ""
    narrow = terminal.render(report(table(*names)), width=56)
    assert max(map(len, narrow.splitlines())) <= 56
    assert f"cross-attention query{filler}, decoder layers 0-23" in cut
    assert f"value{filler}, encoder layers 0-23" in cut
    full = markdown.render(report(table(*names)), everything=False).replace("\\", "")
    assert "cross-attention query projections, decoder layers 0-23" in full


def test_csv_has_role_and_depth() -> None:
    made = table("a", role="attention.v", depth=3)
    (row,) = csv.DictReader(io.StringIO(csv_view.render(report(made))))
    assert (row["kind"], row["role"], row["depth"], row["status"]) == (
        *("linear", "attention.v"),
        *("3", "ok"),
    )
    (old,) = csv.DictReader(io.StringIO(csv_view.render(report(table("a")))))
    assert (old["role"], old["depth"], old["status"]) == ("", "", "ok")


def test_many_steps_are_spaced_evenly_with_the_first_and_the_last() -> None:
    made = table("w", steps=500)
    text = terminal.render(report(made), width=100)
    assert len(text.splitlines()) < 75
    steps = [int(m) for m in re.findall(r"^ *(\d+) ", text, re.MULTILINE)]
    assert steps[0] == 0
    assert steps[-1] == 499
    assert "48 of 500" in text
    assert len(terminal.render(report(made), width=100, everything=True).splitlines()) > 1000


def test_an_average_over_part_of_the_matrices_says_so() -> None:
    made = table("a", "b", steps=3)
    assert "left" not in terminal.render(report(made), width=100)
    lacking = tuple({**row, "unmeasured": 1, "missing": 2} for row in made.summary)
    text = terminal.render(report(replace(made, summary=lacking)), width=100)
    assert re.search(r"left.*\n.* out", text)
    assert re.search(r"^ *0 +3 ", text, re.MULTILINE)
    names = [f"layers.{i}.weight" for i in range(60)]
    group = table(*names)
    broken = ({**group.matrices[0], "status": "nonfinite", "rank": None}, *group.matrices[1:])
    assert "59 of 60" in terminal.render(report(replace(group, matrices=broken)), width=100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (12, "12"),
        (0.0, "0.0000"),
        (0.08889, "0.0889"),
        (1.0, "1.000"),
        (37.0, "37.00"),
        (123.456, "123.5"),
        (12345.6, "12346"),
        (1e-5, "1e-05"),
        (1.23456e20, "1.2e+20"),
        (0.1 + 0.2, "0.3000"),
        (99999.4, "99999"),
        (0.99994, "0.9999"),
        (0.99996, "1.000"),
        (9.99951, "10.00"),
        (-99.996, "-100.0"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert numbers.number(value) == text
    assert len(numbers.number(value)) <= 7


def test_infinite_and_inexact_are_told_apart() -> None:
    row = {"notes": {"a": "infinite: x", "b": "not exact by the gram route"}, "a": None, "b": 3}
    assert cells.cell(row, "a") == "inf"
    assert cells.cell(row, "b") == "~3"


def test_suffix_chooses_the_view(tmp_path: Any) -> None:
    for view in VIEWS:
        assert view_for(tmp_path / f"x{view.suffix.upper()}") is view
    with pytest.raises(Exception, match=r"expected one of \.json"):
        view_for(tmp_path / "x.xls")


def group(**values: Any) -> Table:
    """More matrices than are shown one by one, shape 4x3, rank 3 unless told otherwise."""
    return table(*(f"layers.{i}.weight" for i in range(60)), **values)


def changed(made: Table, index: int, **values: Any) -> Table:
    """The table with one row changed."""
    rows = list(made.matrices)
    rows[index] = {**rows[index], **values}
    return replace(made, matrices=tuple(rows))


def after(text: str, title: str) -> list[str]:
    """The lines below the one that holds the title, up to an empty one."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if title in line)
    return lines[start + 1 : lines.index("", start)]


LEAST = "least of their rank used"


def test_means_do_not_hide_a_collapsed_layer() -> None:
    made = changed(group(), 41, rank=1)
    made = changed(made, 17, shape=[400, 100], rank=20)
    made = changed(made, 3, status="nonfinite", rank=None)
    text = terminal.render(report(made), width=100)
    lines = after(text, f"layers.0.weight: {LEAST}")[2:]
    assert len(lines) == 2  # all others have full rank
    assert lines[0].split() == ["layers.17.weight", "400x100", "20", "100", "0.2000"]
    assert lines[1].split() == ["layers.41.weight", "4x3", "1", "3", "0.3333"]
    for index in range(20, 30):
        made = changed(made, index, rank=2)
    assert len(after(terminal.render(report(made), width=100), LEAST)[2:]) == 5


def test_least_are_named_only_where_matrices_are_not() -> None:
    assert LEAST not in terminal.render(report(table("a", "b", rank=2)), width=100)
    assert LEAST in terminal.render(report(group(rank=2)), width=100)
    assert LEAST not in terminal.render(report(group(rank=3)), width=100)
    assert LEAST not in terminal.render(report(group(rank=2)), width=100, everything=True)
    columns = replace(group(rank=2), columns=("effective_rank", "condition_number"))
    assert LEAST not in terminal.render(report(columns), width=100)
    last = terminal.render(report(group(rank=2, steps=2)), width=100)
    assert f"layers.0.weight at step 1: {LEAST}" in last


def test_title_counts_the_matrices_of_all_steps() -> None:
    assert "w: average over 1 matrix\n" in terminal.render(report(table("w", steps=3)), width=100)
    made = table("w", "v", steps=3)
    assert "w: average over 2 matrices\n" in terminal.render(report(made), width=100)
    summary = ({**made.summary[0], "matrices": 1}, *made.summary[1:])
    text = terminal.render(report(replace(made, summary=summary)), width=100)
    lines = after(text, "w: average over the matrices of each step")
    assert lines[1].split()[:2] == ["step", "matrices"]
    assert [line.split()[:2] for line in lines[3:]] == [["0", "1"], ["1", "2"], ["2", "2"]]


@pytest.mark.parametrize("view", [terminal, markdown, html_view], ids=lambda view: view.__name__)
def test_matrices_without_values_are_named(view: Any) -> None:
    made = replace(group(), skipped=())
    assert "nonfinite" not in view.render(report(made), everything=False)
    for i in range(12):
        notes = {"status": "holds NaN or infinity"}
        made = changed(made, i, status="nonfinite", rank=None, notes=notes)
    text = view.render(report(made), everything=False).replace("\\", "")
    found = re.findall(r"nonfinite: layers\.(\d+)\.weight: holds NaN or infinity", text)
    assert [int(index) for index in found] == list(range(10))
    assert "incomplete: 2 more (--all shows every one)" in text
    text = view.render(report(made), everything=True).replace("\\", "")
    assert text.count("weight: holds NaN or infinity") == 12


def test_a_matrix_without_values_in_many_steps_is_one_line() -> None:
    made = replace(table("w", "v", steps=20), skipped=())
    for step in range(5, 20):
        notes = {"status": "the worker died twice"}
        made = changed(made, 2 * step, status="worker_lost", notes=notes)
    text = terminal.render(report(made), width=100)
    assert "worker lost: w at 15 steps from 5 to 19: the worker died twice\n" in text
    assert text.count("the worker died") == 1


def test_nothing_to_show_says_so() -> None:
    made = table("w")
    made = replace(made, matrices=(), skipped=(), summary=({**made.summary[0], "matrices": 0},))
    assert terminal.render(report(made), width=100) == "w: no weight matrices\n"


def test_headings_are_short_and_stay_apart() -> None:
    keys = ["schatten_ratio(p=0.3333333333333333,q=0.6666666666666666)", "rank@1e-05", "rank@0.01"]
    assert cells.headings(keys) == (
        "schatten ratio (p=0.3333,q=0.6667)",
        "rank @1e-05",
        "rank @0.01",
    )
    alike = ["rank@0.123456", "rank@0.123457"]
    assert cells.headings(alike) == ("rank @0.123456", "rank @0.123457")
    assert cells.headings(["distance_to_rank(r=123456)"]) == ("distance to rank (r=123456)",)


def test_left_out_columns_are_named_with_how_to_get_them() -> None:
    text = " ".join(terminal.render(report(table("w" * 30)), width=48).split())
    hint = "-o FILE or a wider terminal shows all, -m NAME chooses"
    assert f"2 more ({hint}): eff. rank, cond. number" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (999_700, "1 MB"), (1.5e12, "1.5 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert planning.size(count) == text


def sweep_table(text: str, *, varied: bool = False) -> Table:
    """A table of runs in which everything that comes from files says the same."""
    settings = dict.fromkeys(SETTINGS, None) | {"model": text, "data": text, "optimiser": text}
    runs = [
        settings
        | {
            "source": f"{text}/{number}",
            "B": number,
            "data": f"{text}{number if varied else ''}",
            "seed": number % 2,
            "step": 3,
            "rank": 3.0,
            "norm_ratio": 1.0,
            "test_accuracy": 0.5,
            "no_bound": text if number == 3 else "",
            "remarks": [text],
            "assumption": {
                "tolerance": 0.01,
                "converged": number == 1,
                "since_step": 3 if number == 1 else None,
                "not_converged": [] if number == 1 else [text],
            },
            "bound_kept": {
                "checked": 4,
                "violated": 1,
                "violations": [{"name": text, "step": 3, "eps": 0.1, "rank": 5, "bound": 2}],
            },
        }
        for number in (1, 2, 3)
    ]
    matrices = [
        {
            "name": text,
            "step": 3,
            "shape": [4, 3],
            "dtype": "float32",
            "kind": "linear",
            "averaged": True,
            "status": "ok",
            "rank": 3,
            "norm_ratio": 1.0,
            "route": "gram",
            "notes": {"norm_ratio": text},
            "source": run["source"],
        }
        for run in runs
    ]
    summary = [
        {"source": run["source"], "step": 3, "matrices": 1, "averaged": 1, "unmeasured": 0}
        | {"missing": 0, "rank": 3.0, "norm_ratio": 1.0, text: text}
        for run in runs
    ]
    crossings = [
        {
            "name": text,
            "varied": "B",
            "fixed": {"model": text},
            "levels": [1, 2],
            "crossing": 1.5,
            "smallest": 1,
            "largest": 2,
            "agreement": 0.75,
            "head_mass": [0.9, 0.8],
        }
    ]
    columns = ("rank", "norm_ratio")
    trends = ({"sentence": f"rank at B 1 -> 3 (model {text})"},)
    return Table(
        columns,
        tuple(matrices),
        (),
        tuple(summary),
        {"columns": list(columns), "command": [text]},
        tuple(runs),
        trends,
        tuple(crossings),
    )


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_run_acts(case: str, varied: bool) -> None:
    made = sweep_table(HOSTILE[case], varied=varied)
    for view in TEXTS:
        text = view.render(report(made)).decode("utf-8")
        assert not acting(text), view.suffix
    plain = sweep_table("plain", varied=varied)
    for part in (slice(None), slice(1), slice(2, None)):
        only, like = (replace(one, runs=one.runs[part]) for one in (made, plain))
        for everything in (False, True):
            shown = terminal.render(report(only), width=2000, everything=everything)
            assert not acting(shown)
            lines = terminal.render(report(like), width=2000, everything=everything).count("\n")
            assert shown.count("\n") == lines  # none is forged


def test_html_of_runs_holds_no_tag_but_its_own() -> None:
    seen: set[str] = set()

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            seen.add(tag)

    for name in HOSTILE.values():
        Tags().feed(html_view.render(report(sweep_table(name)), everything=True))
    assert seen == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("case", HOSTILE)
def test_markdown_of_runs_keeps_its_tables(case: str, varied: bool) -> None:
    lines = markdown.render(report(sweep_table(HOSTILE[case], varied=varied))).splitlines()
    wanted = markdown.render(report(sweep_table("plain", varied=varied))).splitlines()
    assert len(lines) == len(wanted)
    for line, like in zip(lines, wanted, strict=True):
        assert bars(line) == bars(like)
        if bars(line) and "---" not in line:
            assert not re.search(r"(?<!\\)[`*<\[]", line.replace("\\\\", ""))


def bars(line: str) -> int:
    """Those that end a cell."""
    return len(re.findall(r"(?<!\\)\|", line.replace("\\\\", "")))


def test_csv_of_runs_is_rows_of_equal_length() -> None:
    for name in HOSTILE.values():
        rows = list(csv.reader(io.StringIO(csv_view.render(report(sweep_table(name))))))
        assert [len(row) for row in rows] == [14] * 4
        assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


def test_a_sentence_is_for_the_eye_and_numbers_are_for_the_grid() -> None:
    made = sweep_table("net")
    text = terminal.render(report(made), width=400)
    assert "3 runs: model net, data net, optimiser net" in text
    assert "within 0.01 of 1 at the end in every matrix of 1 of 3 runs; not in net/2, net/3" in text
    assert "net/3: net" in text
    assert text.count("exceeded by 1 of 4 ranks, in net at step 3 by 5 against 2") == 3
    assert "rank at B 1 -> 3 (model net)." in text
    assert "where spectra cross from B 1 to 2: so many values are large" in text
    assert re.search(r"^net +1\.500 +1-2 +75% +90% +80%", text, re.MULTILINE)


def test_the_rank_its_bound_and_the_ratio_come_first() -> None:
    given = ["effective_rank", "rank@0.1", "norm_ratio", "bound_closed@0.1", "vacuous@0.1"]
    given += ["bound_exact@0.1", "bound_measured@0.1", "rank@0.01", "bound_exact@0.01"]
    order = in_reading_order(given, [dict.fromkeys(given, 1)])
    assert sorted(order) == sorted(given)
    assert order[:4] == ["rank@0.1", "rank@0.01", "bound_exact@0.1", "bound_exact@0.01"]
    assert order[4] == "norm_ratio"
    assert order[5] == "effective_rank"
    assert order[6:] == ["bound_closed@0.1", "bound_measured@0.1", "vacuous@0.1"]
    assert in_reading_order(["rank", "stable_rank"], []) == ["rank", "stable_rank"]


def test_bounds_that_no_row_has_come_last() -> None:
    keys = ["rank", "bound_exact", "norm_ratio", "stable_rank", "vacuous"]
    rows: list[dict[str, Any]] = [
        {"bound_exact": None, "norm_ratio": None},
        {"bound_exact": None, "norm_ratio": 1.0},
    ]
    order = ["rank", "norm_ratio", "stable_rank", "bound_exact", "vacuous"]
    assert in_reading_order(keys, rows) == order


def test_yes_no_and_infinite() -> None:
    assert [numbers.number(value) for value in (True, False, None, 7)] == ["yes", "no", "-", "7"]
    row = {"vacuous": True, "bound_exact": None, "notes": {"bound_exact": "infinite: mu is 0"}}
    assert cells.cell(row, "vacuous") == "yes"
    assert cells.cell(row, "bound_exact") == "inf"
    assert cells.headings(["bound_exact@0.001", "norm_ratio"]) == (
        "bound exact @0.001",
        "norm ratio",
    )


def test_long_settings_that_vary_fit_the_terminal() -> None:
    made = sweep_table("a data set with a very long description " * 5, varied=True)
    text = terminal.render(report(made), width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    row = next(line for line in text.splitlines() if "description 2" in line)
    assert re.search(r"description 2 +2 +0 +0\.5000 +3\.000", row)
