"""A run directory that is there already when a training begins."""

from __future__ import annotations

import json
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from rankscope.errors import OutputFailed, UsageError
from rankscope.runlog import LOG_FILE, LogFile, read_log
from rankscope.series import SNAPSHOTS
from rankscope.stepnames import is_unfinished, step_in
from rankscope.writing import atomic_write

# What a line of the log says of all updates since the line before.
OF_UPDATES = ("lr", "weight_decay", "momentum", "batch_size")


def resume(run_dir: Path, step: int) -> bool:
    """Whether this training goes on with what is there; what came after `step` is removed.

    A training that was killed is resumed from its last checkpoint, which may lie before its last
    snapshot. It will come to those steps again, by another path perhaps.

    Args:
        run_dir: need not be there.
        step: updates done before this training begins.

    Raises:
        UsageError: it begins anew in a directory that has snapshots of later steps; another writer
            is at work there.
        InputRejected: the log is damaged.
        OutputFailed: the directory cannot be written to.
    """
    later = {path: at for path, at in _snapshots(run_dir).items() if at > step}
    lines = sum(line["step"] > step for line in read_log(run_dir))
    if later and step == 0:
        raise UsageError(
            f"{run_dir}: holds snapshots up to step {max(later.values())} and this training begins "
            "at step 0: choose another directory, or give the step that it resumes from"
        )
    try:
        # The log is the lock on the directory.
        if later or lines:
            with closing(LogFile(run_dir / LOG_FILE)):
                _cut(run_dir, step)
                for path in later:
                    path.unlink()
    except OSError as error:
        raise OutputFailed(run_dir, error.strerror or str(error)) from error
    if later or lines:
        what = f"{len(later)} snapshots" if later else f"{lines} lines of the log"
        warnings.warn(
            f"{run_dir}: training resumes from step {step}: {what} of later steps were removed",
            RuntimeWarning,
            stacklevel=2,
        )
    return step > 0


def _snapshots(run_dir: Path) -> dict[Path, int]:
    """The step of each snapshot."""
    folder = run_dir / SNAPSHOTS
    paths = folder.iterdir() if folder.is_dir() else ()
    steps = {path: step_in(path.name) for path in paths if not is_unfinished(path.name)}
    return {path: step for path, step in steps.items() if step is not None}


def _step(line: dict[str, Any]) -> int:
    return int(line["step"])


def _cut(run_dir: Path, step: int) -> None:
    """Leave out of the log what it says of later steps.

    The first line after `step` also says with what the updates up to it were made: that is kept.
    """
    found = read_log(run_dir)
    lines = [line for line in found if line["step"] <= step]
    # Of two lines for one step the later one holds.
    later = reversed([line for line in found if line["step"] > step])
    after: dict[str, Any] = min(later, key=_step, default={})
    last = {line["step"]: line for line in lines}.get(step, {"step": step})
    more = {key: after[key] for key in OF_UPDATES if key in after and key not in last}
    if more and step > 0:
        lines.append({**last, **more})
    with atomic_write(run_dir / LOG_FILE) as handle:
        handle.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
