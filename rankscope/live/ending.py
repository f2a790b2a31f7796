"""How a command that runs until it is told to stop is told: Ctrl-C, SIGTERM, a terminal that goes.

All three become a `KeyboardInterrupt` in the main thread, so that whatever is at work is unwound
as it is on Ctrl-C: worker processes are ended, and what was finished is kept.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

# Windows has no SIGHUP.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Ending:
    """While it is entered, the signals that end a program raise `KeyboardInterrupt`.

    What was ignored before is ignored on: SIGHUP under `nohup`, Ctrl-C in a shell's background.

    Attributes:
        number: the first of them that came; None while none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}
        self._closing = False

    @property
    def exit_code(self) -> int:
        """What to end with: 0 after Ctrl-C, which is how one leaves; else 128 + the signal."""
        return 0 if self.number in (signal.SIGINT, None) else 128 + self.number

    def check(self) -> None:
        """Raise where a signal's `KeyboardInterrupt` came to nothing, as it does in `__del__`."""
        if self.number is not None:
            raise KeyboardInterrupt

    def close(self) -> None:
        """From now on let nothing come in between: the terminal is being restored."""
        self._closing = True

    def __enter__(self) -> Self:
        for number in ENDING:
            self._before[number] = signal.getsignal(number)
            # SIGINT in any case: the others are turned into it.
            if number == signal.SIGINT or self._before[number] is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: not set from Python, and not to be set again from it
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        deaf = self._before[signal.SIGINT] is signal.SIG_IGN and self.number is None
        if self._closing or (number == signal.SIGINT and deaf):
            return
        self.number = number if self.number is None else self.number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # As SIGINT, because that is held back while worker processes start.
        signal.raise_signal(signal.SIGINT)
