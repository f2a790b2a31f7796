"""A real terminal for a test: a shell in tmux, on a server of the test's own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.cli.processes import LIMIT, below, until

COUNT = itertools.count()

needs_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None, reason="tmux is not installed: no terminal to draw on"
)


class Terminal:
    """One window with a shell in it."""

    def __init__(self, width: int, height: int) -> None:
        self._server = f"rankscope-{os.getpid()}-{next(COUNT)}"
        size = ("-x", str(width), "-y", str(height))
        self.tmux("new-session", "-d", *size, "env PS1='$ ' ENV= sh")
        self.shell = int(self.show("pane_pid"))
        until(lambda: self.lines()[0].startswith("$"))

    def tmux(self, *arguments: str) -> str:
        """What a command of tmux prints."""
        done = subprocess.run(
            ["tmux", "-u", "-L", self._server, "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )
        return done.stdout

    def show(self, word: str) -> str:
        """What tmux knows of the window: `cursor_flag`, `alternate_on`."""
        return self.tmux("display-message", "-p", f"#{{{word}}}").strip()

    def lines(self) -> list[str]:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p").split("\n")

    def text(self) -> str:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p")

    def enter(self, command: str) -> None:
        """Type a command."""
        self.tmux("send-keys", "-l", command)
        self.tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press one key: `C-c`."""
        self.tmux("send-keys", key)

    def resize(self, width: int, height: int) -> None:
        """Make the window another size."""
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, *words: str) -> str:
        """Wait until all of these are on the screen; returns what is."""

        def shown() -> str:
            text = self.text()
            return text if all(word in text for word in words) else ""

        try:
            return until(shown)
        except AssertionError:
            raise AssertionError(f"no {words} in\n{self.text()}") from None

    def children(self) -> list[int]:
        """The processes that the shell has started, and theirs."""
        return below(self.shell)


@contextmanager
def terminal(width: int = 80, height: int = 24) -> Iterator[Terminal]:
    """A terminal that is closed in the end, with all that runs in it."""
    opened = Terminal(width, height)
    try:
        yield opened
    finally:
        with suppress(subprocess.CalledProcessError):  # it ended with its last window
            opened.tmux("kill-server")
