"""`rankscope report`: what it writes, says and exits with. What is on the page: tests/pages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.cli.conftest import Run
from tests.rundirs import Recipe, write_run

RNG = np.random.default_rng(2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = {f"w{i}": RNG.standard_normal((20, 12)).astype(np.float32) for i in range(3)}
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors | {"bias": np.ones(3)}, path)
    return path


def held(page: Path) -> dict[str, Any]:
    """The document that a page holds."""
    text = page.read_text("utf-8")
    start = text.index('id="data">') + len('id="data">')
    found: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return found


def test_a_page_named_report_unless_told_otherwise(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    ended = run("report", "model.safetensors")
    assert (ended.code, ended.out, ended.err) == (0, "", "wrote report.html\n")
    document = held(model.parent / "report.html")
    assert document["kind"] == "model"
    assert document["command"] == "rankscope report model.safetensors"


def test_its_numbers_are_those_of_analyze(run: Run, model: Path) -> None:
    options = ("--eps", "0.1", "--norm", "spectral", "--exclude", "w1", "-m", "rank")
    page, table = model.parent / "p.html", model.parent / "t.json"
    assert run("report", model, *options, "-o", page).code == 0
    assert run("analyze", model, *options, "-o", table).code == 0
    rows = json.loads(table.read_text("utf-8"))["matrices"]
    document = held(page)
    assert (document["eps"], document["norm"]) == ([0.1], "spectral")
    assert [(row["name"], *row["values"]) for row in document["parts"]["model"]["rows"]] == [
        (row["name"], row["rank"]) for row in rows
    ]
    assert [curve["name"] for curve in document["spectra"]["curves"]["curves"]] == ["w0", "w2"]


def test_incomplete_is_written_all_the_same(run: Run, model: Path) -> None:
    tensors = {"good": np.eye(3), "bad": np.full((2, 2), np.nan)}
    safetensors.numpy.save_file(tensors, model)
    page = model.parent / "p.html"
    ended = run("report", model, "-o", page)
    assert ended.code == 4
    assert "nonfinite: bad: holds NaN or infinity\n" in ended.err
    assert ended.err.endswith("incomplete: not everything could be measured (exit code 4)\n")
    assert [row["name"] for row in held(page)["skipped"]] == ["bad"]


def test_since_compares(run: Run, model: Path) -> None:
    moved = safetensors.numpy.load_file(model)
    moved["w1"] += 1.0
    after = model.parent / "after.safetensors"
    safetensors.numpy.save_file(moved, after)
    page = model.parent / "p.html"
    ended = run("report", after, "--since", model, "-o", page)
    assert (ended.code, ended.err) == (0, f"wrote {page}\n")
    document = held(page)
    assert document["kind"] == "diff"
    assert [one["name"] for one in document["spectra"]["moved"]["curves"]] == ["w1"]


@pytest.mark.parametrize("count", [1, 2])
def test_runs(run: Run, tmp_path: Path, count: int) -> None:
    for i in range(count):
        snapshots = {step: {"w": RNG.standard_normal((6, 5))} for step in (0, 5)}
        write_run(tmp_path / f"run{i}", snapshots, Recipe(batch=2 + i))
    page = tmp_path / "p.html"
    assert run("report", *(tmp_path / f"run{i}" for i in range(count)), "-o", page).code == 0
    assert held(page)["kind"] == ("run" if count == 1 else "sweep")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "page.pdf"], 2, "page.pdf: suffix '.pdf' is no page's, expected .html or .htm"),
        (["-o", "nowhere/page.html"], 2, "there is no directory nowhere"),
        (["-o", "folder.html"], 2, "is a directory, expected the name of a file"),
        (["--since", "other.safetensors"], 3, "other.safetensors: no such file or directory"),
        (["model.safetensors", "--since", "model.safetensors"], 2, "--since compares one PATH"),
        (["--since", "model.safetensors", "--B", "8"], 2, "--since compares one PATH"),
        (["--since", "model.safetensors", "--average", "all"], 2, "--since compares one PATH"),
        (["--lambda", "1", "--weight-decay", "2"], 2, "exclude each other"),
        (["--eps", "-1"], 2, "eps is -1.0, expected a number of at least 0"),
        (["-m", "rnak"], 2, "did you mean rank?"),
        (["--include", "x*"], 2, "x*"),
    ],
)
def test_what_makes_no_page(
    run: Run,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(model.parent)
    Path("folder.html").mkdir()
    Path("report.html").write_text("what was there before", "utf-8")
    ended = run("report", "model.safetensors", *arguments)
    assert ended.code == code
    # A box is drawn around what typer says.
    assert message in " ".join(ended.err.replace("│", "").split())
    assert Path("report.html").read_text("utf-8") == "what was there before"


def test_a_source_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "weights.html"
    safetensors.numpy.save_file({"w": np.eye(3)}, source)
    before = source.read_bytes()
    link = tmp_path / "link.html"
    link.symlink_to(source)
    for target in (source, link):
        ended = run("report", source, "-o", target)
        assert ended.code == 2
        assert "holds the weights that were asked for; choose another file" in ended.err
    assert source.read_bytes() == before


def test_a_page_that_fails_leaves_the_old_one(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = model.parent / "p.html"
    page.write_text("old", "utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    ended = run("report", model, "-o", page, "--no-store")
    assert (ended.code, ended.err) == (4, f"error: {page}: not written: No space left on device\n")
    assert page.read_text("utf-8") == "old"
    assert sorted(child.suffix for child in model.parent.iterdir()) == [".html", ".safetensors"]


def test_without_plotly_it_says_what_to_install(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "plotly" else find(name)
    )
    ended = run("report", model, "-o", model.parent / "p.html")
    assert ended.code == 2
    assert "pip install 'rankscope[report]'" in ended.err


def test_a_hostile_path_is_told_inert(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "a\x1b[31m.safetensors"
    safetensors.numpy.save_file({"w": np.eye(3)}, source)
    ended = run("report", source, "-o", tmp_path / "p\x1b[0m.html")
    assert ended.code == 0
    assert "\x1b" not in ended.err
    assert "\x1b" not in (tmp_path / "p\x1b[0m.html").read_text("utf-8")
