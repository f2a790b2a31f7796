"""`rankscope plot` and `analyze --plot`: what they write, print and exit with."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from tests.figures import made

ROOT = Path(__file__).parents[2]
BRAILLE = {chr(code) for code in range(0x2801, 0x2900)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    arrays = {"a.weight": made.matrix(9, 7, 4), "b.weight": made.matrix(12, 12, 5)}
    return made.saved(tmp_path / "m.safetensors", arrays)


def texts(path: Path) -> list[str]:
    root = ET.parse(path).getroot()
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


class TestPlot:
    @pytest.mark.parametrize(
        ("name", "beginning"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.PDF", b"%PDF")]
    )
    def test_the_suffix_decides(
        self, run: Run, model: Path, tmp_path: Path, name: str, beginning: bytes
    ) -> None:
        ended = run("plot", model, "-o", tmp_path / name)
        assert (ended.code, ended.out) == (0, "")
        assert ended.err == f"wrote {tmp_path / name}\n"
        assert (tmp_path / name).read_bytes().startswith(beginning)

    def test_options_reach_the_figure(self, run: Run, model: Path, tmp_path: Path) -> None:
        target = tmp_path / "f.svg"
        options = ("--eps", "0.1", "--norm", "spectral", "--include", "a.*", "--width", "3.3")
        assert run("plot", model, "-o", target, *options).code == 0
        found = texts(target)
        assert "ε = 0.1 of σ₁" in found
        assert "a.weight" in found
        assert "b.weight" not in found
        assert ET.parse(target).getroot().attrib["width"] == f"{3.3 * 72:g}pt"

    def test_kinds_and_metrics(self, run: Run, tmp_path: Path) -> None:
        path = made.run(tmp_path / "run", 4)
        for kind in ("spectrum", "rank", "norm-ratio", "bound", "heatmap"):
            assert run("plot", path, "--kind", kind, "-o", tmp_path / f"{kind}.svg").code == 0
        assert run("plot", path, "-m", "effective_rank", "-o", tmp_path / "e.svg").code == 0
        assert "run: effective rank over training" in texts(tmp_path / "e.svg")
        assert run("plot", path, "-o", tmp_path / "usual.svg").code == 0
        usual, rank = (tmp_path / f"{name}.svg" for name in ("usual", "rank"))
        assert usual.read_bytes() == rank.read_bytes()

    def test_what_a_run_does_not_say_can_be_stated(self, run: Run, tmp_path: Path) -> None:
        path = made.run(tmp_path / "run", 4, inputs=None)
        target = tmp_path / "f.svg"
        refused = run("plot", path, "--kind", "bound", "-o", target)
        assert refused.code == 2
        assert "no bound to draw: m_l is not recorded; give --m" in refused.err
        assert not target.exists()
        assert run("plot", path, "--kind", "bound", "--m", "1", "-o", target).code == 0

    def test_incomplete_is_drawn_and_told(self, run: Run, tmp_path: Path) -> None:
        arrays = {"a": made.matrix(5, 5, 2), "b": np.full((3, 3), np.nan)}
        path = made.saved(tmp_path / "m.safetensors", arrays)
        ended = run("plot", path, "-o", tmp_path / "f.svg")
        assert ended.code == 4
        assert ended.out == ""
        _, reason, last = ended.err.splitlines()
        assert reason.startswith("nonfinite: b: ")
        assert last == "incomplete: not everything could be measured (exit code 4)"
        assert "a" in texts(tmp_path / "f.svg")


class TestRefused:
    def test_nothing_to_draw_is_an_error_and_no_file(self, run: Run, tmp_path: Path) -> None:
        path = made.saved(tmp_path / "m.safetensors", {"b": np.full((3, 3), np.nan)})
        ended = run("plot", path, "-o", tmp_path / "f.svg")
        assert ended.code == 3
        assert ended.err.startswith(f"error: {path}: nothing to draw: no matrix has a spectrum; b:")
        assert not (tmp_path / "f.svg").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--kind", "norm-ratio"), "norm-ratio needs two snapshots of a run; spectrum, rank"),
            (("--kind", "bound"), "no bound to draw"),
            (("--kind", "spectrum", "-m", "rank"), "spectrum shows no metric"),
            (("-m", "nonsense"), "metric 'nonsense' is not known"),
            (("--width", "1"), "width is 1, expected 3 to 40 inches"),
            (("--include", "x*"), "x*"),
        ],
    )
    def test_what_makes_no_sense(
        self, run: Run, model: Path, tmp_path: Path, options: tuple[str, ...], message: str
    ) -> None:
        ended = run("plot", model, "-o", tmp_path / "f.svg", *options)
        assert ended.code == 2
        assert message in ended.err
        assert ended.err.startswith("error: ")
        assert not (tmp_path / "f.svg").exists()

    def test_before_anything_is_measured(self, run: Run, tmp_path: Path) -> None:
        absent = tmp_path / "absent.safetensors"
        assert run("plot", absent).code == 2  # no -o
        assert "suffix of no picture" in run("plot", absent, "-o", "f.gif").err
        assert "no directory" in run("plot", absent, "-o", tmp_path / "no" / "f.svg").err
        assert run("plot", absent, "--kind", "pie", "-o", "f.svg").code == 2

    def test_hostile_names_do_nothing(self, run: Run, tmp_path: Path) -> None:
        arrays = {name: made.matrix(6, 5, 3, i) for i, name in enumerate(made.HOSTILE)}
        arrays |= {"\x1b[2J::error::nan": np.full((2, 2), np.nan)}
        path = made.saved(tmp_path / "m.safetensors", arrays)
        for kind in ("spectrum", "rank", "heatmap"):
            ended = run("plot", path, "--kind", kind, "-o", tmp_path / f"{kind}.svg")
            assert ended.code == 4
            assert "\x1b" not in ended.err
            assert "::error" not in ended.err
            content = (tmp_path / f"{kind}.svg").read_text("utf-8")
            assert "\x1b" not in content
            assert "<script" not in content


def on_terminal(*arguments: str, encoding: str = "utf-8", term: str = "xterm") -> str:
    """What a terminal of 80 columns is sent by the command."""
    ours, theirs = os.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": encoding,
        "TERM": term,
        "COLUMNS": "80",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "rankscope", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    sent, end = b"", time.monotonic() + 60
    while time.monotonic() < end and select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        sent += part
    os.close(ours)
    assert process.wait(60) == 0
    return sent.decode("utf-8", "replace")


class TestAnalyzePlot:
    def test_a_terminal_is_shown_the_table_and_then_the_spectra(self, model: Path) -> None:
        shown = on_terminal("analyze", str(model), "-m", "rank", "--plot", "--no-store")
        table, _, curves = shown.partition("singular values over ||W||")
        assert "a.weight" in table
        assert not BRAILLE & set(table)
        assert BRAILLE & set(curves)
        assert "rank 4 of 7" in curves
        assert "rank 5 of 12" in curves

    def test_a_terminal_is_shown_the_rank_of_a_run(self, tmp_path: Path) -> None:
        path = made.run(tmp_path / "run", 4)
        shown = on_terminal("analyze", str(path), "-m", "rank", "--plot", "--no-store")
        assert BRAILLE & set(shown)
        assert "step 0" in shown

    @pytest.mark.parametrize("terminal", [{"encoding": "latin-1"}, {"term": "dumb"}])
    def test_one_that_cannot_is_told_so(self, model: Path, terminal: dict[str, str]) -> None:
        shown = on_terminal("analyze", str(model), "-m", "rank", "--plot", "--no-store", **terminal)
        assert not BRAILLE & set(shown)
        assert shown.count("nothing is drawn") == 1
        assert "a.weight" in shown

    def test_a_pipe_gets_the_table_alone(self, run: Run, model: Path) -> None:
        plain, plotted = run("analyze", model), run("analyze", model, "--plot")
        assert plotted.out == plain.out
        assert plotted.err == "--plot: stdout is no terminal that shows UTF-8, nothing is drawn\n"
        assert plotted.code == 0

    @pytest.mark.parametrize(
        "options", [("--json",), ("-o", "t.json"), ("--spectra", "-o", "t.h5")]
    )
    def test_no_document_is_mixed_with_it(
        self, run: Run, model: Path, options: tuple[str, ...]
    ) -> None:
        ended = run("analyze", model, "--plot", *options)
        assert (ended.code, ended.out) == (2, "")
        assert "--plot" in ended.err

    def test_without_it_the_document_is_as_before(self, run: Run, model: Path) -> None:
        document = json.loads(run("analyze", model, "-m", "rank", "--json").out)
        assert [row["rank"] for row in document["matrices"]] == [4, 5]
