"""What the system refuses, and what is printed into a build's log: one line, the right code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]

# What GitHub's runner, Azure Pipelines and TeamCity obey.
ORDERS = ("::error::x", "##[error]y", "##vso[task.z]", "##teamcity[w]")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file({"w": np.eye(4, dtype=np.float32)}, tmp_path / "m.safetensors")
    return tmp_path


def child(*arguments: str, out: str | None = None, **environment: str) -> tuple[int, str, str]:
    """The command in a process, its stdout a file where that is told; code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "rankscope", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if out is None else os.open(out, os.O_WRONLY),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.returncode, done.stdout, done.stderr


LONG_NAME = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "m.safetensors", "--update", "--baseline", LONG_NAME),
        ("check", "m.safetensors", "-o", f"{LONG_NAME}.json"),
        ("baseline", "m.safetensors", "-o", LONG_NAME),
        ("diff", "m.safetensors", "m.safetensors", "-o", f"{LONG_NAME}.json"),
        ("inspect", "m.safetensors", "-o", f"{LONG_NAME}.json"),
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_a_name_that_no_file_can_have(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (3, "")
    assert re.fullmatch(r"error: n+(\.json)?: File name too long\n", ended.err)


def test_a_baseline_that_cannot_be_written_is_told_before_the_work(run: Run) -> None:
    ended = run("check", "nothing.safetensors", "--baseline", "no/where.json", "--update")
    assert ended.code == 2
    assert ended.err == "error: no/where.json: there is no directory no\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize(
    "arguments", [("inspect", "m.safetensors"), ("check", "m.safetensors", "--format", "json")]
)
def test_a_full_disk_behind_stdout(arguments: tuple[str, ...]) -> None:
    code, _, err = child(*arguments, out="/dev/full")
    assert (code, err) == (4, "error: No space left on device\n")


@pytest.mark.parametrize("form", ["text", "junit", "github", "markdown"])
def test_a_name_that_the_encoding_has_no_letters_for(here: Path, form: str) -> None:
    save_file({"größe": np.eye(4, dtype=np.float32)}, here / "m.safetensors")
    arguments = ("check", "m.safetensors", "--rule", "rank >= 9", "--format", form)
    code, out, err = child(*arguments, "--no-store", PYTHONIOENCODING="ascii")
    assert (code, err) == (1, "")
    assert r"gr\xf6\xdfe" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "m.safetensors"),
        ("analyze", "m.safetensors", "--no-store"),
        ("diff", "m.safetensors", "n.safetensors", "--no-store", "--all"),
        ("check", "m.safetensors", "--rule", "rank >= 99", "--no-store"),
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_no_name_is_an_order_to_a_ci_system(
    here: Path, run: Run, arguments: tuple[str, ...]
) -> None:
    for name, factor in (("m", 1), ("n", 3)):
        tensors = {one: np.eye(3, dtype=np.float32) * (factor + i) for i, one in enumerate(ORDERS)}
        save_file(tensors, here / f"{name}.safetensors")
    flag = ("--format", "json") if arguments[0] == "check" else ("--json",)
    texts = [run(*arguments).out]
    document = run(*arguments, *flag).out
    assert json.loads(document)
    for text in (*texts, document):
        assert "teamcity[w]" in text
        assert not re.search(r"^\s*::|##\w*\[", text, re.MULTILINE)


def test_no_path_is_an_order_to_a_ci_system(here: Path, run: Run) -> None:
    ended = run("baseline", "m.safetensors", "-o", "##[error]x.json", "--store", "##[group]")
    assert ended.code == 0
    assert ended.err == "wrote \\x23\\x23[error]x.json\n"


def test_a_broken_link_is_no_reason_to_check_without_rules(here: Path, run: Run) -> None:
    (here / "rankscope.toml").symlink_to("nowhere")
    ended = run("check", "m.safetensors")
    assert ended.code == 3
    assert ended.err.endswith("rankscope.toml: cannot be opened: No such file or directory\n")


HUGE = "1" + "0" * 400


def test_a_threshold_that_no_float_holds(here: Path, run: Run) -> None:
    (here / "rankscope.toml").write_text(f"eps = {HUGE}\n")
    ended = run("check", "m.safetensors")
    assert ended.code == 2
    assert "expected a number or several" in ended.err
    (here / "rankscope.toml").unlink()
    assert run("baseline", "m.safetensors", "-o", "r.json").code == 0
    text = (here / "r.json").read_text()
    assert text.count('"eps": [0.001]') == 1
    for value in (HUGE, "NaN", "true", '"1"'):
        (here / "r.json").write_text(text.replace('"eps": [0.001]', f'"eps": [{value}]'))
        ended = run("check", "m.safetensors", "--baseline", "r.json")
        assert ended.code == 3
        assert "question.eps is [" in ended.err
        assert "expected a list of numbers" in ended.err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("rule", "code"), [("rank >= 4", 0), ("rank >= 5", 1), ("rank <", 2)])
def test_a_closed_stream_leaves_the_exit_code(closed: str, rule: str, code: int) -> None:
    command = f"{sys.executable} -m rankscope check m.safetensors --rule '{rule}' {closed}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command], env=env, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
