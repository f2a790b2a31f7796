"""What is behind a URL: a file or a directory, of what size, in which version."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.failures import as_os_error, cause_of, is_passing, is_unreachable, retry_after
from rankscope.remote.filesystem import FRESH_SECONDS, filesystem_of, service_of
from rankscope.remote.links import names_on
from rankscope.remote.objectstore import object_names, object_status
from rankscope.remote.patience import PATIENT, Patience
from rankscope.remote.status import Status
from rankscope.remote.webserver import Told, look, page

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

# How much is remembered for `FRESH_SECONDS`: the files of the largest runs, some MB.
REMEMBERED = 4096


def status(path: RemotePath, *, afresh: bool = False) -> Status | None:
    """What is behind a URL, as of at most `FRESH_SECONDS` ago; None when nothing is.

    Args:
        path: the URL.
        afresh: ask now, whatever was seen shortly before.

    Raises:
        UsageError: nobody knows the scheme, or its library is not installed.
        OSError: the service does not tell; `strerror` is one line.
    """
    where = _at_commit(path)
    if afresh and not path.on_hub:  # at a commit, nothing changes
        filesystem_of(where).invalidate_cache(where.url)
        return _asked(where)
    return _status(where, _tick())


def handed_out(path: RemotePath) -> Status | None:
    """The same of a file that need not be there: None also of what the service does not hand out.

    Beside a signed URL everything is refused, and so is what does not exist in a bucket that may
    not be listed; some web servers answer with a page for whatever they do not have.
    """
    try:
        # It is likely not to be there: what HEAD tells will do.
        found = _status(_at_commit(path), _tick(), doubted=False)
    except PermissionError:
        if path.on_hub:  # its listings tell what is there
            raise
        return None
    return None if found is None or found.is_page or found.kind == "directory" else found


def file_status(path: RemotePath, doing: str) -> Status:
    """The same of what has to be a file.

    Raises:
        UsageError: as of `status`.
        InputRejected: it is none; the reason begins with `doing` where it cannot be told.
    """
    try:
        found = status(path)
    except OSError as error:
        raise InputRejected(path, f"{doing}: {error.strerror}") from error
    if found is None:
        raise InputRejected(path, f"{doing}: {os.strerror(errno.ENOENT)}")
    if found.kind != "file":
        raise InputRejected(path, "not a regular file")
    return found


def names(path: RemotePath) -> list[str]:
    """The names of what is in a directory, sorted, as of at most `FRESH_SECONDS` ago.

    Raises:
        UsageError: as of `status`.
        OSError: it is none, or cannot be listed; `strerror` is one line.
    """
    return list(_names(_at_commit(path), _tick()))


def url_of(path: RemotePath) -> str:
    """What a file system of fsspec calls a place."""
    return _at_commit(path).url


def _at_commit(path: RemotePath) -> RemotePath:
    """Where to look: a repository of the hub at one commit for all of an analysis."""
    if not path.on_hub:
        return path
    service_of(path)  # a password in it is refused before it is taken apart
    from rankscope.remote.hub import pinned

    return pinned(path)


def _tick() -> int:
    return int(time.monotonic() / FRESH_SECONDS)


@lru_cache(maxsize=REMEMBERED)
def _status(
    path: RemotePath,
    tick: int,  # noqa: ARG001 - what it knows grows old
    *,
    doubted: bool = True,
) -> Status | None:
    return _asked(path, doubted=doubted)


def _asked(path: RemotePath, *, doubted: bool = True) -> Status | None:
    fs = filesystem_of(path)
    web = service_of(path).protocol == "http"
    try:
        return _web_status(fs, path, doubted=doubted) if web else object_status(fs, path)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise as_os_error(error, path) from cause_of(error, path)


@lru_cache(maxsize=REMEMBERED)
def _names(path: RemotePath, tick: int) -> tuple[str, ...]:  # noqa: ARG001 - as above
    fs = filesystem_of(path)
    web = service_of(path).protocol == "http"
    try:
        return tuple(_web_names(fs, path) if web else object_names(fs, path))
    except Exception as error:
        raise as_os_error(error, path) from cause_of(error, path)


def patiently(ask: Callable[[], Answer], patience: Patience = PATIENT) -> Answer:
    """What a request answers, asked again while it is refused for reasons that pass."""
    for wait in patience.waits():
        try:
            return ask()
        except Exception as error:
            # A server that is not there at all is a mistyped name more often than a restart.
            if not is_passing(error) or is_unreachable(error):
                raise
            time.sleep(min(max(wait, retry_after(error)), patience.longest_wait))
    return ask()


def web_told(fs: AbstractFileSystem, path: RemotePath, *, doubted: bool = True) -> Told | None:
    """What a web server tells of a URL; `doubted` as of `webserver.look`."""
    from fsspec.asyn import sync

    def ask() -> Told | None:
        found: Told | None = sync(fs.loop, look, fs, path.url, PATIENT, doubted=doubted)
        return found

    return patiently(ask)


def _web_page(fs: AbstractFileSystem, url: str) -> list[str] | None:
    """The names on a page of links; None of what is no such page."""
    from fsspec.asyn import sync

    def ask() -> tuple[str, str] | None:
        return sync(fs.loop, page, fs, url, PATIENT)  # type: ignore[no-any-return]

    found = patiently(ask)
    return None if found is None else names_on(*found)


def _web_status(fs: AbstractFileSystem, path: RemotePath, *, doubted: bool) -> Status | None:
    found = web_told(fs, path, doubted=doubted)
    if found is None:
        return None
    if found.is_page and _web_page(fs, path.url):
        return Status("directory", 0, found.modified, found.tag)
    return Status(
        "file", found.size, found.modified, found.tag, found.is_page, found.now, found.coding
    )


def _web_names(fs: AbstractFileSystem, path: RemotePath) -> list[str]:
    found = _web_page(fs, path.url)
    if found is None:
        raise NotADirectoryError("no page of links, which is how web servers list a directory")
    return found
