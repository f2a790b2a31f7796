"""Printing to whatever stdout is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDE = 1000  # columns; more than any table needs


def show(render: Callable[[int], RenderableType]) -> None:
    """Print what `render` makes of a width: the terminal's, or any when nobody's width counts."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(render(console.width))
    sys.stdout.flush()
