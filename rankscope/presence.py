"""What is at a place: asked of this machine's file system, or of the service behind a URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rankscope.errors import InputRejected
from rankscope.places import RemotePath

if TYPE_CHECKING:
    from rankscope.remote.status import Status

# What is behind URLs is waited for, not computed. A service's own client opens about as many
# connections (botocore's max_pool_connections is 10, aiohttp's limit_per_host none).
REMOTE_THREADS = 16


def exists(path: PurePath) -> bool:
    """Whether something is there.

    Raises:
        InputRejected: the service behind a URL does not say; of this machine that is a no.
    """
    return os.path.exists(path) if isinstance(path, Path) else _status(path) is not None


def stands(path: PurePath) -> bool:
    """Whether something is there that says how to read what lies beside it.

    On this machine a link into nothing counts. Behind a URL it is a file that is handed out:
    neither a page nor what is refused, as `looking.handed_out` tells.
    """
    if isinstance(path, Path):
        return os.path.lexists(path)
    return _told(path, _handed_out) is not None


def stands_alone(path: PurePath) -> bool:
    """Whether nothing can be looked for beside it: a query, or a version, is of one file."""
    return isinstance(path, RemotePath) and bool(path.query)


def is_directory(path: PurePath) -> bool:
    """Whether a directory is there; `InputRejected` as of `exists`."""
    if isinstance(path, Path):
        return os.path.isdir(path)
    found = _status(path)
    return found is not None and found.kind == "directory"


def is_file(path: PurePath) -> bool:
    """Whether a file is there; `InputRejected` as of `exists`."""
    if isinstance(path, Path):
        return os.path.isfile(path)
    found = _status(path)
    return found is not None and found.kind == "file"


def children(directory: PurePath) -> Iterator[PurePath]:
    """What is in a directory, in no order. Raises OSError when it cannot be listed."""
    if isinstance(directory, RemotePath):
        from rankscope.remote.looking import names

        return (directory / name for name in names(directory))
    return Path(directory).iterdir()


def names(directory: PurePath) -> list[str]:
    """The names in a directory, sorted; [] of one that cannot be listed: many a web server's.

    Raises:
        InputRejected: the service behind a URL does not answer.
    """
    try:
        return sorted(child.name for child in children(directory))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    except OSError as error:
        if isinstance(directory, RemotePath):
            raise _not_told(directory, error) from error
        return []


def look_ahead(places: Iterable[PurePath]) -> None:
    """Ask of several URLs at once what is in them: of each alone it is known then, for a while.

    What cannot be listed is told when it is asked for by itself.
    """
    remote = [path for path in places if isinstance(path, RemotePath)]
    if len(remote) < 2:
        return

    def look(path: PurePath) -> None:
        with suppress(InputRejected):
            names(path)

    with ThreadPoolExecutor(REMOTE_THREADS) as pool:
        list(pool.map(look, remote))


def real(path: PurePath | str) -> str:
    """The place itself, links followed: the same for all ways to name it."""
    return path.url if isinstance(path, RemotePath) else os.path.realpath(path)


def look_anew(paths: Iterable[PurePath]) -> None:
    """What names stand for that can be moved is asked again: another analysis of these begins."""
    if any(map(can_move, paths)):
        from rankscope.remote.hub import forget_pins

        forget_pins()


def can_move(path: PurePath) -> bool:
    """Whether its name stands for something that can be moved: a revision of a repository."""
    return isinstance(path, RemotePath) and path.on_hub


def fixed(path: PurePath) -> PurePath:
    """The same place where nothing changes any more, if it has one: a repository at its commit."""
    if isinstance(path, RemotePath) and can_move(path):
        from rankscope.remote.hub import pinned

        return pinned(path)
    return path


def _status(path: PurePath) -> Status | None:
    from rankscope.remote.looking import status

    return _told(path, status)


def _handed_out(path: RemotePath) -> Status | None:
    from rankscope.remote.looking import handed_out

    return handed_out(path)


def _told(path: PurePath, ask: Callable[[RemotePath], Status | None]) -> Status | None:
    if not isinstance(path, RemotePath):  # relative, and of no use without what it is relative to
        raise InputRejected(path, "no place to look at, expected a path or a URL")
    try:
        return ask(path)
    except OSError as error:
        raise _not_told(path, error) from error


def _not_told(path: PurePath, error: OSError) -> InputRejected:
    return InputRejected(path, f"cannot be looked at: {error.strerror or error}")
