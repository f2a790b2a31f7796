"""What comes with an extra of the package, and is asked for before the work that needs it."""

from __future__ import annotations

import importlib.util

from rankscope.errors import UsageError


def needs(task: str, library: str, extra: str) -> None:
    """Go on where a library is installed.

    Args:
        task: what it is needed for, as the beginning of a sentence.
        library: as it is imported.
        extra: of the package, that brings it.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec(library) is None:
        raise UsageError(
            f"{task} needs {library}, which is not installed: pip install 'rankscope[{extra}]'"
        )
