"""The process beside a training: follows a run directory and tells of each new snapshot.

`python -m rankscope.integrations.beside RUN_DIR AFTER METRIC...`: a line of JSON a snapshot goes to
stdout, with `reading`. A line on stdin says that training is over: what is there is told, and the
process ends. It also ends when stdin does, for then the training was killed. AFTER is the last step
that is known already, or - for none.

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
from rankscope.how import How
from rankscope.integrations.growing import Growing
from rankscope.series import Series, discover

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
    growing = Growing(run_dir, after, metrics, How(workers=1, cores=1, device="cpu"))
    seen: list[int | None] = []
    ending = False
    while not ending:
        ending = over.is_set()
        began = time.monotonic()
        series = _series(run_dir)
        steps = [snapshot.step for snapshot in series.snapshots] if series else []
        if series and steps != seen:
            for reading in growing.news(series):
                _send({"reading": asdict(reading)})
        seen = steps
        # A large model takes longer than a look: it is at rest half the time.
        over.wait(0 if ending else max(LOOK_SECONDS, time.monotonic() - began))


def _send(message: object) -> None:
    print(json.dumps(message), flush=True)


def _series(run_dir: Path) -> Series | None:
    """The snapshots there are; None where the first is not written yet."""
    try:
        return discover(run_dir)
    except InputRejected:
        return None


def _listen(over: threading.Event) -> None:
    for _ in sys.stdin:
        over.set()
    os._exit(1)  # the trainer is gone; the store is sound at any moment


if __name__ == "__main__":
    main(sys.argv[1:])
