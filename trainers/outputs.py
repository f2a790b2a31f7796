"""Where a driver that cannot go on with an earlier run writes, and how it ends if it diverges."""

from __future__ import annotations

from pathlib import Path

from rankscope.errors import RankScopeError, UsageError

# The help of --out.
FRESH = "the run directory to write, new or empty: an interrupted run cannot be gone on with"


class Diverged(RankScopeError):
    """Training is beyond what numbers can hold; the run is kept as far as it came."""

    exit_code = 4


def check_fresh(out: Path) -> None:
    """Refuse a directory that holds something.

    Raises:
        UsageError: it does, or is no directory.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; remove it, or choose another --out")
