"""`rankscope diff`: what it prints, writes and exits with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.cli.conftest import Run
from tests.matrix import low_rank


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    tensors = {f"w{i}": rng.standard_normal((20, 12)).astype(np.float32) for i in range(4)}
    moved = tensors | {"w1": tensors["w1"] + low_rank(20, 12, 3).astype(np.float32)}
    for name, content in (("a", tensors), ("b", moved)):
        safetensors.numpy.save_file(content, tmp_path / f"{name}.safetensors")
    return tmp_path / "a.safetensors", tmp_path / "b.safetensors"


def test_a_difference_is_no_failure(run: Run, pair: tuple[Path, Path]) -> None:
    ended = run("diff", *pair)
    assert (ended.code, ended.err) == (0, "")
    assert "3 of 4 matrices unchanged; 1 changed" in ended.out
    assert "delta" not in ended.out
    assert [line.split()[0] for line in ended.out.splitlines() if line[:1] == "w"] == ["w1"]


def test_delta_tells_directions(run: Run, pair: tuple[Path, Path]) -> None:
    ended = run("diff", *pair, "--delta")
    assert ended.code == 0
    assert "1 moved, by" in ended.out
    assert "of its norm in 3 directions" in ended.out


def test_equal_models_are_one_line(run: Run, pair: tuple[Path, Path]) -> None:
    ended = run("diff", pair[0], pair[0], "--delta")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "4 of 4 matrices unchanged")
    assert "w1" in run("diff", pair[0], pair[0], "--all").out


def test_json_is_the_document(run: Run, pair: tuple[Path, Path]) -> None:
    options = (
        "-m",
        "rank",
        "--eps",
        0.1,
        "--eps",
        0.01,
        "--norm",
        "spectral",
        "--include",
        "w[01]",
    )
    ended = run("diff", *pair, "--delta", "--json", *options, "--workers", 1, "--no-store")
    document = json.loads(ended.out)
    assert document["schema"] == "rankscope/diff/1"
    assert [row["name"] for row in document["matrices"]] == ["w1", "w0"]
    assert document["provenance"]["columns"] == ["rank@0.1", "rank@0.01"]
    assert document["provenance"]["norm"] == "spectral"
    assert document["matrices"][0]["delta_numerical_rank"] == 3


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html"])
def test_writes_any_view(run: Run, pair: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"d{suffix}"
    ended = run("diff", *pair, "--delta", "-o", target)
    assert (ended.code, ended.out, ended.err) == (0, "", f"wrote {target}\n")
    assert "w1" in target.read_text()


def test_the_store_is_used_and_verify_reads_again(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "here.sqlite3"
    first = run("diff", *pair, "--delta", "--store", store)
    assert store.exists()
    assert run("diff", *pair, "--delta", "--store", store).out == first.out
    assert run("diff", *pair, "--delta", "--store", store, "--verify").out == first.out


def test_incomplete(run: Run, pair: tuple[Path, Path]) -> None:
    tensors = safetensors.numpy.load_file(pair[1])
    tensors["w2"][0, 0] = np.inf
    safetensors.numpy.save_file(tensors, pair[1])
    ended = run("diff", *pair, "--json")
    assert ended.code == 4
    assert "nonfinite: w2: holds NaN or infinity" in ended.err
    ended = run("diff", *pair)
    assert ended.code == 4
    assert "nonfinite: w2: holds NaN or infinity" in ended.out
    assert "ok → nonfinite" in ended.out


def test_wrong_usage_and_bad_input(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("diff", *pair, "--include", "nothing*").code == 2
    assert run("diff", *pair, "-m", "rnak").code == 2
    assert run("diff", *pair, "--store", tmp_path / "s", "--no-store").code == 2
    assert run("diff", *pair, "-o", "x.png").code == 2
    assert run("diff", pair[0]).code == 2
    ended = run("diff", pair[0], tmp_path / "nowhere")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"error: {tmp_path / 'nowhere'}: no such file or directory\n"
