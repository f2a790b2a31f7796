"""Write a run directory from any training loop, in three lines.

    with SnapshotWriter("runs/mine") as writer:
        for step in range(steps):
            ...
            writer.save(step, model)

docs/run-directory.md describes what comes out.
"""

from __future__ import annotations

import json
import operator
import platform
import sys
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from rankscope.checkpoints.spectrumfile import SUFFIX as SPECTRA_SUFFIX
from rankscope.devicecopy import Started, started_copies
from rankscope.errors import InputRejected, OutputFailed, UsageError
from rankscope.hostcopy import copies_in_place, named_tensors
from rankscope.runlog import LOG_FILE, LogFile, LogRecord
from rankscope.runrecord import (
    RUN_FILE,
    Hyperparameters,
    MatrixRecord,
    Optimiser,
    RunRecord,
    read_run_record,
)
from rankscope.snapshotfiles import SUFFIXES, WRITERS, Format
from rankscope.writing import atomic_write, remove_temporaries

if TYPE_CHECKING:
    from rankscope.records import Stored

__all__ = [
    "Contents",
    "Format",
    "Hyperparameters",
    "LogRecord",
    "MatrixRecord",
    "Optimiser",
    "RunRecord",
    "SnapshotWriter",
    "due",
]

SNAPSHOTS = "snapshots"

Contents = Literal["weights", "spectra", "both"]

# One being written while the next is copied; more would only hide that the disk is too slow.
MOST_IN_FLIGHT = 2


