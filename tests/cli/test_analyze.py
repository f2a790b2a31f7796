"""`rankscope analyze` as its user meets it: output, files, errors, exit codes."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from rankscope.cli import options
from rankscope.gate import baseline
from rankscope.metrics import METRICS
from tests.cli.conftest import Run
from tests.matrix import low_rank

DEFAULT_METRICS = {
    "rank",
    "approximation_rank",
    "numerical_rank",
    "effective_rank",
    "stable_rank",
    "participation_ratio",
    "energy_rank",
    "spectral_norm",
    "frobenius_norm",
    "nuclear_norm",
    "nuclear_ratio",
    "condition_number",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        "embed.weight": rng.standard_normal((50, 16)).astype(np.float32),
        "layer.0.weight": low_rank(24, 16, 4).astype(np.float32),
        "layer.1.weight": rng.standard_normal((24, 16)).astype(np.float32),
        "conv.weight": rng.standard_normal((8, 4, 3, 3)).astype(np.float32),
        "layer.0.bias": np.ones(24, np.float32),
        "position_ids": np.arange(12).reshape(3, 4),
        "zero.weight": np.zeros((4, 4), np.float32),
    }
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A model of which one matrix holds NaN."""
    tensors = {
        "good.weight": np.eye(4, dtype=np.float32),
        "nan.weight": np.full((4, 4), np.nan, np.float32),
    }
    path = tmp_path / "broken.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    folder.mkdir()
    for step in (100, 20, 3):
        tensors = {"w": low_rank(12, 10, 1 + step % 7).astype(np.float32)}
        safetensors.numpy.save_file(tensors, folder / f"step-{step}.safetensors")
    return folder


def test_table(run: Run, model: Path) -> None:
    ended = run("analyze", model)
    assert ended.code == 0
    assert ended.err == ""
    assert str(model) in ended.out
    for name in ("embed.weight", "layer.0.weight", "conv.weight"):
        assert name in ended.out
    assert "not measured: 1 vector; position_ids (int64" in ended.out


LATER = ("runs", "trends", "crossings")  # of several snapshots or runs


def test_json_rows_are_flat_and_complete(run: Run, model: Path) -> None:
    document = json.loads(run("analyze", model, "--json").out)
    assert set(document) == {"schema", "provenance", "matrices", "skipped", "summary", *LATER}
    frame = pd.DataFrame(document["matrices"])
    assert {"name", "step", "shape", "dtype", "kind", "status", *DEFAULT_METRICS} <= set(frame)
    by_name = {row["name"]: row for row in document["matrices"]}
    assert by_name["layer.0.weight"]["numerical_rank"] == 4
    assert by_name["layer.0.weight"]["route"] == "direct"
    assert by_name["embed.weight"]["kind"] == "embedding"
    assert by_name["conv.weight"]["shape"] == [8, 36]
    assert by_name["zero.weight"]["effective_rank"] is None
    assert "zero matrix" in by_name["zero.weight"]["notes"]["effective_rank"]
    skipped = {row["name"]: row["reason"] for row in document["skipped"]}
    assert set(skipped) == {"layer.0.bias", "position_ids"}
    listed = {*by_name, *skipped}
    assert listed == set(safetensors.numpy.load_file(model))


def test_several_eps_are_several_columns(run: Run, model: Path) -> None:
    text = run("analyze", model, "--json", "--eps", "0.001", "--eps", "0.01").out
    row = json.loads(text)["matrices"][0]
    assert {"rank@0.001", "rank@0.01", "approximation_rank@0.01"} <= set(row)
    assert "rank" not in row


def test_norms(run: Run, model: Path) -> None:
    found = [
        json.loads(
            run("analyze", model, "--json", "-m", "rank", "--eps", "0.3", "--norm", norm).out
        )
        for norm in ("frobenius", "spectral", "none")
    ]
    ranks = [next(r["rank"] for r in d["matrices"] if r["name"] == "layer.1.weight") for d in found]
    assert ranks[0] < ranks[1] <= ranks[2] == 16


