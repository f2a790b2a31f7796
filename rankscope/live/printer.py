"""A line for each snapshot, where nobody watches: into a file, a pipe, a log."""

from __future__ import annotations

import select
import sys
from typing import TextIO

from rankscope.identities import Identity
from rankscope.live.picture import Measurements, Picture
from rankscope.rows import Row
from rankscope.text import inert
from rankscope.views.cells import LOG_HEADINGS
from rankscope.views.numbers import counted, number


class Printer:
    """Prints each snapshot once it has been measured, in the order of steps.

    Lines about snapshots go to stdout; what is lacking, and what is waited for, to stderr.

    Attributes:
        newest_first: in which order snapshots are wanted.
    """

    newest_first = False

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._printed: dict[int, Identity] = {}
        self._told: set[str] = set()

    def show(self, picture: Picture) -> None:
        """Print what has not been printed yet."""
        found = picture.found
        for row, file in zip(found.summary, found.files, strict=True):
            if self._printed.get(row["step"]) != file:
                self._printed[row["step"]] = file
                self._out.write(f"{line(found, row)}\n")
        self._out.flush()
        told = {inert(one.text) for one in picture.remarks if one.lacking}
        told |= {inert(picture.waiting)} if picture.waiting else set()
        for text in sorted(told - self._told):
            self._err.write(f"{text}\n")
            self._err.flush()
        self._told = told

    def check(self) -> None:
        """Find out whether anybody still reads.

        Raises:
            BrokenPipeError: the reader of the pipe is gone.
        """
        if not hasattr(select, "poll"):  # Windows: the next line will tell
            return
        poll = select.poll()
        poll.register(self._out, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError

    def start(self) -> None:
        """There is nothing to prepare."""

    def stop(self) -> None:
        """There is nothing to restore."""


def line(found: Measurements, row: Row) -> str:
    """The means of a snapshot in one line, and what the log says of it."""
    words = dict(zip(found.keys, found.headings, strict=True))
    # In the row's own order, which is always the same, so that lines can be compared.
    values = [f"{words[key]} {number(row[key])}" for key in row if key in words]
    values += [
        f"{word} {number(row[key])}"
        for key, word in LOG_HEADINGS.items()
        if row.get(key) is not None
    ]
    over, of = row["averaged"], row["matrices"]
    mean = f"mean of {counted(of)}" if over == of else f"mean of {over} of {counted(of)}"
    lacking = row["unmeasured"] + row["missing"]
    left = f", {lacking} lacking" if lacking else ""
    return inert(f"step {row['step']}: {', '.join(values)} ({mean}{left})")
