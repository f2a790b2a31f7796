"""The process beside a training: follows a run directory and tells of each new snapshot.

`python -m rankscope.integrations.beside RUN_DIR AFTER METRIC...`: a line of JSON a snapshot goes to
stdout, with `reading`; or one with `trouble`, where none can be read. A line on stdin says that
training is over: what is there is told, and the process ends. It also ends when stdin does, for
then the training was killed. AFTER is the last step that is known already, or - for none.

A process and not a thread, since a limit on BLAS's threads would hold for the training too, and its
priority could not be lowered.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rankscope.errors import InputRejected
from rankscope.integrations.readings import readings
from rankscope.measure import How
from rankscope.series import discover

LOOK_SECONDS = 1.0  # between two looks at the directory; one takes a millisecond

NICE = 19  # the lowest priority there is


def main(arguments: Sequence[str]) -> None:
    """Follow until told to stop."""
    run_dir, after, *metrics = arguments
    os.nice(NICE)
    over = threading.Event()
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    follow(Path(run_dir), None if after == "-" else int(after), metrics, over)


def follow(run_dir: Path, after: int | None, metrics: Sequence[str], over: threading.Event) -> None:
    """Tell of every snapshot above `after` until it is over, and of those that are there then."""
    seen: list[int | None] = []
    ending = False
    while not ending:
        ending = over.is_set()
        began = time.monotonic()
        steps = _steps(run_dir)
        if steps != seen:
            seen = steps
            after = _tell(run_dir, after, metrics)
        # Of a long run even what is known takes seconds to go through: it is at rest half the time.
        over.wait(0 if ending else max(LOOK_SECONDS, time.monotonic() - began))


def _tell(run_dir: Path, after: int | None, metrics: Sequence[str]) -> int | None:
    """Tell of what is new; the step that is the last one known now."""
    try:
        for reading in readings(run_dir, after, metrics, How(workers=1, cores=1, device="cpu")):
            _send({"reading": asdict(reading)})
            after = reading.step
    except InputRejected as error:
        _send({"trouble": str(error)})
    return after


def _send(message: object) -> None:
    print(json.dumps(message), flush=True)


def _steps(run_dir: Path) -> list[int | None]:
    """Of the snapshots there are; none where the first is not written yet."""
    try:
        return [snapshot.step for snapshot in discover(run_dir).snapshots]
    except InputRejected:
        return []


def _listen(over: threading.Event) -> None:
    for _ in sys.stdin:
        over.set()
    os._exit(1)  # the trainer is gone; the store is sound at any moment


if __name__ == "__main__":
    main(sys.argv[1:])
