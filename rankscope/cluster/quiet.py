"""Nothing that Dask says reaches the user's screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NOISY = ("asyncio", "bokeh", "dask", "dask_jobqueue", "distributed", "tornado")
NOTHING = logging.CRITICAL + 1

# Run by a worker process before its work: what libraries write to stderr themselves ends here.
DEAF_WORKER = "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2)"


@contextmanager
def quiet() -> Iterator[None]:
    """No log line and no warning of Dask and what it stands on, within the context."""
    import distributed  # noqa: F401 - sets its loggers up when it is imported

    before = {logger: logger.level for logger in _loggers()}
    with warnings.catch_warnings():
        for name in NOISY:
            warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
        for logger in before:
            logger.setLevel(NOTHING)
        try:
            yield
        finally:
            for logger, level in before.items():
                logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    """Theirs, with those below that have a level of their own; others take their parent's."""
    names = {*NOISY, *(name for name in logging.root.manager.loggerDict)}
    return [logging.getLogger(name) for name in names if name.partition(".")[0] in NOISY]
