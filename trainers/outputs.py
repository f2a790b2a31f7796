"""Where a driver that cannot go on with an earlier run writes."""

from __future__ import annotations

from pathlib import Path

from rankscope.errors import UsageError


def check_fresh(out: Path) -> None:
    """Refuse a directory that holds something.

    Raises:
        UsageError: it does, or is no directory.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; remove it, or choose another --out")
