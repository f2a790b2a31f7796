"""A run followed while it is written: a process beside the training measures, a thread tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, cast

from rankscope.blas import THREAD_VARIABLES
from rankscope.integrations.readings import SnapshotReading
from rankscope.integrations.sinks import checked_metrics
from rankscope.text import printable

if TYPE_CHECKING:
    from rankscope.integrations.sinks import Sink

ROOT = Path(__file__).parents[2]  # where the package lies, for a process that starts elsewhere

# Not imported: run by its name, it would be there twice.
BESIDE = "rankscope.integrations.beside"


class Follower:
    """Tells a sink of every snapshot that appears in a run directory, until it is closed.

    Reading and decomposing happen in a process of its own at the lowest priority, on one core and
    no GPU. In this process a thread waits for its results and hands them to the sink. What goes
    wrong there, in either, never reaches the training: it is a `RuntimeWarning` when the follower
    is closed.

        with Follower("runs/mine", TensorBoardSink("tb/mine/spectra")):
            train()

    Args:
        run_dir: need not be there yet.
        sink: closed when the follower is.

    Raises:
        UsageError: the sink asks for a metric that is not known.
    """

    def __init__(self, run_dir: Path | str, sink: Sink) -> None:
        self.run_dir = Path(run_dir)
        checked_metrics(sink.metrics)
        self._sink: Sink | None = sink
        self._trouble = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest
        self._process = self._started(sink)
        self._orders = cast("IO[str]", self._process.stdin)
        self._results = cast("IO[str]", self._process.stdout)
        self._thread = threading.Thread(
            target=self._pass_on, args=(sink,), name="rankscope-follower", daemon=True
        )
        self._thread.start()

    def _started(self, sink: Sink) -> subprocess.Popen[str]:
        latest = sink.latest()
        after = "-" if latest is None else str(latest)
        path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
        environment = dict.fromkeys(THREAD_VARIABLES, "1")
        environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
        # -P: what lies in the working directory, a user's `queue.py`, is not to be imported.
        command = [sys.executable, "-P", "-m", BESIDE, str(self.run_dir), after]
        return subprocess.Popen(  # noqa: S603 - this interpreter, on our own module
            [*command, *sink.metrics],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the training to decide on
        )

    def _pass_on(self, sink: Sink) -> None:
        """In the thread: every reading to the sink, until there are no more."""
        try:
            for line in self._results:
                message = json.loads(line)
                reading = SnapshotReading.from_json(message["reading"])
                if reading.trouble:
                    self._trouble = reading.trouble
                else:
                    sink.write(reading)
        except Exception as error:  # whatever a sink does, the training goes on
            self._trouble = f"{type(error).__name__}: {error}"
            self._process.kill()

    def close(self, *, wait: bool = True) -> None:
        """Wait until the sink has been told of every snapshot; closing twice is fine.

        Interrupted (Ctrl-C), it waits no longer; `export` tells the sink of the rest.

        Args:
            wait: False to leave untold what is untold.
        """
        if self._sink is None:
            return
        sink, self._sink = self._sink, None
        try:
            if wait:
                self._say_that_it_is_over()
                self._thread.join()
                self._process.wait()
        finally:
            self._process.kill()  # unless it has ended
            self._process.wait()
            self._close(sink)
        if wait and self._trouble:
            warnings.warn(
                f"{self.run_dir}: {type(sink).__name__} was not told of every snapshot: "
                f"{printable(self._trouble)}; rankscope.integrations.export tells it",
                RuntimeWarning,
                stacklevel=2,
            )

    def _close(self, sink: Sink) -> None:
        if self._process.returncode != 0:
            self._trouble = self._trouble or self._last_words()
        for pipe in (self._orders, self._results, self._errors):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            sink.close()
        except Exception as error:  # as in the thread
            self._trouble = self._trouble or f"{type(error).__name__}: {error}"

    def _say_that_it_is_over(self) -> None:
        with suppress(BrokenPipeError):  # it is dead, and the warning will say so
            self._orders.write("over\n")
            # Kept open: its end would mean that this process was killed.
            self._orders.flush()

    def _last_words(self) -> str:
        """Why the process ended, as far as it could say."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        code = self._process.returncode
        return said[-1] if said else f"the process that measures ended with code {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)