def test_metrics_with_parameters(run: Run, model: Path) -> None:
    text = run("analyze", model, "--json", "-m", "schatten_norm(0.5)", "-m", "rank").out
    row = json.loads(text)["matrices"][0]
    assert "schatten_norm(p=0.5)" in row
    assert "effective_rank" not in row


def test_series_is_ordered_by_step_and_summed_up(run: Run, series: Path) -> None:
    document = json.loads(run("analyze", series, "--json").out)
    assert [row["step"] for row in document["matrices"]] == [3, 20, 100]
    assert [row["rank"] for row in document["summary"]] == [4, 7, 3]
    out = run("analyze", series).out
    assert "average over 1 matrix\n" in out
    assert "at step 100" in out


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "html"])
def test_output_files(run: Run, model: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out.{suffix}"
    ended = run("analyze", model, "-o", target)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"wrote {target}\n"
    text = target.read_text()
    assert "layer.0.weight" in text.replace("\\", "")
    if suffix == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert len(rows) == 5
    assert oct(target.stat().st_mode & 0o777) == oct(0o666 & ~umask())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.pt"], 3, "error: nowhere.pt: no such file or directory"),
        (["MODEL", "-m", "rnk"], 2, "did you mean rank?"),
        (["MODEL", "-m", "schatten_norm"], 2, "expected schatten_norm(p)"),
        (["MODEL", "-m", "energy_rank(2)"], 2, "expected a share within (0, 1]"),
        (["MODEL", "-m", "energy_rank(x)"], 2, "of the wrong kind"),
        (["MODEL", "--eps", "-1"], 2, "eps is -1.0, expected a number of at least 0"),
        (["MODEL", "--eps", "nan"], 2, "eps is nan"),
        (["MODEL", "--include", "layr*"], 2, "matches no matrix; nearest: "),
        (["MODEL", "-o", "out.xls"], 2, "expected one of .json"),
        (["MODEL", "--store", "x", "--no-store"], 2, "exclude each other"),
        (["MODEL", "--norm", "nuclear"], 2, "nuclear"),
    ],
)
def test_errors_teach(run: Run, model: Path, arguments: list[str], code: int, said: str) -> None:
    ended = run("analyze", *(str(model) if a == "MODEL" else a for a in arguments))
    assert ended.code == code
    assert ended.out == ""
    assert said in " ".join(ended.err.replace("│", " ").split())
    if ended.err.startswith("error"):
        assert ended.err.count("\n") == 1


