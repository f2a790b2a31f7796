"""What `--plot` adds to a table on a terminal: curves in text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rankscope.scene import Scene


def can_sketch() -> bool:
    """Whether stdout is a terminal that shows curves; says on stderr that it is not."""
    from rich.console import Console

    console = Console()
    able = console.is_terminal and not console.is_dumb_terminal
    able = able and console.encoding.startswith("utf")
    if not able:
        typer.echo("--plot: stdout is no terminal that shows UTF-8, nothing is drawn", err=True)
    return able


def sketch(scene: Scene) -> None:
    """Draw the spectra of a model or the rank of a run for the terminal's width."""
    from rich.console import Console

    from rankscope.textplot import text_plot

    console = Console(highlight=False)
    lines = text_plot(scene, console.width)
    if not lines:
        few = "--plot draws a model or a run that was measured; `rankscope plot` draws several runs"
        typer.echo(few, err=True)
        return
    console.print()
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=True)
    sys.stdout.flush()
