"""What is behind a URL: a file or a directory, of what size, in which version."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rankscope.places import RemotePath
from rankscope.remote.failures import as_os_error, is_passing, is_unreachable, retry_after
from rankscope.remote.filesystem import FRESH_SECONDS, filesystem_of, service_of
from rankscope.remote.links import names_on
from rankscope.remote.patience import PATIENT, Patience
from rankscope.remote.webserver import Told, look, page

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

# How much is remembered for `FRESH_SECONDS`: the files of the largest runs, some MB.
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Status:
    """What a service tells of a place.

    Attributes:
        kind: what is there.
        size: bytes; -1 of a file whose size a web server does not tell (`webserver.UNKNOWN`).
        mtime_ns: when it was changed, in nanoseconds since 1970; 0 when it is not told.
        tag: what changes with the content: ETag, generation, SHA-256; "" when there is none.
    """

    kind: Literal["file", "directory"]
    size: int = 0
    mtime_ns: int = 0
    tag: str = ""


def status(path: RemotePath) -> Status | None:
    """What is behind a URL, as of at most `FRESH_SECONDS` ago; None when nothing is.

    Raises:
        UsageError: nobody knows the scheme, or its library is not installed.
        OSError: the service does not tell; `strerror` is one line.
    """
    return _status(_at_commit(path), _tick())


def names(path: RemotePath) -> list[str]:
    """The names of what is in a directory, sorted, as of at most `FRESH_SECONDS` ago.

    Raises:
        UsageError: as of `status`.
        OSError: it is none, or cannot be listed; `strerror` is one line.
    """
    return list(_names(_at_commit(path), _tick()))


def _at_commit(path: RemotePath) -> RemotePath:
    """Where to look: a repository of the hub at one commit for all of an analysis."""
    if path.scheme != "hf":
        return path
    from rankscope.remote.hub import pinned

    return pinned(path)


def _tick() -> int:
    return int(time.monotonic() / FRESH_SECONDS)


@lru_cache(maxsize=REMEMBERED)
def _status(path: RemotePath, tick: int) -> Status | None:  # noqa: ARG001 - what it knows grows old
    fs = filesystem_of(path)
    web = service_of(path).protocol == "http"
    try:
        return _web_status(fs, path) if web else _store_status(fs, path)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise as_os_error(error, path) from error


@lru_cache(maxsize=REMEMBERED)
def _names(path: RemotePath, tick: int) -> tuple[str, ...]:  # noqa: ARG001 - as above
    fs = filesystem_of(path)
    web = service_of(path).protocol == "http"
    try:
        return tuple(_web_names(fs, path) if web else _store_names(fs, path))
    except Exception as error:
        raise as_os_error(error, path) from error


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


def web_told(fs: AbstractFileSystem, path: RemotePath) -> Told | None:
    """What a web server tells of a URL."""
    from fsspec.asyn import sync

    def ask() -> Told | None:
        return sync(fs.loop, look, fs, str(path), PATIENT)  # type: ignore[no-any-return]

    return patiently(ask)


def _web_page(fs: AbstractFileSystem, url: str) -> list[str] | None:
    """The names on a page of links; None of what is no such page."""
    from fsspec.asyn import sync

    def ask() -> tuple[str, str] | None:
        return sync(fs.loop, page, fs, url, PATIENT)  # type: ignore[no-any-return]

    found = patiently(ask)
    return None if found is None else names_on(*found)


def _web_status(fs: AbstractFileSystem, path: RemotePath) -> Status | None:
    found = web_told(fs, path)
    if found is None:
        return None
    if found.is_page and _web_page(fs, str(path)):
        return Status("directory", 0, found.modified, found.tag)
    return Status("file", found.size, found.modified, found.tag)


def _web_names(fs: AbstractFileSystem, path: RemotePath) -> list[str]:
    found = _web_page(fs, str(path))
    if found is None:
        raise NotADirectoryError("no page of links, which is how web servers list a directory")
    return found


def url_of(path: RemotePath) -> str:
    """What a file system of fsspec calls a place."""
    return str(_at_commit(path))


def _store_status(fs: AbstractFileSystem, path: RemotePath) -> Status | None:
    info = _info(fs, path, url_of(path))
    if info["type"] == "directory":
        return Status("directory")
    return Status("file", int(info["size"]), _mtime(info), _tag(info))


def _info(fs: AbstractFileSystem, path: RemotePath, url: str) -> Mapping[str, Any]:
    if path.scheme != "hf":
        return fs.info(url)  # type: ignore[no-any-return]
    from rankscope.remote.hub import tag
    from rankscope.remote.hubanswers import asked

    info = asked(lambda: fs.info(url))
    return {**info, "ETag": tag(info)}


def _store_names(fs: AbstractFileSystem, path: RemotePath) -> list[str]:
    url = url_of(path)
    if _info(fs, path, url)["type"] != "directory":
        raise NotADirectoryError("a file, expected a directory")
    own = fs._strip_protocol(url).rstrip("/")
    listed = [str(entry["name"]).rstrip("/") for entry in fs.ls(url, detail=True)]
    last = {name.rpartition("/")[2] for name in listed if name != own}
    return sorted(last - {"", ".", ".."})


def _mtime(info: Mapping[str, Any]) -> int:
    when = info.get("LastModified") or info.get("mtime")  # s3fs, gcsfs
    if not isinstance(when, datetime):
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000) * 10**6  # both tell milliseconds at most


def _tag(info: Mapping[str, Any]) -> str:
    return str(info.get("generation") or info.get("ETag") or "").strip('"')
