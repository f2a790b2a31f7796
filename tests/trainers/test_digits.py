"""The digits driver: the run directory it writes, and that the same command writes it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from rankscope.errors import UsageError
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from trainers.__main__ import main
from trainers.digits import Args, learning_rate, load_split
from trainers.networks import MlpBn
from trainers.schedule import burst_steps, snapshot_epochs

TINY = ["--depth", "2", "--width", "12", "--B", "64", "--epochs", "5", "--snapshots", "5"]
STEPS = 1347 // 64


def driver(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = driver("digits", "--out", str(out), *TINY, "--lambda", "0.01", "--mu", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"rankscope analyze {out}\n"
    assert "weight decay 0.02 (PyTorch's) = lambda 0.01 (the theorem's)" in done.stderr
    return out


def snapshots(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "snapshots").iterdir())


def test_saves_the_initialisation_and_every_epoch(run_dir: Path) -> None:
    expected = [f"step-{epoch * STEPS:08d}.safetensors" for epoch in range(6)]
    assert [path.name for path in snapshots(run_dir)] == expected


def test_the_record_matches_the_snapshots(run_dir: Path) -> None:
    record = read_run_record(run_dir)
    assert record is not None
    assert record.model == "MLP-BN-2-12"
    assert record.hyperparameters is not None
    assert (record.hyperparameters.weight_decay, record.hyperparameters.lambda_) == (0.02, 0.01)
    # P1's 60, 100 and 200 of 500 epochs are, of 5, all but the third in the first epoch or two.
    assert record.hyperparameters.schedule == ((STEPS, 0.005), (2 * STEPS, 0.0005))
    tensors = safetensors.numpy.load_file(snapshots(run_dir)[0])
    assert {m.name: m.shape for m in record.matrices} == {
        name: tensor.shape for name, tensor in tensors.items() if tensor.ndim == 2
    }
    assert [m.name for m in record.matrices if m.averaged] == ["hidden.0.weight", "hidden.1.weight"]
    assert {m.inputs_per_sample for m in record.matrices} == {1}


def test_logs_every_epoch_with_the_rate_it_ran_at(run_dir: Path) -> None:
    log = read_log(run_dir)
    assert [(line["step"], line["epoch"]) for line in log] == [(e * STEPS, e) for e in range(6)]
    assert [line["lr"] for line in log] == [0.5, 0.5, 0.005, 0.0005, 0.0005, 0.0005]
    assert log[1]["train_loss"] < log[0]["train_loss"]
    assert log[-1]["test_accuracy"] > 0.7


def test_the_last_snapshot_scores_what_the_log_says(run_dir: Path) -> None:
    split = load_split()
    model = MlpBn(64, 2, 12, 10)
    loaded = safetensors.numpy.load_file(snapshots(run_dir)[-1])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in loaded.items()})
    model.eval()
    with torch.no_grad():
        right = model(split.test_samples).argmax(1) == split.test_labels
    assert right.double().mean().item() == read_log(run_dir)[-1]["test_accuracy"]


def test_the_same_command_writes_the_same_bits(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    done = driver("digits", "--out", str(out), *TINY, "--weight-decay", "0.02", "--mu", "0.5")
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(snapshots(out), snapshots(run_dir), strict=True):
        assert ours.name == theirs.name
        assert ours.read_bytes() == theirs.read_bytes()
    assert (out / "log.jsonl").read_bytes() == (run_dir / "log.jsonl").read_bytes()


def test_the_split_is_fixed_stratified_and_standardised() -> None:
    split = load_split()
    assert (tuple(split.train_samples.shape), tuple(split.test_samples.shape)) == (
        (1347, 64),
        (450, 64),
    )
    assert torch.equal(load_split().test_labels, split.test_labels)
    assert np.bincount(split.test_labels.numpy()).min() >= 43
    deviation, mean = torch.std_mean(split.train_samples, dim=0, correction=0)
    assert mean.abs().max() < 1e-5
    assert set(deviation.round(decimals=4).tolist()) <= {0.0, 1.0}


def test_the_schedule_is_p1s_at_500_epochs() -> None:
    args = Args(Path("run"), mu=1.0, epochs=500)
    drops = [e for e in range(1, 500) if learning_rate(args, e) < learning_rate(args, e - 1)]
    assert drops == [60, 100, 200]
    assert learning_rate(args, 499) == pytest.approx(1e-3)


def test_snapshots_are_spread_from_the_first_to_the_last_epoch() -> None:
    assert sorted(snapshot_epochs(240, 40)) == list(range(0, 241, 6))
    assert snapshot_epochs(3, 40) == {0, 1, 2, 3}


def test_a_burst_leads_up_to_each_snapshot() -> None:
    due = snapshot_epochs(6, 2)
    assert sorted(due) == [0, 3, 6]
    assert sorted(burst_steps(due, 10, 3)) == [28, 29, 58, 59]
    # One that is longer than the run up to its snapshot begins with it; no step comes twice.
    assert sorted(burst_steps(snapshot_epochs(2, 2), 10, 15)) == [*range(1, 10), *range(11, 20)]
    assert burst_steps(due, 10, 1) == frozenset()


def test_a_burst_changes_no_other_snapshot(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "burst"
    done = driver(
        "digits", "--out", str(out), *TINY, "--mu", "0.5", "--lambda", "0.01", "--burst=4"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"rankscope analyze {out}\nrankscope certify {out}\n"
    found = {path.name: path for path in snapshots(out)}
    steps = [0, *(end - back for end in range(STEPS, 6 * STEPS, STEPS) for back in (3, 2, 1, 0))]
    assert list(found) == [f"step-{step:08d}.safetensors" for step in steps]
    for path in snapshots(run_dir):
        assert found[path.name].read_bytes() == path.read_bytes()
    assert (out / "log.jsonl").read_bytes() == (run_dir / "log.jsonl").read_bytes()


def test_fifty_consecutive_steps_of_one_epoch(tmp_path: Path) -> None:
    small = ["--depth", "1", "--width", "8", "--epochs", "1", "--snapshots", "1"]
    assert main(["digits", "--out", str(tmp_path), *small, "--burst", "50"]) == 0
    saved = [int(path.stem.removeprefix("step-")) for path in snapshots(tmp_path)]
    assert saved == [0, *range(35, 85)]


def test_nesterov_is_trained_and_recorded(tmp_path: Path) -> None:
    small = ["--depth", "1", "--width", "8", "--B", "64", "--epochs", "1", "--snapshots", "1"]
    weights = {}
    for flags in ((), ("--nesterov",)):
        out = tmp_path / f"run{len(flags)}"
        assert main(["digits", "--out", str(out), *small, "--momentum", "0.9", *flags]) == 0
        record = read_run_record(out)
        assert record is not None
        assert record.optimiser is not None
        assert record.optimiser.nesterov == bool(flags)
        weights[flags] = snapshots(out)[-1].read_bytes()
    assert len(set(weights.values())) == 2
    assert main(["digits", "--out", str(tmp_path / "none"), "--nesterov"]) == 2


def test_an_existing_run_is_refused_in_one_line(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digits", "--out", str(run_dir)]) == 2
    assert capsys.readouterr().err == (
        f"error: {run_dir}: exists already; remove it, or choose another --out\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lambda", "0.1", "--weight-decay", "0.2"],
        ["--out"],
        ["--B", "1"],
        ["--mu", "nan"],
        ["--burst", "0"],
    ],
)
def test_a_wrong_command_ends_with_2(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["digits", "--out", str(tmp_path / "run"), *arguments])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size is 1, expected at least 2"):
        Args(tmp_path, batch_size=1)
    assert main(["digits", "--out", str(tmp_path), "--B", "1348"]) == 2
