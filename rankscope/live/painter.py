"""Pictures drawn on a terminal, from a thread: it goes on while a large matrix is decomposed."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

from rich.console import Console, RenderableType
from rich.live import Live

from rankscope.live.echo import Echo
from rankscope.live.picture import Picture
from rankscope.live.screen import Screen, drawn, progress

# How often it looks whether there is something to draw: a window that is resized is drawn anew
# within this time.
LOOK_SECONDS = 0.25

PROMPT = 2  # lines that a shell writes below the last picture

FALLBACK = os.terminal_size((80, 24))  # of a terminal that tells no size


class Painter:
    """Draws the last picture it was shown, whenever that, the time or the window has changed.

    The terminal's other screen is used, as an editor does: what is drawn fits the window, also
    after it was resized. The last picture stays on the first screen.

    Attributes:
        newest_first: in which order snapshots are wanted.
    """

    newest_first = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._blocks = not console.options.ascii_only
        self._picture: Picture | None = None
        self._failure: BaseException | None = None
        self._live: Live | None = None
        self._echo = Echo()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._stoppable = False

    def show(self, picture: Picture) -> None:
        """Have a picture drawn soon."""
        self._picture = picture

    def check(self) -> None:
        """Raise what drawing has failed with.

        Raises:
            BrokenPipeError: the terminal is gone.
        """
        if isinstance(self._failure, OSError):
            raise BrokenPipeError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure

    def start(self) -> None:
        """Take the terminal."""
        self._begin()
        # Windows has none; where it is ignored, nobody could wake this process again.
        number = getattr(signal, "SIGTSTP", None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, self._suspend)
            self._stoppable = True

    def stop(self) -> None:
        """Give the terminal back as it was, the last picture on it; also when not all was taken."""
        if self._stoppable:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            self._stoppable = False
        self._end()
        if self._picture is not None and self._picture.found.matrices:
            with suppress(OSError):
                self._console.print(self._render(PROMPT))

    def _begin(self) -> None:
        self._stopping.clear()
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._render,
        )
        self._thread = threading.Thread(target=self._draw, name="painter", daemon=True)
        self._echo.off()
        with suppress(OSError):
            self._live.start()
        self._thread.start()

    def _end(self) -> None:
        self._stopping.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        if self._live is not None:
            with suppress(OSError):  # a terminal that is gone
                self._live.stop()
        self._echo.restore()

    def _suspend(self, number: int, _: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its screen back until this process goes on."""
        self._end()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self._suspend)
        self._begin()

    def _draw(self) -> None:
        last: tuple[Picture | None, object] = (None, None)
        try:
            while not self._stopping.wait(LOOK_SECONDS):
                picture, size = self._picture, _window()
                around = (size, progress(picture, time.time())) if picture else None
                if picture is not last[0] or around != last[1]:
                    last = (picture, around)
                    self._console.size = size
                    self._refresh()
        except BaseException as error:
            self._failure = error

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def _render(self, without: int = 0) -> RenderableType:
        """The picture for the window, or for one that is so many lines lower."""
        if self._picture is None:
            return ""
        screen = Screen(self._console.width, self._console.height - without, self._blocks)
        return drawn(self._picture, screen, time.time())


def _window() -> os.terminal_size:
    """The size of the terminal now."""
    try:
        size = os.get_terminal_size(1)
    except OSError:
        return FALLBACK
    return size if size.columns and size.lines else FALLBACK
