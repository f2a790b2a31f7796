"""What is typed while a picture is drawn does not show in it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

try:
    import termios
except ImportError:  # Windows
    FAULTS: tuple[type[Exception], ...] = ()
else:
    FAULTS = (termios.error,)


class Echo:
    """The echo of the terminal that stdin is, if it is one."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def off(self) -> None:
        """Do not show what is typed, nor let Ctrl-S hold what is drawn; Ctrl-C acts as before."""
        if not FAULTS or not sys.stdin or not sys.stdin.isatty():
            return
        with suppress(*FAULTS):
            before = termios.tcgetattr(sys.stdin)
            without = list(before)
            without[0] &= ~termios.IXON
            without[3] &= ~termios.ECHO
            self._before = before
            termios.tcsetattr(sys.stdin, termios.TCSANOW, without)

    def restore(self) -> None:
        """As it was. What was typed before a Ctrl-C, the terminal has thrown away."""
        if self._before is not None:
            with suppress(*FAULTS):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self._before = None
