"""Running what a page shows, in a directory of its own, on a terminal of 80 columns."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).parents[2]

ROWS, COLUMNS = 24, 80  # what terminals open with

MOST_SECONDS = 120  # a command of an example takes a second or two

PROGRAMS = Path(__file__).parent / "bin"  # what stands before the programs of the environment


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    Attributes:
        command: as it was typed.
        output: what it wrote to the terminal, with escape sequences; stderr after stdout.
        code: its exit code.
    """

    command: str
    output: str
    code: int


@contextmanager
def working_copy(material: Path) -> Iterator[Path]:
    """A directory that holds what the examples start from, and is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rankscope-docs-") as folder:
        place = Path(folder) / "here"
        shutil.copytree(material, place)
        yield place


def run(command: str, place: Path, until: str | None = None) -> Outcome:
    """Run one line of a shell; its stdout is a terminal, its stderr none, so no progress bar.

    Args:
        command: the line.
        place: the directory that it runs in.
        until: press Ctrl-C when this has been written.

    Raises:
        TimeoutError: it does not come to an end.
    """
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with tempfile.TemporaryFile() as errors, os.fdopen(master, "rb", buffering=0) as terminal:
        process = subprocess.Popen(  # noqa: S603 - the documentation's own words
            ["bash", "-c", command],  # noqa: S607
            cwd=place,
            env=_environment(place),
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=errors,
            start_new_session=True,  # so that Ctrl-C reaches all that it starts, as in a shell
        )
        os.close(slave)
        ending = Timer(MOST_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        ending.start()
        try:
            shown = b""
            for part in _parts(terminal):
                shown += part
                if until is not None and until.encode() in shown:
                    os.killpg(process.pid, signal.SIGINT)
                    until = None
            code = process.wait()
        finally:
            ending.cancel()
        if code == -signal.SIGKILL:
            raise TimeoutError(f"`{command}` did not end within {MOST_SECONDS} s")
        errors.seek(0)
        return Outcome(command, (shown + errors.read()).decode(), code)


def _parts(terminal: RawIOBase) -> Iterator[bytes]:
    """What comes until the other end is closed, which Linux tells by an error."""
    while True:
        try:
            part = terminal.read(65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return
        if not part:
            return
        yield part


def _environment(place: Path) -> dict[str, str]:
    """The builder's, but for the terminal, the cache of spectra and what is found by name."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    places = (str(PROGRAMS), str(Path(sys.executable).parent), kept["PATH"])
    return {
        **kept,
        "HOME": str(place.parent),
        "XDG_CACHE_HOME": str(place.parent / "cache"),
        "PATH": os.pathsep.join(places),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "LINES": str(ROWS),
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }
