"""What is behind a URL: a file or a directory, of what size, in which version."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rankscope.places import VERSION, RemotePath
from rankscope.remote.failures import as_os_error, cause_of, is_passing, is_unreachable, retry_after
from rankscope.remote.filesystem import FRESH_SECONDS, filesystem_of, service_of
from rankscope.remote.links import names_on
from rankscope.remote.patience import PATIENT, Patience
from rankscope.remote.webserver import Told, look, page

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

# How much is remembered for `FRESH_SECONDS`: the files of the largest runs, some MB.
REMEMBERED = 4096

# A file that was changed so recently may change again and tell the same date: HTTP's have seconds,
# and the clock that dates the file may be another machine's than the one that answers.
RACY_SECONDS = 10
# The same by our clock, of a server that does not tell its own: as much as Kerberos lets two clocks
# differ (RFC 4120, 1.6), and Amazon's signatures.
CLOCKS_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Status:
    """What a service tells of a place.

    Attributes:
        kind: what is there.
        size: bytes; -1 of a file whose size a web server does not tell (`webserver.UNKNOWN`).
        mtime_ns: when it was changed, in nanoseconds since 1970; 0 when it is not told.
        tag: what changes with the content: ETag, generation, SHA-256; "" when there is none.
        is_page: whether a web server shows it as an HTML page.
        now_ns: what the service's clock showed then; 0 when it is not told.
        coding: how a web server has compressed it, though it was asked not to; "" when not.
    """

    kind: Literal["file", "directory"]
    size: int = 0
    mtime_ns: int = 0
    tag: str = ""
    is_page: bool = False
    now_ns: int = field(default=0, compare=False)
    coding: str = ""

    @property
    def is_known(self) -> bool:
        """Whether another version would look different: a date alone must not be too recent."""
        if self.tag or not self.mtime_ns:
            return bool(self.tag)
        if self.now_ns:
            return self.now_ns - self.mtime_ns > RACY_SECONDS * 10**9
        return time.time_ns() - self.mtime_ns > CLOCKS_SECONDS * 10**9


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
    if afresh and path.scheme != "hf":  # at a commit, nothing changes
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
        if path.scheme == "hf":  # its listings tell what is there
            raise
        return None
    return None if found is None or found.is_page or found.kind == "directory" else found


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
        return _web_status(fs, path, doubted=doubted) if web else _store_status(fs, path)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise as_os_error(error, path) from cause_of(error, path)


@lru_cache(maxsize=REMEMBERED)
def _names(path: RemotePath, tick: int) -> tuple[str, ...]:  # noqa: ARG001 - as above
    fs = filesystem_of(path)
    web = service_of(path).protocol == "http"
    try:
        return tuple(_web_names(fs, path) if web else _store_names(fs, path))
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


def url_of(path: RemotePath) -> str:
    """What a file system of fsspec calls a place."""
    return _at_commit(path).url


def _store_status(fs: AbstractFileSystem, path: RemotePath) -> Status | None:
    _check_version(path)
    info = _info(fs, path, url_of(path))
    if info["type"] == "directory":
        if path.query:  # what is in it would be of the newest
            raise IsADirectoryError(errno.EISDIR, "a version of a directory, expected of an object")
        return Status("directory")
    return Status("file", int(info["size"]), _mtime(info), _tag(info))


def _info(fs: AbstractFileSystem, path: RemotePath, url: str) -> Mapping[str, Any]:
    if path.scheme != "hf":
        return fs.info(url)  # type: ignore[no-any-return]
    from rankscope.remote.hub import tag
    from rankscope.remote.hubanswers import asked

    info = asked(lambda: fs.info(url))
    return {**info, "ETag": tag(info)}


def _check_version(path: RemotePath) -> None:
    """Refuse what s3fs would take for another object: it cuts every name where a version begins."""
    if path.scheme == "s3" and (path.query == VERSION or VERSION in "/".join(path.parts)):
        raise OSError(errno.EINVAL, f"no version of an object, nor a name to ask for: {VERSION}")


def _store_names(fs: AbstractFileSystem, path: RemotePath) -> list[str]:
    _check_version(path)
    url = url_of(path)
    if path.query or _info(fs, path, url)["type"] != "directory":
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