class SnapshotWriter:
    """Saves a model's tensors at chosen steps, and a log, into a run directory.

    `save` copies the tensors to host memory and returns; a thread writes them. A snapshot appears
    under its name whole or not at all, also when the process is killed. A run that was killed is
    resumed by opening its directory again with the same record.

    Host memory: at most two copies of the tensors are waiting or being written; HDF5 takes a
    third while it writes. A third `save` waits for the first to be written.

    Every tensor of the state dict is saved, vectors and integers too, so that a snapshot can be
    loaded back into the model.

    Args:
        run_dir: the directory, made where it is missing.
        record: what is run; None to leave that open, or as a resumed run has it.
        format: safetensors or hdf5; of weights.
        contents: weights; or spectra, a thousandth of the size, which every command but `certify`
            and `diff --delta` reads the same; or both, which spares an analysis the
            decompositions. The thread that writes computes them, where the tensors lie.

    Raises:
        UsageError: the directory holds another run, or another writer is at work in it.
        OutputFailed: the directory cannot be written to.
        InputRejected: its run.json is damaged.

    >>> import numpy, tempfile
    >>> weights = {"layer.weight": numpy.ones((2, 3), numpy.float32)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with SnapshotWriter(folder, RunRecord(model="tiny")) as writer:
    ...         writer.save(0, weights, LogRecord(train_loss=2.3))
    ...     sorted(path.name for path in Path(folder).rglob("*.*"))
    ['log.jsonl', 'run.json', 'step-00000000.safetensors']
    """

    def __init__(
        self,
        run_dir: Path | str,
        record: RunRecord | None = None,
        *,
        format: Format = "safetensors",  # noqa: A002 - what everybody calls it
        contents: Contents = "weights",
    ) -> None:
        if format not in SUFFIXES:
            raise UsageError(f"format is {format!r}, expected {' or '.join(SUFFIXES)}")
        if contents not in get_args(Contents):
            choices = ", ".join(get_args(Contents))
            raise UsageError(f"contents is {contents!r}, expected one of {choices}")
        self.run_dir = Path(run_dir)
        self._format = format
        self._contents = contents
        self._pending: deque[tuple[int, Future[None]]] = deque()
        self._log: LogFile | None = _open_run(self.run_dir, record)
        # One thread: snapshots appear in the order of their steps. The interpreter waits for it
        # at exit, so that what was saved is written even if close() is forgotten.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rankscope-snapshots")

    def save(self, step: int, model: object, record: LogRecord | None = None) -> None:
        """Save the tensors as they are now; later changes do not show.

        Args:
            step: training steps done so far, at least 0.
            model: a module, a state dict, or any mapping of names to tensors or arrays.
            record: what the log shall say of this step, if anything.

        Raises:
            UsageError: the step is saved already, or something is no tensor that can be stored.
            OutputFailed: an earlier snapshot could not be written; those before it are intact.
        """
        log = self._opened()
        step = _checked_step(step)
        if record is not None and not isinstance(record, LogRecord):
            raise UsageError(f"record is a {type(record).__name__}, expected a LogRecord")
        self._collect(MOST_IN_FLIGHT - 1)
        self._refuse_twice(step)
        written = self._thread.submit(self._writing(step, named_tensors(model)))
        self._pending.append((step, written))
        if record is not None:
            log.append(step, record)

    def log(self, step: int, record: LogRecord) -> None:
        """Add a line to the log for a step without a snapshot.

        Raises:
            OutputFailed: the line could not be written; those before it are intact.
        """
        self._opened().append(_checked_step(step), record)

    def flush(self) -> None:
        """Wait until every snapshot that was saved is on the disk.

        Raises:
            OutputFailed: one could not be written; those before it are intact.
        """
        self._opened()
        self._collect(0)

    def saved(self, step: int) -> bool:
        """Whether a snapshot of this step is on the disk, or on its way there.

        A run that is resumed from before a snapshot comes to its step again.
        """
        suffixes = (*SUFFIXES.values(), SPECTRA_SUFFIX)
        paths = [self._path(step, suffix) for suffix in suffixes]
        return any(step == other for other, _ in self._pending) or any(p.exists() for p in paths)

    def close(self) -> None:
        """Wait until everything is written; closing twice is fine.

        Raises:
            OutputFailed: a snapshot could not be written; the others are.
        """
        if self._log is None:
            return
        log, self._log = self._log, None
        try:
            self._thread.shutdown(wait=True)
            self._collect(0)
        finally:
            log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OutputFailed as failure:
            if error is None:
                raise
            # The loop's own error is what the user has to see.
            error.add_note(str(failure))

    def _opened(self) -> LogFile:
        if self._log is None:
            raise UsageError(f"{self.run_dir}: the writer is closed")
        return self._log

    def _writing(self, step: int, tensors: Mapping[str, Any]) -> Callable[[], None]:
        """Copy the tensors; what is left to do with the copies can be done elsewhere."""
        if self._contents == "spectra":
            path = self._path(step, SPECTRA_SUFFIX)
            return partial(_write_spectra, path, copies_in_place(tensors, {}))
        started = started_copies(tensors)
        arrays = started.arrays
        path = self._path(step, SUFFIXES[self._format])
        weights = partial(_write_weights, WRITERS[self._format], path, started)
        if self._contents == "weights":
            return weights
        return partial(_write_both, weights, copies_in_place(tensors, arrays), self.run_dir, arrays)

    def _path(self, step: int, suffix: str) -> Path:
        return self.run_dir / SNAPSHOTS / f"step-{step:08d}{suffix}"

    def _refuse_twice(self, step: int) -> None:
        if self.saved(step):
            raise UsageError(
                f"{self.run_dir}: step {step} is saved already; save each step once, "
                "or remove the snapshots after the step that you resume from"
            )

    def _collect(self, most: int) -> None:
        """Wait until at most `most` snapshots are in flight; raise what a finished one raised."""
        while self._pending and (len(self._pending) > most or self._pending[0][1].done()):
            # Interrupted (Ctrl-C) while it waits, it must not forget the snapshot.
            wait([self._pending[0][1]])
            self._pending.popleft()[1].result()


