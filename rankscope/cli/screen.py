"""Printing to whatever stdout is, and to stderr what stdout does not carry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from rankscope.cli.options import INCOMPLETE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rankscope.views.remarks import Remark

WIDE = 1000  # columns; more than any table needs


def show(render: Callable[[int], RenderableType]) -> None:
    """Print what `render` makes of a width: the terminal's, or any when nobody's width counts."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(render(console.width))
    sys.stdout.flush()


def complain(remarks: Iterable[Remark], *, told: bool) -> None:
    """Say on stderr that something is lacking: what, unless stdout has told it."""
    if not told:
        for remark in remarks:
            if remark.lacking:
                typer.echo(remark.text, err=True)
    typer.echo(f"incomplete: not everything could be measured (exit code {INCOMPLETE})", err=True)