def test_hostile_name_in_an_error_does_not_act(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "w\x1b[31m\n.safetensors"
    path.write_bytes(b"")
    ended = run("analyze", path)
    assert ended.code == 3
    assert "\x1b" not in ended.err
    assert ended.err.count("\n") == 1


def test_one_bad_snapshot_is_incomplete(run: Run, series: Path) -> None:
    (series / "step-50.safetensors").write_bytes(b"\x00" * 4)
    ended = run("analyze", series)
    assert ended.code == 4
    assert "step-50.safetensors: 4 bytes, expected at least" in ended.out
    assert "incomplete" in ended.err
    document = json.loads(run("analyze", series, "--json").out)
    assert [row["step"] for row in document["summary"]] == [3, 20, 100]


def test_an_output_that_cannot_be_written_leaves_the_old_one(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rankscope.writing.os.fsync", full)
    ended = run("analyze", model, "--no-store", "-o", target)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == f"error: {target}: not written: No space left on device\n"
    assert target.read_text() == "old"


@pytest.mark.parametrize("where", ["missing/out.csv", "model.safetensors/out.csv", "dir.csv"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("worked first")

    monkeypatch.setattr("rankscope.api.analyze", forbidden)
    (tmp_path / "dir.csv").mkdir()
    target = tmp_path / where
    ended = run("analyze", model, "-o", target)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {target}: ")
    assert ended.err.count("\n") == 1


def test_a_directory_without_permission_is_told_before_the_work(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root, who may run the tests, may write anywhere.
    monkeypatch.setattr("rankscope.cli.output.os.access", lambda path, _: path != tmp_path)
    ended = run("analyze", model, "-o", tmp_path / "out.csv")
    assert ended.code == 2
    assert "no permission to write" in ended.err


FINAL = "incomplete: not everything could be measured (exit code 4)"


@pytest.mark.parametrize("way", ["-o", "--json"])
def test_what_is_lacking_is_told_on_stderr_when_there_is_no_table(
    run: Run, series: Path, tmp_path: Path, way: str
) -> None:
    for step in range(200, 212):
        (series / f"step-{step}.safetensors").write_bytes(b"\x00" * 4)
    values = {"w": np.full((3, 3), np.inf)}
    safetensors.numpy.save_file(values, series / "step-300.safetensors")
    target = tmp_path / "out.csv"
    arguments = ["-o", target] if way == "-o" else ["--json"]
    ended = run("analyze", series, *arguments)
    assert ended.code == 4
    lines = ended.err.splitlines()
    if way == "-o":
        assert lines.pop(0) == f"wrote {target}"
    assert lines[0].startswith(f"incomplete: {series / 'step-200.safetensors'}: 4 bytes")
    assert lines[10:] == [
        "incomplete: 2 more (--all shows every one)",
        "nonfinite: w at step 300: holds NaN or infinity",
        FINAL,
    ]
    everything = run("analyze", series, *arguments, "--all").err
    assert everything.count(": 4 bytes") == 12
    assert run("analyze", series).err == FINAL + "\n"  # the table says the rest


def test_nan_is_incomplete_and_named(run: Run, broken: Path) -> None:
    ended = run("analyze", broken)
    assert ended.code == 4
    assert ended.err == FINAL + "\n"
    assert "nonfinite: nan.weight: holds NaN or infinity" in ended.out
    again = run("analyze", broken, "--json")
    assert again.code == 4
    statuses = {row["name"]: row["status"] for row in json.loads(again.out)["matrices"]}
    assert statuses == {"good.weight": "ok", "nan.weight": "nonfinite"}


@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_nothing_to_measure_is_said(run: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "biases.safetensors"
    safetensors.numpy.save_file({"b": np.ones(3)}, path)
    ended = run(command, path)
    assert (ended.code, ended.err) == (0, "")
    said = [f"{path}: no weight matrices", "not measured: 1 vector"]
    assert ended.out.splitlines()[:2] == said
    os.mkdir(tmp_path / "run")
    for step in (1, 2):
        safetensors.numpy.save_file({"b": np.ones(3)}, tmp_path / f"run/step-{step}.safetensors")
    out = run(command, tmp_path / "run").out
    assert out.startswith(f"{tmp_path / 'run'}: no weight matrices\n")
    assert out.count("no weight") == 1


def test_inspect_shows_the_last_snapshot_of_a_series(run: Run, series: Path) -> None:
    out = run("inspect", series).out
    assert f"{series} at step 100, the last of 3 snapshots (--all shows every one)\n" in out
    assert len(re.findall(r"^w ", out, re.MULTILINE)) == 1
    assert "3 matrices, 360 parameters, 1.44 kB to read" in out
    out = run("inspect", series, "--all").out
    assert re.findall(r"^ *(\d+) +w ", out, re.MULTILINE) == ["3", "20", "100"]
    assert f"{series}\n" in out
    single = run("inspect", series / "step-20.safetensors").out
    assert "1 matrix, 120 parameters" in single


def test_inspect_tells_on_stderr_what_is_missing(run: Run, series: Path) -> None:
    bad = series / "step-50.safetensors"
    bad.write_bytes(b"\x00" * 4)
    ended = run("inspect", series, "--json")
    assert ended.code == 4
    first, last = ended.err.splitlines()
    assert first.startswith(f"incomplete: {bad}: 4 bytes")
    assert last == FINAL
    assert json.loads(ended.out)["sources"] == [str(series)]
    assert run("inspect", series).err == FINAL + "\n"


def test_help_names_every_metric() -> None:
    assert tuple(m.name for m in METRICS if m.default) == options.DEFAULT_METRICS
    assert baseline.METRICS == options.BASELINE_METRICS
    others = tuple(
        f"{m.name}({','.join(m.parameters)})" if m.parameters else m.name
        for m in METRICS
        if not m.default
    )
    assert others == options.OTHER_METRICS


def test_help_of_analyze_shows_the_metrics(run: Run) -> None:
    out = " ".join(run("analyze", "--help").out.replace("│", " ").split())
    for metric in METRICS:
        assert metric.name in out


def test_second_run_decomposes_nothing(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(model, (1e9, 1e9))  # old enough to be remembered
    first = json.loads(run("analyze", model, "--json").out)

    def forbidden(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("rankscope.worker.solve", forbidden)
    monkeypatch.setattr("rankscope.worker.open_checkpoint", forbidden)
    second = json.loads(run("analyze", model, "--json").out)
    assert second["matrices"] == first["matrices"]
    run("analyze", model, "--eps", "0.1", "--norm", "spectral", "-m", "rank")


def child(arguments: list[object], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rankscope", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_broken_pipe_is_silent(model: Path, tmp_path: Path) -> None:
    process = child(["analyze", model, "--json"], {"XDG_CACHE_HOME": str(tmp_path)})
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 0
    process.stderr.close()


def test_no_color_and_pipes_have_no_escapes(model: Path, tmp_path: Path) -> None:
    for env in ({}, {"NO_COLOR": "1"}):
        process = child(["analyze", model], {"XDG_CACHE_HOME": str(tmp_path), **env})
        out, err = process.communicate(timeout=30)
        assert "\x1b" not in out + err


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "big.safetensors"
    small = {f"s{i}": rng.standard_normal((300, 300)) for i in range(3)}
    big = {f"b{i}": rng.standard_normal((2500, 2500)) for i in range(4)}
    safetensors.numpy.save_file({**small, **big}, path)
    os.utime(path, (1e9, 1e9))
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = child(["analyze", path, "--workers", "1"], env, start_new_session=True)
    store = tmp_path / "cache" / "rankscope" / "spectra.sqlite3"
    deadline = time.monotonic() + 60
    while not store.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == "interrupted; what was finished is kept\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["analyze"], "interrupted; what was finished is kept\n"),
        (["analyze", "--no-store"], "interrupted\n"),
        (["inspect"], "interrupted\n"),
    ],
)
def test_ctrl_c_promises_nothing_that_is_not_so(
    run: Run, model: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rankscope.inventory.take_inventory", interrupted)
    monkeypatch.setattr("rankscope.measure.take_inventory", interrupted)
    command, *options = arguments
    ended = run(command, model, *options)
    assert (ended.code, ended.out, ended.err) == (130, "", said)


@pytest.mark.parametrize("command", [[], ["analyze"], ["inspect"]])
def test_help_has_an_example_per_command(run: Run, command: list[str]) -> None:
    ended = run(*command, "--help")
    assert ended.code == 0
    if command:
        assert f"rankscope {command[0]} " in ended.out.split("Examples", 1)[1]


def test_version(run: Run) -> None:
    from rankscope import __version__

    assert run("--version").out == f"rankscope {__version__}\n"


def test_inspect_reads_headers_only(run: Run, tmp_path: Path) -> None:
    """A header that declares 100 GB over a sparse file: nothing but the header can be read."""
    size = 100 * 10**9
    rows = size // (2 * 8192)
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [rows, 8192], "data_offsets": [0, rows * 8192 * 2]}}
    ).encode()
    path = tmp_path / "huge.safetensors"
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + rows * 8192 * 2)
    ended = run("inspect", path, "--json")
    assert ended.code == 0
    cost = json.loads(ended.out)["cost"]
    assert cost["bytes"] == rows * 8192 * 2
    assert cost["flops"] == pytest.approx(rows * 8192**2 + 4 / 3 * 8192**3)
    assert "GFLOP" in run("inspect", path).out
