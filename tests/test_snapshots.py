"""SnapshotWriter: what ends up in the run directory, and when."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

from rankscope.checkpoints import reader_for
from rankscope.errors import InputRejected, OutputFailed, UsageError
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshotfiles import SUFFIXES, WRITERS, Format
from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    RunRecord,
    SnapshotWriter,
    due,
)

RECORD = RunRecord(
    model="tiny",
    matrices=(MatrixRecord("w", "linear", (2, 3), 1),),
    hyperparameters=Hyperparameters(8, 0.1, 5e-4),
    seed=1,
)

FORMATS = pytest.mark.parametrize("form", get_args(Format))


def weights(value: float) -> dict[str, Any]:
    return {"w": np.full((2, 3), value, np.float32)}


def load(path: Path) -> dict[str, Any]:
    """Through the library that owns the format."""
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def snapshot(run_dir: Path, step: int, form: Format = "safetensors") -> Path:
    return run_dir / "snapshots" / f"step-{step:08d}{SUFFIXES[form]}"


def names(run_dir: Path) -> set[str]:
    return {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}


class Gate:
    """A writer of snapshots that waits before each until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.permits = threading.Semaphore(0)
        self._write = WRITERS["safetensors"]
        monkeypatch.setitem(WRITERS, "safetensors", self.write)

    def write(self, path: Path, arrays: Mapping[str, Any]) -> None:
        assert self.permits.acquire(timeout=20)
        self._write(path, arrays)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past `size` bytes of a file fails, as on a full disk (Python ignores SIGXFSZ)."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@FORMATS
def test_writes_a_run_directory(tmp_path: Path, form: Format) -> None:
    run_dir = tmp_path / "runs" / "mine"
    with SnapshotWriter(run_dir, RECORD, format=form) as writer:
        writer.save(0, weights(0))
        writer.log(5, LogRecord(epoch=0.5))
        writer.save(10, weights(10), LogRecord(epoch=1, train_loss=0.25))
    files = {f"snapshots/step-{step:08d}{SUFFIXES[form]}" for step in (0, 10)}
    assert names(run_dir) == {"run.json", "log.jsonl"} | files
    for step in (0, 10):
        np.testing.assert_array_equal(load(snapshot(run_dir, step, form))["w"], weights(step)["w"])
    assert read_log(run_dir) == [
        {"step": 5, "epoch": 0.5},
        {"step": 10, "epoch": 1, "train_loss": 0.25},
    ]
    record = read_run_record(run_dir)
    assert record is not None
    assert (record.model, record.matrices, record.seed) == ("tiny", RECORD.matrices, 1)
    assert record.versions["torch"] == torch.__version__
    assert {"python", "rankscope"} <= record.versions.keys()


