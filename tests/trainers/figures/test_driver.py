"""`python -m trainers figure`: which files it writes, and what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from rankscope.errors import OutputFailed, UsageError
from tests.trainers.figures import made
from trainers.__main__ import main
from trainers.figure import Args, run
from trainers.figures import catalogue, p3
from trainers.figures.house import blank
from trainers.recipes.catalogue import RECIPES

BEGINNINGS = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = made.recipe("per_epoch", made.line("B = 8", "mu", made.chosen(0.1)), accuracies=True)
    return made.noted(tmp_path_factory.mktemp("runs"), recipe)


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_suffix_chooses_the_kind_of_file(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    target = tmp_path / f"figure{suffix}"
    assert main(["figure", "X-F1", str(runs), "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_bytes().startswith(BEGINNINGS[suffix])
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_same_command_writes_the_same_bytes(runs: Path, tmp_path: Path, suffix: str) -> None:
    one, other = (tmp_path / f"{name}{suffix}" for name in ("one", "other"))
    for target in (one, other):
        run(Args("X-F1", runs, target))
    assert one.read_bytes() == other.read_bytes()


def test_without_a_name_it_stands_beside_the_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figure", "X-F1", str(runs), "--eps", "0.1", "0.01", "--width", "3.3"]) == 0
    target = runs / "X-F1.png"
    assert capsys.readouterr().out == f"{target}\n"
    width = int.from_bytes(target.read_bytes()[16:20])  # the first number of a PNG's header
    assert width == 660
    target.unlink()


def test_matplotlib_is_left_as_it_was(runs: Path, tmp_path: Path) -> None:
    with mpl.rc_context({"axes.titlecolor": "red", "lines.marker": "x"}):
        before = str(mpl.rcParams)
        run(Args("X-F1", runs, tmp_path / "own.svg"))
        assert str(mpl.rcParams) == before
    run(Args("X-F1", runs, tmp_path / "usual.svg"))
    assert (tmp_path / "own.svg").read_bytes() == (tmp_path / "usual.svg").read_bytes()


def test_pyplot_is_not_needed_nor_matplotlib_before_something_is_drawn(runs: Path) -> None:
    code = (
        "import sys, trainers.__main__ as m\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        f"assert m.main(['figure', 'X-F1', {str(runs)!r}, '-o', {str(runs / 'a.pdf')!r}]) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    (runs / "a.pdf").unlink()


class TestNames:
    @pytest.mark.parametrize(("name", "nearest"), [("P1-F22", "P1-F2"), ("p1-f4", "P1-F4")])
    def test_an_unknown_one_names_the_nearest(self, runs: Path, name: str, nearest: str) -> None:
        with pytest.raises(UsageError, match=f"no figure '{name}', nearest: .*{nearest}"):
            run(Args(name, runs))

    def test_those_that_are_noted_beside_the_runs_are_known(self, runs: Path) -> None:
        with pytest.raises(UsageError, match="nearest: X-F1, "):
            run(Args("X-F11", runs))

    def test_one_that_was_not_run_names_the_command(
        self, runs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["figure", "P1-F2", str(runs)]) == 3
        command = f"python -m trainers recipe P1-F2 --out {runs}"
        expected = f"error: {runs / 'P1-F2.json'}: is not there: P1-F2 has not been run; {command}"
        assert capsys.readouterr().err == expected + "\n"

    def test_the_help_names_them_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["figure", "--help"])
        said = capsys.readouterr().out
        for recipe in RECIPES:
            assert f"  {recipe.name:14}{recipe.title}\n" in said
        assert set(catalogue.FUNCTIONS) <= set(said.replace(",", " ").split())

    def test_every_one_of_the_papers_is_known(self) -> None:
        assert set(catalogue.FUNCTIONS) >= set(p3.FIGURES)
        assert set(catalogue.RECIPES) == {recipe.name for recipe in RECIPES}
        assert {recipe.drawing for recipe in RECIPES} == set(catalogue.WAYS)

    def test_a_function_draws_what_is_no_recipe(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def draw(path: Path) -> object:
            asked.append(path)
            return blank(2.0, 1.0, "by hand")

        monkeypatch.setattr(catalogue, "FUNCTIONS", {"X-F9": draw})
        run(Args("X-F9", tmp_path, tmp_path / "hand.svg"))
        assert asked == [tmp_path]
        assert "by hand" in (tmp_path / "hand.svg").read_text("utf-8")
        for args in (Args("X-F9", tmp_path, eps=(0.1,)), Args("X-F9", tmp_path, width=3.3)):
            with pytest.raises(UsageError, match="X-F9 has neither thresholds nor a width"):
                run(args)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-o", "figure.gif"],
            "figure.gif: suffix of no picture, expected one of .png, .pdf, .svg",
        ),
        (["-o", "figure"], "figure: suffix of no picture"),
        (["--eps", "0"], "eps is 0, expected a number above 0"),
        (["--eps", "nan"], "eps is nan, expected a number above 0"),
        (["--width", "0.5"], "width is 0.5, expected 2 to 40 inches"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["figure", "X-F1", str(runs), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) == 1


def test_nothing_is_drawn_of_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = made.chosen()
    recipe = made.recipe("per_epoch", made.line("B = 8", "mu", args))
    made.noted(tmp_path, recipe, (str(args.out),))
    assert main(["figure", "X-F1", str(tmp_path)]) == 3
    missing, error = capsys.readouterr().err.splitlines()
    assert missing == f"missing: 1 of 1 runs of X-F1 is not there: {args.out}"
    again = "run the recipe again as before"
    assert error == f"error: {tmp_path}: has none of the 1 runs of X-F1 to draw; {again}"
    assert not (tmp_path / "X-F1.png").exists()


def test_what_cannot_be_written_is_said(runs: Path, tmp_path: Path) -> None:
    target = tmp_path / "absent" / "figure.png"
    with pytest.raises(OutputFailed, match=r"figure\.png: not written: No such file"):
        run(Args("X-F1", runs, target))
