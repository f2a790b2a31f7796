"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rankscope.errors import OutputFailed

# What `_temporary` makes.
TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` whole, or not at all.

    Written beside its final place, flushed to the disk, renamed; the directory is flushed
    too. When anything fails the old file stays and `OutputFailed` is raised.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        with open(temporary, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        commit(temporary, target)
    except OSError as error:
        raise OutputFailed(target, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Like `atomic_write`, for a library that wants a path to write a file at.

    The path lies in a temporary directory of its own beside the final place, because a library
    may write under yet another name first (safetensors does) and leave that behind when killed.
    """
    target = Path(path)
    directory = _temporary(target)
    inner = directory / target.name
    try:
        directory.mkdir()
        # The permissions of any new file; a library's own may be for its owner only.
        inner.touch(exist_ok=False)
        mode = stat.S_IMODE(inner.stat().st_mode)
        yield inner
        inner.chmod(mode)
        _flush(inner)
        commit(inner, target)
    except OSError as error:
        raise OutputFailed(target, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_temporaries(directory: Path) -> None:
    """Remove what killed writers left; only where no writer can be at work."""
    for child in directory.iterdir():
        if TEMPORARY.fullmatch(child.name) is None:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    # Not tempfile: its files are readable by their owner only, and would stay so.
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(temporary: Path, final: Path) -> None:
    """Rename a file that is already flushed to its final name, and make the name last."""
    os.replace(temporary, final)
    if os.name == "posix":
        # Without this the rename itself may be lost when the machine goes down.
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