@FORMATS
def test_our_reader_finds_every_type_bit_for_bit(tmp_path: Path, form: Format) -> None:
    rng = np.random.default_rng(0)
    types = [np.float64, np.float32, np.float16]
    types += [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
    arrays = {np.dtype(t).name: rng.standard_normal((4, 3)).astype(t) for t in types}
    with SnapshotWriter(tmp_path, format=form) as writer:
        writer.save(0, arrays | {"empty": np.empty((0, 3)), "scalar": np.array(2)})
    path = snapshot(tmp_path, 0, form)
    checkpoint = reader_for(path).open(path)
    found = {t.name: t.dtype for t in checkpoint.listing.tensors}
    assert found == {name: name for name in arrays} | {"empty": "float64", "scalar": "int64"}
    checkpoint.close()
    if form == "hdf5":  # the values, through the format's own library
        for name, stored in load(path).items():
            if name in arrays:
                assert stored.tobytes() == arrays[name].tobytes()
    else:
        with safetensors.safe_open(path, "pt") as file:
            for name, array in arrays.items():
                assert (
                    file.get_tensor(name).double().numpy().tolist()
                    == array.astype(np.float64).tolist()
                )


def test_a_snapshot_can_be_loaded_back_into_the_model(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    model(torch.randn(8, 4))
    with SnapshotWriter(tmp_path) as writer:
        writer.save(1, model)
    other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    loaded = load(snapshot(tmp_path, 1))
    other.load_state_dict({name: torch.from_numpy(array) for name, array in loaded.items()})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with SnapshotWriter(tmp_path) as writer:
        writer.save(0, weights(0))
    expected = (tmp_path / "plain").stat().st_mode
    for name in names(tmp_path):
        assert (tmp_path / name).stat().st_mode == expected, name


def test_saves_the_tensors_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with SnapshotWriter(tmp_path) as writer:
        writer.save(0, model)
        with torch.no_grad():
            model.weight.zero_()
        gate.permits.release()
    np.testing.assert_array_equal(load(snapshot(tmp_path, 0))["weight"], before.numpy())


def test_two_snapshots_may_wait_and_a_third_save_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with SnapshotWriter(tmp_path) as writer:
        for step in range(2):
            writer.save(step, weights(step))  # returns: nothing is written yet
        assert not list((tmp_path / "snapshots").iterdir())
        third = threading.Thread(target=writer.save, args=(2, weights(2)))
        third.start()
        third.join(0.2)
        assert third.is_alive()
        gate.permits.release()
        third.join(20)
        assert not third.is_alive()
        gate.permits.release(2)
    assert len(list((tmp_path / "snapshots").iterdir())) == 3


@FORMATS
def test_a_full_disk_is_one_clear_error_and_loses_nothing_else(
    tmp_path: Path, form: Format
) -> None:
    big = {"w": np.zeros((300, 300))}
    writer = SnapshotWriter(tmp_path, RECORD, format=form)
    writer.save(0, weights(0))
    with file_size_limit(100_000):
        writer.save(1, big)
        with pytest.raises(OutputFailed, match=r"step-00000001.*: not written: ") as caught:
            writer.close()
    assert "\n" not in str(caught.value)
    kept = {"run.json", "log.jsonl", str(snapshot(tmp_path, 0, form).relative_to(tmp_path))}
    assert names(tmp_path) == kept
    assert load(snapshot(tmp_path, 0, form)).keys() == {"w"}
    with SnapshotWriter(tmp_path, RECORD, format=form) as writer:
        writer.save(1, big)  # the failed step can be saved again
    assert load(snapshot(tmp_path, 1, form))["w"].shape == (300, 300)


@pytest.mark.parametrize("late", [False, True])
def test_a_failed_write_is_raised_by_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """The next one after it has failed; while it is on its way two may be in flight."""
    gate = Gate(monkeypatch)
    with SnapshotWriter(tmp_path) as writer:
        with file_size_limit(100_000):
            writer.save(0, {"w": np.zeros((300, 300))})
            if late:
                writer.save(1, weights(1))
            gate.permits.release()
            if not late:
                wait([writer._pending[0][1]], timeout=20)
            # The second one finds that the first has failed, the third waits for the first.
            with pytest.raises(OutputFailed, match="step-00000000"):
                writer.save(2, weights(2))
        gate.permits.release(3)
        writer.save(9, weights(9))  # the writer goes on
    assert snapshot(tmp_path, 9).exists()
    assert snapshot(tmp_path, 1).exists() == late


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path) as writer:
        writer.log(1, LogRecord(lr=0.1))
        with file_size_limit(30), pytest.raises(OutputFailed, match=r"log\.jsonl: not written: "):
            writer.log(2, LogRecord(lr=0.1))
        writer.log(3, LogRecord(lr=0.1))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 3]


def test_a_directory_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed, match="file/run: not written: "):
        SnapshotWriter(tmp_path / "file" / "run")


