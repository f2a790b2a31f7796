"""`log.jsonl`, which says how a run went: one JSON record a line, in the order of training."""

from __future__ import annotations

import errno
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

from rankscope.errors import OutputFailed, UsageError
from rankscope.jsonobject import JsonObject, parse_json, read_limited
from rankscope.places import place
from rankscope.presence import exists

LOG_FILE = "log.jsonl"

# Far above any real run: a step takes some 200 bytes.
MAX_LOG_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What the log says of one step; everything may be left out.

    Attributes:
        epoch: passes over the data so far; may be fractional.
        lr: the step size of the updates since the record before; so are the next three.
        weight_decay: PyTorch's.
        momentum: the optimiser's.
        batch_size: samples per device and step.
        train_loss: mean loss on training data.
        test_loss: mean loss on test data.
        train_accuracy: share of the training samples classified rightly, 0 to 1.
        test_accuracy: share of the test samples classified rightly, 0 to 1.
    """

    epoch: float | None = None
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    batch_size: int | None = None
    train_loss: float | None = None
    test_loss: float | None = None
    train_accuracy: float | None = None
    test_accuracy: float | None = None

    def to_json(self, step: int) -> dict[str, Any]:
        """One line of the log. A number that is not finite is null: JSON has no name for it."""
        line: dict[str, Any] = {"step": step}
        for part in fields(self):
            value = getattr(self, part.name)
            if value is None:
                continue
            # A loss often comes as a tensor of one element.
            number = value if isinstance(value, int) else float(value)
            line[part.name] = number if math.isfinite(number) else None
        return line


def read_log(run_dir: PurePath | str) -> list[dict[str, Any]]:
    """The records of `run_dir/log.jsonl`, in the order written; [] when there is no such file.

    Each has an integer `step`; `LogRecord`'s keys, where present, are numbers or None; unknown
    keys are kept. A step stands there twice when a run was killed and resumed from before it:
    the later record holds. A last line without a newline is one that a killed writer did not
    finish, and is left out.
    """
    path = place(run_dir) / LOG_FILE
    if not exists(path):
        return []
    return parse_log(path, read_limited(path, MAX_LOG_BYTES), 1)


def parse_log(path: PurePath, data: bytes, first: int) -> list[dict[str, Any]]:
    """The records in the whole lines of a log, or of a part of it; `first` is the first's number.

    Raises:
        InputRejected: a line that is no record; its number is named.
    """
    lines = data[: whole_lines(data)].splitlines()
    return [_log_line(path, f"line {count}", line) for count, line in enumerate(lines, first)]


def whole_lines(log: bytes) -> int:
    """The length of a log without a torn last line."""
    return log.rfind(b"\n") + 1


def _log_line(path: PurePath, where: str, line: bytes) -> dict[str, Any]:
    record = JsonObject(path, where, parse_json(path, line, f"{where} "))
    if record.integer("step", 0) is None:
        raise record.wrong("step", "an integer")
    for part in fields(LogRecord):
        record.number(part.name)
    return record.value


class LogFile:
    """The log while it is written; holding it open locks the run against a second writer.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if not _lock(self._fd):
                raise UsageError(
                    f"{path.parent}: another writer is at work there; "
                    "of several training processes only one (rank 0) may write a run"
                )
            # A killed writer may have left half a line, which the next one would be glued to.
            os.ftruncate(self._fd, whole_lines(read_limited(path, MAX_LOG_BYTES)))
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, step: int, record: LogRecord) -> None:
        """Add a line with one call, so that a kill leaves all of it or a torn last line.

        Raises:
            OutputFailed: the disk is full; the log is as it was.
        """
        line = json.dumps(record.to_json(step)).encode() + b"\n"
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise OutputFailed(self.path, error.strerror or str(error)) from error

    def close(self) -> None:
        """Flush to the disk and unlock; closing twice is fine."""
        if self._fd < 0:
            return
        descriptor, self._fd = self._fd, -1
        try:
            os.fsync(descriptor)
            # Closing is not enough: processes forked meanwhile (data loaders) hold the lock too.
            _unlock(descriptor)
        except OSError as error:
            raise OutputFailed(self.path, error.strerror or str(error)) from error
        finally:
            os.close(descriptor)


if os.name == "posix":
    import fcntl

    def _lock(descriptor: int) -> bool:
        """Whether nobody else holds the lock on this file."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        return True

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
else:  # Windows has no flock: a second writer goes unnoticed there.

    def _lock(descriptor: int) -> bool:
        return descriptor >= 0

    def _unlock(descriptor: int) -> None:
        pass
