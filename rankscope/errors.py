"""What RankScope raises when it cannot go on.

Every error carries the parts of its message as fields, so that a caller can act on them;
its text is one line: what came, what was expected, what to do next. `exit_code` is what
the command line ends with; `rankscope.cli.app` is the only place that reads it.
"""

from __future__ import annotations

from pathlib import PurePath


class RankScopeError(Exception):
    """The base of every error that RankScope raises on purpose."""

    exit_code = 3


class UsageError(RankScopeError):
    """The question makes no sense: an unknown metric, a threshold out of range."""

    exit_code = 2


class InputRejected(RankScopeError):
    """A file, or one tensor in it, that is not what it claims to be.

    Attributes:
        path: the file or directory.
        tensor: the tensor's name, or None when the whole file is meant.
        reason: what was found and what was expected.
    """

    exit_code = 3

    def __init__(self, path: PurePath | str, reason: str, *, tensor: str | None = None) -> None:
        self.path = str(path)
        self.tensor = tensor
        self.reason = reason
        super().__init__(": ".join(part for part in (self.path, tensor, reason) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries; the default would call __init__ with the joined text.
        return _rebuild_rejected, (self.path, self.reason, self.tensor)


class OutputFailed(RankScopeError):
    """A result that could not be written: disk full, no permission.

    Attributes:
        path: where it should have gone. What was there before is intact.
        reason: what the system said.
    """

    exit_code = 4

    def __init__(self, path: PurePath | str, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{path}: not written: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return OutputFailed, (self.path, self.reason)


def _rebuild_rejected(path: str, reason: str, tensor: str | None) -> InputRejected:
    return InputRejected(path, reason, tensor=tensor)