def test_an_error_in_the_loop_keeps_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)

    def loop() -> None:
        with SnapshotWriter(tmp_path) as writer:
            writer.save(0, weights(0))
            writer.save(1, weights(1))
            gate.permits.release(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert snapshot(tmp_path, 1).exists()


def test_an_error_in_the_loop_is_not_hidden_by_a_full_disk(tmp_path: Path) -> None:
    def loop() -> None:
        with SnapshotWriter(tmp_path) as writer:
            writer.save(0, {"w": np.zeros((300, 300))})
            raise ZeroDivisionError

    with file_size_limit(100_000), pytest.raises(ZeroDivisionError) as caught:
        loop()
    assert "step-00000000" in caught.value.__notes__[0]


class TestRefuses:
    def test_the_same_step_twice(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path) as writer:
            writer.save(1, weights(1))
            with pytest.raises(UsageError, match="step 1 is saved already"):
                writer.save(1, weights(1))
        with (
            SnapshotWriter(tmp_path, format="hdf5") as writer,
            pytest.raises(UsageError, match="step 1 is saved already"),
        ):
            writer.save(1, weights(1))

    @pytest.mark.parametrize("step", [-1, 1.0, "1", None])
    def test_a_step_that_is_none(self, tmp_path: Path, step: Any) -> None:
        with SnapshotWriter(tmp_path) as writer:
            with pytest.raises(UsageError, match="expected an integer of at least 0"):
                writer.save(step, weights(1))
            writer.save(np.int64(3), weights(3))  # type: ignore[arg-type]
        assert snapshot(tmp_path, 3).exists()

    def test_use_after_close(self, tmp_path: Path) -> None:
        writer = SnapshotWriter(tmp_path)
        writer.close()
        writer.close()
        with pytest.raises(UsageError, match="the writer is closed"):
            writer.save(0, weights(0))

    def test_an_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="expected safetensors or hdf5"):
            SnapshotWriter(tmp_path / "run", format="pickle")  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("hyperparameters", "message"),
        [
            (Hyperparameters(0, 0.1, 0.0), "hyperparameters.batch_size is 0"),
            (Hyperparameters(8, float("inf"), 0.0), "hyperparameters.lr is Infinity"),
            (Hyperparameters(8, torch.tensor(0.1), 0.0), "not JSON serializable"),  # type: ignore[arg-type]
        ],
    )
    def test_a_record_that_could_not_be_read_back(
        self, tmp_path: Path, hyperparameters: Hyperparameters, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            SnapshotWriter(tmp_path, RunRecord(hyperparameters=hyperparameters))

    def test_a_second_writer_until_the_first_is_closed(self, tmp_path: Path) -> None:
        with (
            SnapshotWriter(tmp_path),
            pytest.raises(UsageError, match="another writer is at work"),
        ):
            SnapshotWriter(tmp_path)
        SnapshotWriter(tmp_path).close()

    def test_a_damaged_record(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text("{")
        with pytest.raises(InputRejected, match="not JSON"):
            SnapshotWriter(tmp_path)


class TestResumes:
    def test_the_same_run_whatever_the_versions(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path, RECORD) as writer:
            writer.save(0, weights(0))
        path = tmp_path / "run.json"
        content = json.loads(path.read_text())
        content["versions"]["python"] = "3.99"
        path.write_text(json.dumps(content))
        before = path.read_bytes()
        for record in (RECORD, None):
            SnapshotWriter(tmp_path, record).close()
        with SnapshotWriter(tmp_path, RECORD) as writer:
            writer.save(1, weights(1))
        assert path.read_bytes() == before
        assert snapshot(tmp_path, 0).exists()
        assert snapshot(tmp_path, 1).exists()

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (RunRecord(), 'model is "tiny" there, null now'),
            (RunRecord("tiny", seed=1), "matrices differs"),
            (
                RunRecord("tiny", RECORD.matrices, None, Hyperparameters(8, 0.2, 5e-4), seed=1),
                "hyperparameters.lr is 0.1 there, 0.2 now",
            ),
        ],
    )
    def test_no_other_run(self, tmp_path: Path, other: RunRecord, message: str) -> None:
        SnapshotWriter(tmp_path, RECORD).close()
        with pytest.raises(UsageError, match=f"another run: {message}; choose another directory"):
            SnapshotWriter(tmp_path, other)

    def test_removing_leftovers_and_nothing_else(self, tmp_path: Path) -> None:
        snapshots = tmp_path / "snapshots"
        left = snapshots / ".step-00000001.safetensors.123-0a1b2c3d.tmp"
        left.mkdir(parents=True)
        (left / ".tmpAbCdEf").write_bytes(b"half")
        (tmp_path / ".run.json.123-0a1b2c3d.tmp").write_bytes(b"half")
        for name in ("notes.tmp", ".hidden", "step-00000000.safetensors"):
            (snapshots / name).write_bytes(b"")
        SnapshotWriter(tmp_path).close()
        assert sorted(path.name for path in snapshots.iterdir()) == [
            ".hidden",
            "notes.tmp",
            "step-00000000.safetensors",
        ]
        assert names(tmp_path) & {".run.json.123-0a1b2c3d.tmp"} == set()


def run_python(code: str, *arguments: str) -> None:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_needs_no_torch_and_forgives_a_forgotten_close(tmp_path: Path) -> None:
    code = """
import sys
from rankscope.snapshots import SnapshotWriter
assert not {"numpy", "torch", "h5py", "safetensors"} & sys.modules.keys()
import numpy
writer = SnapshotWriter(sys.argv[1])
writer.save(0, {"w": numpy.ones((1000, 1000))})
assert "torch" not in sys.modules
"""
    run_python(code, str(tmp_path))
    assert load(snapshot(tmp_path, 0))["w"].sum() == 1e6


def test_a_forked_data_loader_does_not_keep_the_run_locked(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
from rankscope.snapshots import SnapshotWriter
with SnapshotWriter(sys.argv[1]):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
try:
    SnapshotWriter(sys.argv[1]).close()
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    run_python(code, str(tmp_path))


class TestDue:
    def test_every_step_of_a_burst_and_nothing_else(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path) as writer:
            for step in range(25):
                if due(step, every=10, burst=4):
                    writer.save(step, weights(step))
        saved = sorted(int(path.stem[5:]) for path in (tmp_path / "snapshots").iterdir())
        assert saved == [0, 7, 8, 9, 10, 17, 18, 19, 20]

    def test_without_a_burst_multiples_only(self) -> None:
        assert [step for step in range(21) if due(step, every=10)] == [0, 10, 20]

    def test_a_burst_longer_than_the_distance_is_every_step(self) -> None:
        assert all(due(step, every=3, burst=9) for step in range(10))

    @pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 3, "burst": 0}])
    def test_less_than_one_is_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="is 0, expected at least 1"):
            due(1, **wrong)
