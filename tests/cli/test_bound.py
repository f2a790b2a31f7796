"""`rankscope bound` as typed."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rankscope.bounds.setting import Setting
from rankscope.bounds.table import BoundQuestion, bound_table
from rankscope.views import terminal
from rankscope.views.bound import report
from tests.cli.conftest import Run

CONVENTION = (
    "lambda is the theorem's, the factor of ||W||^2 in the loss; "
    "weight decay is PyTorch's, 2 lambda."
)


def text(run: Run, typed: str) -> str:
    ended = run("bound", *typed.split())
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def rows(run: Run, typed: str) -> list[dict[str, Any]]:
    document = json.loads(text(run, f"{typed} --json"))
    assert document["schema"] == "rankscope/bound/1"
    return list(document["rows"])


def one(run: Run, typed: str) -> dict[str, Any]:
    (row,) = rows(run, typed)
    return row


class TestAsTyped:
    def test_two_numbers_sweep_the_rest(self, run: Run) -> None:
        out = text(run, "--B 8 --mu 0.5")
        assert out.startswith("bound on the rank: B 8, mu 0.5, m 1\n")
        assert CONVENTION in out
        table = [line.split() for line in out.splitlines() if " 0.0" in line]
        assert len(table) == 16
        # lambda, weight decay, eps, exact count, closed form, n*, useful from width
        assert table[0] == ["0.0004", "0.0008", "0.001", "151992", "152018.0", "18999", "151993"]
        assert table[-1] == ["0.008", "0.016", "0.3", "1896", "1897.1", "237", "1897"]

    def test_json(self, run: Run) -> None:
        found = rows(run, "--B 8 --mu 0.5")
        assert len(found) == 16
        keys = "B mu lambda weight_decay momentum eps m steps closed_form exact first_useful_width"
        assert set(keys.split()) <= set(found[0])
        assert {(row["B"], row["mu"], row["m"]) for row in found} == {(8, 0.5, 1)}

    @pytest.mark.parametrize("typed", ["--lambda 8e-3", "--weight-decay 16e-3"])
    def test_both_conventions_are_always_shown(self, run: Run, typed: str) -> None:
        """Fig. 18 of the paper: 7114 as printed."""
        row = one(run, f"--B 6 --mu 0.1 {typed} --eps 0.3")
        assert (row["lambda"], row["weight_decay"]) == (0.008, 0.016)
        assert round(row["closed_form"]) == 7114
        out = text(run, f"--B 6 --mu 0.1 {typed} --eps 0.3")
        assert CONVENTION in out
        head = " ".join(" ".join(column) for column in zip(*table_head(out), strict=False))
        assert "lambda (theorem)" in head
        assert "weight decay (PyTorch)" in head
        assert "   0.008      0.016   7110" in out

    def test_figure_18_as_its_authors_ran_it(self, run: Run) -> None:
        row = one(run, "--B 6 --mu 0.1 --weight-decay 8e-3 --eps 0.3 --width 10000")
        assert (row["lambda"], row["weight_decay"]) == (0.004, 0.008)
        assert round(row["closed_form"]) == 14228
        assert row["vacuous"] is True

    def test_what_is_repeatable_is_repeated(self, run: Run) -> None:
        typed = "--B 8 --B 4 --mu 0.5 --mu 0.1 --lambda 1e-3 --lambda 2e-3 --eps 0.1 --eps 0.01"
        found = rows(run, typed)
        assert len(found) == 16
        assert {row["eps"] for row in found} == {0.1, 0.01}
        assert {row["weight_decay"] for row in found} == {2e-3, 4e-3}
        assert len(rows(run, "--B 8 --mu 0.1 --weight-decay 1e-3 --weight-decay 2e-3")) == 8

    def test_factors(self, run: Run) -> None:
        fixed = "--B 8 --mu 0.5 --lambda 1e-3 --eps 0.1"
        single = one(run, fixed)
        row = one(run, f"{fixed} --m 3 --world-size 5 --accumulation 7")
        assert row["exact"] == 105 * single["exact"]
        assert row["closed_form"] == pytest.approx(105 * single["closed_form"])
        out = text(run, f"{fixed} --m 3 --world-size 5 --accumulation 7")
        assert "B 8, world size 5, accumulation 7, mu 0.5, m 3, eps 0.1\n" in out
        assert "B x world size x accumulation" in out
        assert "world size" not in text(run, fixed)

    def test_vacuous(self, run: Run) -> None:
        out = text(run, "--B 8 --mu 1 --lambda 8e-3 --eps 1e-3 --eps 0.3 --width 2000")
        verdicts = [line.split()[4] for line in out.splitlines() if "0.016" in line]
        assert verdicts == ["vacuous", "useful"]
        found = rows(run, "--B 8 --mu 1 --lambda 8e-3 --eps 1e-3 --eps 0.3 --width 2000")
        assert [row["vacuous"] for row in found] == [True, False]

    def test_momentum(self, run: Run) -> None:
        fixed = "--B 16 --lambda 5e-3 --mu 0.1 --momentum 0.9 --eps 0.1"
        heavy, nesterov = one(run, fixed), one(run, f"{fixed} --nesterov")
        assert heavy["closed_form"] is nesterov["closed_form"] is None
        assert heavy["exact"] == 16 * heavy["steps"]
        assert nesterov["exact"] == 16 * (nesterov["steps"] + 1)
        out = text(run, f"{fixed} --nesterov")
        assert "momentum 0.9, m 1, eps 0.1 (Nesterov)\n" in out
        assert "closed form: none, Theorem 3.3 of Galanti et al. is for SGD without" in out
        assert "and one update more" in out
        assert "and one update more" not in text(run, fixed)

    def test_a_formula_below_the_count_is_called_no_bound(self, run: Run) -> None:
        said = "Where it is below the exact count it is no bound: it counts parts of steps."
        assert said in text(run, "--B 1 --mu 1 --lambda 0.1 --eps 0.5")
        assert said not in text(run, "--B 1 --mu 1 --lambda 0.1 --eps 0.1")


class TestSchedule:
    FIXED = "--B 16 --lambda 0.1 --eps 0.1 --schedule"

    def test_in_steps_and_in_epochs(self, run: Run) -> None:
        steps = rows(run, f"{self.FIXED} 0:0.5,600:0.05,1000:0.01 --until 2000")
        epochs = rows(run, f"{self.FIXED} 0:0.5,6:0.05,10:0.01 --until 20 --steps-per-epoch 100")
        assert steps == epochs
        assert [row["step"] for row in steps] == [600, 1000, 2000]
        assert [row["steps"] for row in steps] == [29, 299, 1099]
        for row in steps:
            left, n = 1.0, 0
            while left > 0.05:
                n += 1
                update = row["step"] - n
                left *= 1 - 0.2 * (0.5 if update < 600 else 0.05 if update < 1000 else 0.01)
            assert (row["steps"], row["exact"]) == (n, 16 * n)

    def test_without_an_end(self, run: Run) -> None:
        typed = f"{self.FIXED} 0:0.5,600:0.05"
        found = rows(run, typed)
        assert [row["step"] for row in found] == [600, None]
        assert found[1]["steps"] == one(run, "--B 16 --lambda 0.1 --eps 0.1 --mu 0.05")["steps"]
        out = text(run, typed)
        assert "after step inf: long after the last change of mu." in out
        assert "the product of 1 - 2 mu_j lambda over the last n steps <= eps / 2" in out
        assert "with the last mu for all steps" in out

    def test_blanks_are_typed_as_well(self, run: Run) -> None:
        ended = run("bound", "--B", 1, "--schedule", "0:0.5, 600: 0.05", "--json")
        assert {row["mu"] for row in json.loads(ended.out)["rows"]} == {0.5, 0.05}

    def test_too_short_a_phase_says_so_below(self, run: Run) -> None:
        out = text(run, f"{self.FIXED} 0:0.001,10:0.5")
        assert out.endswith("no bound yet: 10 steps are too few to forget the initial weights\n")


class TestSolveFor:
    FIXED = "--B 8 --mu 0.5 --lambda 0.01 --eps 0.1 --width 4096"

    @pytest.mark.parametrize("momentum", ["", " --momentum 0.5"])
    @pytest.mark.parametrize("unknown", ["eps", "lambda", "mu", "B"])
    def test_what_is_shown_will_do_when_typed(self, run: Run, unknown: str, momentum: str) -> None:
        given = self.FIXED.replace("4096", "900").split() + momentum.split()
        at = given.index(f"--{unknown}")
        del given[at : at + 2]
        out = text(run, " ".join([*given, "--solve-for", unknown]))
        shown = out.split("─\n")[1].splitlines()[0].split()
        columns = ["lambda", "weight-decay", "eps"]
        if unknown in ("B", "mu"):
            columns = [unknown, *columns[:2]]
        typed = dict(zip(columns, shown, strict=False))
        assert one(run, " ".join([*given, f"--{unknown}", typed[unknown]]))["vacuous"] is False
        if unknown == "lambda":
            again = [*given, "--weight-decay", typed["weight-decay"]]
            assert one(run, " ".join(again))["vacuous"] is False

    def test_weight_decay_under_width_4096(self, run: Run) -> None:
        typed = "--B 8 --mu 0.5 --eps 0.1 --width 4096 --solve-for lambda"
        row = one(run, typed)
        assert row["exact"] == 4088
        assert row["weight_decay"] == pytest.approx((1 - 0.05 ** (1 / 511)) / 0.5, rel=1e-12)
        out = text(run, typed)
        assert "lambda: the least that brings the exact count below width 4096, rounded up." in out
        assert "a smaller lambda may do" in text(run, f"{typed} --momentum 0.9")

    def test_width(self, run: Run) -> None:
        row = one(run, "--B 8 --mu 0.5 --lambda 0.01 --eps 0.1 --solve-for width")
        assert row["width"] == row["first_useful_width"] == row["exact"] + 1
        assert row["vacuous"] is False

    @pytest.mark.parametrize(
        ("typed", "why"),
        [
            ("--mu 0.5 --eps 0.1 --B 4 --width 3 --solve-for lambda", "one step alone adds"),
            ("--mu 0.5 --eps 0.1 --lambda 5e-4 --width 5 --solve-for B", "with B 1 it is 5990"),
            ("--solve-for eps", "needs a width"),
            ("--solve-for mu --mu 1 --width 9", "mu is given"),
        ],
    )
    def test_the_impossible_says_why(self, run: Run, typed: str, why: str) -> None:
        refused(run, typed.split(), why)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("--mu 1 --lambda 0.5", "mu lambda is 0.5, expected less than 0.5"),
        ("--mu 2 --weight-decay 0.6", "lambda has to be below 0.25 (weight decay below 0.5)"),
        ("--mu 1e308 --lambda 1e-308", "mu lambda is 1,"),
        ("--eps 0", "eps is 0, expected a number between 0 and 2"),
        ("--eps 2", "eps is 2,"),
        ("--eps -1", "eps is -1,"),
        ("--eps nan", "eps is nan,"),
        ("--eps inf", "eps is inf,"),
        ("--lambda 0", "no bound: with lambda or mu 0"),
        ("--weight-decay 0", "no bound: with lambda or mu 0"),
        ("--mu 0", "no bound: with lambda or mu 0"),
        ("--mu 1e-308 --lambda 1e-308", "mu 1e-308 and lambda 1e-308 a step forgets too little"),
        ("--optimizer Adam", "dividing the gradient elementwise destroys its low rank"),
        ("--optimizer adamw", "elementwise"),
        ("--optimizer RMSprop", "elementwise"),
        ("--optimizer Adagrad", "elementwise"),
        ("--optimizer LBFGS", "the theorem is about SGD"),
        ("--lambda 1e-3 --weight-decay 2e-3", "exclude each other"),
        ("--lambda -1", "lambda is -1, expected"),
        ("--lambda nan", "lambda is nan, expected"),
        ("--lambda inf", "lambda is inf, expected"),
        ("--lambda 1e308", "lambda is 1e+308, expected a number from 0 to 9e+307"),
        ("--weight-decay -1", "weight decay is -1, expected"),
        ("--weight-decay inf", "weight decay is inf, expected"),
        ("--mu nan", "mu is nan, expected"),
        ("--mu inf", "mu is inf, expected"),
        ("--mu -1", "mu is -1, expected"),
        ("--B 0", "B is 0, expected at least 1"),
        ("--B -4", "B is -4,"),
        (f"--B {10**400}", "B is above"),
        ("--m 0", "m is 0,"),
        ("--world-size 0", "world size is 0,"),
        ("--accumulation 0", "accumulation is 0,"),
        ("--width 0", "width is 0,"),
        ("--momentum 1", "momentum is 1,"),
        ("--momentum nan", "momentum is nan,"),
        ("--momentum 0.9999999999999999", "expected at most 0.9999"),
        ("--nesterov", "needs a momentum"),
        ("--until 5", "needs a schedule"),
        ("--steps-per-epoch 5", "needs a --schedule"),
        ("--schedule abc", "'abc' is no pair of a start and mu"),
        ("--schedule 0:0.1,", "'' is no pair"),
        ("--schedule 0:0.1:3", "'0:0.1:3' is no pair"),
        ("--schedule 0:0.1,5", "'5' is no pair"),
        ("--schedule 0.5:0.1", "'0.5:0.1' is no pair"),
        ("--schedule 1:0.1", "phases start at 1; expected 0, then ascending"),
        ("--schedule 0:0.1,9:0.1,5:1", "phases start at 0, 9, 5"),
        ("--schedule 0:nan", "mu is nan"),
        ("--schedule 0:-1", "mu is -1"),
        ("--schedule 0:0", "no bound: with lambda or mu 0"),
        ("--schedule 0:0.1 --mu 0.1", "exclude each other"),
        ("--schedule 0:1,9:0.1 --lambda 0.5", "mu lambda is 0.5"),
        ("--schedule 0:0.1,5:0.2 --until 0", "the end of training is 0"),
        (f"--schedule 0:0.1,{10**30}:0.2", "the start of a phase is above"),
        ("--schedule 0:0.1,60:0.01 --until 4 --lambda 1e-3", "4 steps are too few"),
    ],
)
def test_an_error_is_one_line_that_teaches(run: Run, typed: str, why: str) -> None:
    refused(run, typed.split(), why)


@pytest.mark.parametrize("typed", ["--B 1.5", "--B x", "--solve-for rank", "--steps-per-epoch 0"])
def test_what_typer_refuses(run: Run, typed: str) -> None:
    ended = run("bound", *typed.split(), "--schedule", "0:1")
    assert (ended.code, ended.out) == (2, "")


def test_a_hostile_schedule_cannot_write_to_the_terminal(run: Run) -> None:
    refused(run, ["--schedule", "0:\x1b[31m\nforged"], "is no pair of a start and mu")


class TestFiles:
    TYPED = ("bound", "--B", 8, "--mu", 0.5, "--width", 5000)

    def test_json_and_csv_say_the_same(self, run: Run, tmp_path: Path) -> None:
        for suffix in ("json", "csv"):
            ended = run(*self.TYPED, "-o", tmp_path / f"b.{suffix}")
            assert (ended.code, ended.out) == (0, "")
            assert ended.err == f"wrote {tmp_path / f'b.{suffix}'}\n"
        made = json.loads((tmp_path / "b.json").read_text())["rows"]
        assert made == json.loads(run(*self.TYPED, "--json").out)["rows"]
        read = list(csv.DictReader(io.StringIO((tmp_path / "b.csv").read_text())))
        assert [
            {key: "" if value is None else str(value) for key, value in row.items()} for row in made
        ] == read

    @pytest.mark.parametrize("suffix", ["md", "html"])
    def test_for_people(self, run: Run, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"b.{suffix}"
        assert run(*self.TYPED, "-o", path).code == 0
        page = path.read_text()
        assert page.count("vacuous") == 12
        for word in ("151992", "152018.0", "18999", "151993", "PyTorch", "at width 5000"):
            assert word in page

    def test_where_nothing_can_be_written(self, run: Run, tmp_path: Path) -> None:
        assert run("bound", "-o", tmp_path / "b.txt").code == 2
        ended = run("bound", "-o", tmp_path / "nowhere" / "b.csv")
        assert (ended.code, ended.err.count("\n")) == (2, 1)


QUESTIONS = {
    "one": BoundQuestion(Setting(), (8,), (0.5,), (0.01,), (0.1,)),
    "typed": BoundQuestion(Setting(), (8,), (0.5,)),
    "all": BoundQuestion(Setting()),
    "all at a width": BoundQuestion(Setting(width=4096)),
    "schedule": BoundQuestion(
        Setting(momentum=0.9, schedule=((0, 0.1), (6000, 0.01)), width=4096, world_size=2), (8,)
    ),
}


class TestLayout:
    """No number is cut: columns are left out instead, and said."""

    @pytest.mark.parametrize("width", [60, 80, 200])
    @pytest.mark.parametrize("name", QUESTIONS)
    def test_fits(self, name: str, width: int) -> None:
        shown = terminal.render(report(bound_table(QUESTIONS[name])), width=width)
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
        left_out = "(-o FILE or a wider terminal shows all): " in shown
        assert left_out or {"form", "n*"} <= set(shown.split("─")[0].split())
        assert not (left_out and width == 200)
        assert "-m NAME" not in shown

    def test_nothing_is_coloured_but_titles_and_warnings(self) -> None:
        """Numbers are in the terminal's own colour, dark or light."""
        console = Console(width=80, force_terminal=True, color_system="truecolor")
        with console.capture() as capture:
            console.print(terminal.renderable(report(bound_table(QUESTIONS["typed"])), 80))
        row = next(line for line in capture.get().splitlines() if "151992" in line)
        assert "\x1b[3" not in row


CODE = (
    "import sys, runpy; sys.argv = ['rankscope', 'bound', '--B', '8', '--mu', '0.5', {}]; "
    "from rankscope.cli.app import main\n"
    "try: main()\n"
    "finally: print(*sys.modules, file=sys.stderr)"
)


@pytest.mark.parametrize("more", ["", "'--json'", "'--momentum', '0.9'"])
def test_no_heavy_import(more: str) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        [sys.executable, "-c", CODE.format(more)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    loaded = set(ended.stderr.split())
    assert "rankscope.bounds.table" in loaded
    assert loaded & {"numpy", "scipy", "torch", "h5py", "rankscope.views.html"} == set()
    assert ("rich.console" in loaded) is (more != "'--json'")


def refused(run: Run, typed: list[str], why: str) -> None:
    ended = run("bound", *typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert why in ended.err
    assert ended.err.count("\n") == 1
    assert "\x1b" not in ended.err


def table_head(out: str) -> list[list[str]]:
    """The three lines of the headings in words, from the columns of lambda and weight decay."""
    lines = out.splitlines()[1:4]
    return [[line[start:end].strip() for start, end in ((0, 10), (10, 21))] for line in lines]
