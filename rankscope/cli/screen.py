"""Printing to whatever stdout is, and to stderr what stdout does not carry."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rankscope.cli.options import INCOMPLETE
from rankscope.cli.output import announce
from rankscope.text import inert

if TYPE_CHECKING:
    from rankscope.views.report import Remark, Report

WIDE = 1000  # columns; more than any table needs


def present(report: Report, *, as_json: bool, output: Path | None, everything: bool) -> None:
    """Write the file that was asked for; print the document, or the tables unless they went there.

    Raises:
        UsageError: no view has the file's suffix.
        OutputFailed: it could not be written.
    """
    if output is not None:
        from rankscope.views import save

        save(report, output)
        announce(output)
    if as_json:
        from rankscope.views import document

        sys.stdout.write(document.render(report))
        sys.stdout.flush()
    elif output is None:
        show(report, everything=everything)


def show(report: Report, *, everything: bool) -> None:
    """Print for the terminal's width, or for any when nobody's width counts."""
    from rich.console import Console

    from rankscope.views import terminal

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(terminal.renderable(report, console.width, everything=everything))
    sys.stdout.flush()


def complain(remarks: Iterable[Remark], *, told: bool) -> None:
    """Say on stderr that something is lacking: what, unless stdout has told it."""
    if not told:
        for remark in remarks:
            if remark.lacking:
                typer.echo(inert(remark.text), err=True)
    typer.echo(f"incomplete: not everything could be measured (exit code {INCOMPLETE})", err=True)
