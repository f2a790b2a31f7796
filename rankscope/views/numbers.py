"""Numbers in few characters, and plurals."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> str:
    """A number in at most seven characters, or a dash; equal magnitudes have equal decimals."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    size = abs(value)
    if 1e5 <= size < 1e7 and (size < 1e6 or float(value).is_integer()):
        return f"{value:.0f}"  # a bound, or a mean of counts
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2g}"
    # Four digits, but no more than four decimals; what rounds up to 1 or 10 has no digit more.
    size = float(f"{size:.3e}")
    decimals = 4 if size < 1 else max(0, 3 - math.floor(math.log10(size)))
    return f"{value:.{decimals}f}"


def counted(count: int) -> str:
    """A number of matrices in words."""
    return f"{count} matri{'x' if count == 1 else 'ces'}"