def due(step: int, *, every: int, burst: int = 1) -> bool:
    """Whether to save this step: a multiple of `every`, or one of the `burst` steps up to it.

    `rankscope certify` compares steps that are few updates apart, which bursts provide.

    Raises:
        UsageError: `every` or `burst` is below 1.

    >>> [step for step in range(21) if due(step, every=10, burst=3)]
    [0, 8, 9, 10, 18, 19, 20]
    """
    for name, value in (("every", every), ("burst", burst)):
        if value < 1:
            raise UsageError(f"{name} is {value}, expected at least 1")
    return -step % every < burst


def _write_weights(
    write: Callable[[Path, Mapping[str, Stored]], None], path: Path, started: Started
) -> None:
    started.wait()
    write(path, started.arrays)


def _write_spectra(path: Path, tensors: Mapping[str, Any]) -> None:
    from rankscope.snapshotspectra import SolvedModel

    SolvedModel(tensors).write(path)


def _write_both(
    write_weights: Callable[[], None],
    tensors: Mapping[str, Any],
    run_dir: Path,
    weights: Mapping[str, Stored],
) -> None:
    from rankscope.snapshotspectra import SolvedModel

    write_weights()
    SolvedModel(tensors, weights).remember(run_dir)


def _checked_step(step: int) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"step is {step!r}, expected an integer of at least 0")
    return number


def _open_run(run_dir: Path, record: RunRecord | None) -> LogFile:
    """Make or reopen the directory; the log that comes back is the lock on it."""
    snapshots = run_dir / SNAPSHOTS
    try:
        snapshots.mkdir(parents=True, exist_ok=True)
        log = LogFile(run_dir / LOG_FILE)
        try:
            for directory in (run_dir, snapshots):
                remove_temporaries(directory)
            _settle_record(run_dir, record)
        except BaseException:
            log.close()
            raise
    except OSError as error:
        raise OutputFailed(run_dir, error.strerror or str(error)) from error
    return log


def _settle_record(run_dir: Path, record: RunRecord | None) -> None:
    """Write run.json, or check that it says the same already; versions may differ."""
    path = run_dir / RUN_FILE
    written = read_run_record(run_dir)
    if written is not None:
        wanted = written if record is None else _checked_record(record, path)
        if replace(written, versions={}) != replace(wanted, versions={}):
            raise UsageError(_difference(path, written.to_json(), wanted.to_json()))
        return
    checked = _checked_record(record or RunRecord(), path)
    whole = replace(checked, versions={**_versions(), **checked.versions})
    with atomic_write(path) as handle:
        handle.write(json.dumps(whole.to_json(), indent=2).encode() + b"\n")


def _checked_record(record: RunRecord, path: Path) -> RunRecord:
    """The record as it will be read back, so that what is written is known to be readable."""
    try:
        return RunRecord.from_json(json.loads(json.dumps(record.to_json())), path)
    except InputRejected as error:
        raise UsageError(f"the run's record: {error.reason}") from error
    except (TypeError, ValueError) as error:  # a tensor or an object in a number's place
        raise UsageError(f"the run's record: {error}") from error


def _difference(path: Path, written: dict[str, Any], wanted: dict[str, Any]) -> str:
    key = next(key for key in written if key != "versions" and written[key] != wanted[key])
    was, now = written[key], wanted[key]
    if isinstance(was, dict) and isinstance(now, dict):
        part = next(part for part in was if was[part] != now[part])
        key, was, now = f"{key}.{part}", was[part], now[part]
    shown = f"is {json.dumps(was)} there, {json.dumps(now)} now"
    what = "differs" if key == "matrices" else shown
    return f"{path}: another run: {key} {what}; choose another directory, or remove this one"


def _versions() -> dict[str, str]:
    try:
        versions = {"rankscope": version("rankscope")}
    except PackageNotFoundError:  # run from a source tree that is not installed
        versions = {}
    versions["python"] = platform.python_version()
    torch = sys.modules.get("torch")
    return versions if torch is None else {**versions, "torch": str(torch.__version__)}
