"""A result on its way to a file: refused before the work, announced after it."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from rankscope.errors import UsageError
from rankscope.text import inert


def check_output(path: Path) -> None:
    """Find out before hours of work what would make writing fail.

    Raises:
        UsageError: the suffix names no view, or nothing can be written there.
    """
    from rankscope.views import view_for

    view_for(path)
    check_directory(path)


def check_directory(path: Path) -> None:
    """`UsageError` where a file cannot be written: no such directory, or no permission.

    Nothing is done yet, and nothing lost: `OutputFailed` is for what goes wrong afterwards.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a directory, expected the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}")
    # A file is replaced by renaming another one, which is a matter of its directory.
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: no permission to write in the directory {path.parent}")


def announce(path: Path) -> None:
    """Say on stderr where the result went."""
    typer.echo(f"wrote {inert(str(path))}", err=True)
