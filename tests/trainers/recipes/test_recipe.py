"""`python -m trainers recipe`, on data that need no files and in seconds."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rankscope
from rankscope.how import How
from rankscope.runlog import read_log
from rankscope.snapshots import SnapshotWriter
from trainers import images
from trainers.__main__ import main
from trainers.imageargs import Args
from trainers.recipes.estimate import estimate
from trainers.recipes.manifest import manifest_path, read_manifest
from trainers.recipes.naming import parsed
from trainers.recipes.p1 import FIGURES

ROOT = Path(__file__).parents[3]

# Of Fig. 15, the runs with B = 32 and 64, on a tiny MLP and 512 images.
TWO = ("P1-F15", "--only", "*-B[36]?-*", "--data-set", "synthetic", "--scale", "0.01")
TINY = (*TWO, "--set", "arch=mlp-bn-1-8")
ONE = (*TINY, "--only", "*-B32-*")
NAMES = [f"mlp-bn-1-8-synthetic-B{size}-mu0.005-wd0.0005-e8-s0-limit512" for size in (32, 64)]


@pytest.fixture
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process and those that it starts: more threads would add in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["recipe", *arguments, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[0] for line in lines[4:-2]]


def snapshots(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((run / "snapshots").iterdir())}


def test_two_runs_at_a_time_and_the_next_time_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["recipe", *TINY, "--jobs", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == f"python -m trainers figure P1-F15 {tmp_path}\n"
    assert [line.split()[0] for line in said.err.splitlines()] == ["0", "1/2", "2/2"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == NAMES
    for name in NAMES:
        assert [line["epoch"] for line in read_log(tmp_path / name)] == list(range(9))
        assert len(snapshots(tmp_path / name)) == 9
        table = rankscope.analyze(tmp_path / name, how=How(store=False))
        assert {row["status"] for row in table.matrices} == {"ok"}
        assert table.summary[-1]["epoch"] == 8
    manifest = read_manifest(manifest_path("P1-F15", tmp_path))
    assert set(NAMES) < {run.run for panel in manifest.panels for run in panel.runs}

    before = {name: (tmp_path / name / "run.log").read_bytes() for name in NAMES}
    assert main(command) == 0
    assert capsys.readouterr().err == "2 of 2 runs are finished already\n"
    assert {name: (tmp_path / name / "run.log").read_bytes() for name in NAMES} == before
    assert main([*command, "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 of 2 runs to do: 0 updates")


def test_one_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / NAMES[0]
    images.run(Args(run, data="synthetic", limit=32, epochs=1, snapshots=1, seed=5))
    (run / "state.pt").unlink()
    capsys.readouterr()
    assert main(["recipe", *ONE, "--out", str(tmp_path)]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].endswith("failed")
    assert lines[2].startswith(f"failed: {run}: error: {run}")
    assert "another run: model is" in lines[2]
    assert lines[3] == "error: 1 of 1 runs failed; run the recipe again to go on"


@pytest.mark.usefixtures("_one_thread")
def test_what_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    longer = [*ONE, "--set", "epochs=60", "--set", "every=30", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "trainers", "recipe", *longer]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    run = tmp_path / (NAMES[0].replace("e8", "e60") + "-every30")
    wait_for_epoch(process, run, 3)
    process.terminate()
    assert process.wait(60) == 130
    reached = len(read_log(run))
    assert reached < 60
    SnapshotWriter(run).close()  # refused while another process writes there: none does
    assert len(read_log(run)) == reached

    assert main(["recipe", *longer]) == 0
    log = (run / "run.log").read_text()
    assert log.count("$ python -m trainers") == 2
    assert "\nepoch 60/60" in log
    whole = parsed(shlex.split(log.splitlines()[0])[5:])
    images.run(replace(whole, out=tmp_path / "whole"))
    assert snapshots(run) == snapshots(tmp_path / "whole")
    assert len(snapshots(run)) == 3


def wait_for_epoch(process: subprocess.Popen[bytes], run: Path, epoch: int) -> None:
    end = time.monotonic() + 300
    while not ((run / "log.jsonl").exists() and len(read_log(run)) > epoch):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)


class TestChoosing:
    def test_a_panel_a_pattern_and_seeds(self, capsys: pytest.CaptureFixture[str]) -> None:
        everything = listed(capsys, "P1-F4", "--out", "none")
        assert len(everything) == 18
        assert listed(capsys, "P1-F4", "--out", "none", "--panel", "2") == everything[6:12]
        some = listed(capsys, "P1-F4", "--out", "none", "--panel", "2", "--only", "*-B4-*")
        assert some == ["resnet18-cifar10-B4-mu0.005-wd0.006-e500-s0"]
        both = listed(
            capsys, "P1-F4", "--out", "none", "--panel", "2", "--only", "*-B4-*", "--seeds", "2"
        )
        assert both == [*some, some[0].replace("-s0", "-s1")]

    def test_every_departure_has_an_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        (name,) = listed(
            capsys, "P1-F18", "--out", "none", "--lr-factor", "0.2", "--no-augment", "--leaky-relu"
        )
        assert name.endswith("-s0-no-augment-leaky-relu-lr-factor0.2-snapshots1")
        (name,) = listed(capsys, "P1-F18", "--out", "none", "--as-code")
        assert name.endswith("-s0-no-augment-lr-factor0.2-snapshots1")

    def test_listing_writes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listed(capsys, "P1-F1", "--out", str(tmp_path / "none"))
        assert not (tmp_path / "none").exists()

    def test_a_list_may_be_for_a_machine_with_a_gpu(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        command = ["digits-bound", "--device", "cuda", "--out", str(tmp_path / "none")]
        assert len(listed(capsys, *command)) == 2
        assert main(["recipe", *command]) == 2
        assert "device is cuda" in capsys.readouterr().err
        assert not (tmp_path / "none").exists()

    def test_the_help_names_every_recipe(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["recipe", "--help"])
        said = capsys.readouterr().out
        for recipe in FIGURES:
            assert f"  {recipe.name:14}{recipe.title}" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["P1-F19"], 2, "no recipe 'P1-F19'; there are P1-F1, P1-F2"),
        (["P1-F2"], 2, "cifar10 is read from files: --data DIR"),
        (["P1-F13", "--data", "nowhere", "--panel", "3"], 3, "nowhere: is no directory"),
        (["P1-F2", "--panel", "4"], 2, "panel is 4, P1-F2 has 1 to 3"),
        (["P1-F2", "--panel", "0"], 2, "panel is 0"),
        (["P1-F2", "--only", "vgg*"], 2, "no run has such a name"),
        (["P1-F2", "--jobs", "0"], 2, "jobs is 0"),
        (["P1-F2", "--set", "mu=1"], 2, "the recipe itself sets or varies --mu"),
        (["P1-F2", "--set", "epochs=x"], 2, "--set epochs=x: "),
        (["digits", "--set", "foo=1"], 2, "--set foo=1: "),
        (["digits", "--device", "tpu"], 2, "device is tpu"),
        (["digits", "--device", "tpu", "--list"], 2, "device is tpu"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert main(["recipe", *arguments, "--out", str(tmp_path / "runs")]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "runs").exists()


class TestEstimate:
    @pytest.mark.parametrize("save", ["weights", "spectra", "both"])
    def test_is_near_what_a_run_takes(self, tmp_path: Path, save: str) -> None:
        args = Args(
            tmp_path,
            arch="mlp-bn-2-100",
            data="synthetic",
            limit=100,
            epochs=4,
            every=2,
            steps=(5,),
            burst=1 if save == "spectra" else 2,
            momentum=0.9,
            save=save,  # type: ignore[arg-type]
        )
        images.run(args)
        size = estimate(args)
        assert size.updates == read_log(tmp_path)[-1]["step"] == 24
        assert size.images == 24 * 16
        files = [*(tmp_path / "snapshots").iterdir(), tmp_path / "state.pt"]
        spectra = tmp_path / "spectra"
        files += [file for file in spectra.rglob("*") if file.is_file()] if spectra.exists() else []
        assert sum(file.stat().st_size for file in files) == pytest.approx(size.disk, rel=0.1)

    def test_of_the_paper(self) -> None:
        run = FIGURES[1].runs[0]
        size = estimate(run)
        assert (run.batch_size, size.updates, size.images) == (4, 500 * 12_500, 500 * 50_000)
        # 45 MB of state, and 501 times 53 kB of spectra.
        assert size.disk == pytest.approx(45e6 + 501 * 53e3, rel=0.02)
